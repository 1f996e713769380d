package server

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/window"
)

// askLeaderFor bounds how long Status waits for what the leader knows.
const askLeaderFor = time.Second

// Status describes the answering member, and the cluster as its leader sees
// it, which alone hears from every member. While there is no leader, or it
// does not answer, the other members are shown as this one knows them. It
// never waits for an election: it is what people look at during one.
func (s *Server) Status(ctx context.Context, req *connect.Request[dmtv1.StatusRequest]) (*connect.Response[dmtv1.StatusResponse], error) {
	res := s.status()
	view := s.leaders.view()
	if req.Header().Get(forwardedHeader) != "" || view.address == "" || view.address == s.advertise {
		return connect.NewResponse(res), nil
	}
	client, err := s.peers.tracker(view.address)
	if err != nil {
		return nil, s.connectError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, askLeaderFor)
	defer cancel()
	onward := connect.NewRequest(&dmtv1.StatusRequest{})
	onward.Header().Set(forwardedHeader, s.node.ID())
	if known, err := client.Status(ctx, onward); err == nil { // else: see above
		res.Members = known.Msg.GetMembers()
		res.Alarms = known.Msg.GetAlarms()
	}
	return connect.NewResponse(res), nil
}

// status is what this member knows by itself.
func (s *Server) status() *dmtv1.StatusResponse {
	st := s.node.Status()
	return &dmtv1.StatusResponse{
		ClusterId: st.ClusterID, Id: st.ID, Address: st.Address,
		LeaderId: st.LeaderID, LeaderAddress: st.LeaderAddress,
		Term: st.Term, AppliedIndex: st.AppliedIndex, CommitIndex: st.CommitIndex, Clock: clockToProto(st.ClockMs),
		Precision: uint32(st.Precision), Tiers: tiersToProto(st.Tiers), Members: membersToProto(st.Members),
		Alarms: st.Alarms, DataBytes: st.DataBytes, HeadBytes: st.HeadBytes, Version: s.version,
	}
}

// Join makes a server a member, or tells one that it already is. An id that
// is registered with another data directory is refused.
func (s *Server) Join(ctx context.Context, req *connect.Request[dmtv1.JoinRequest]) (*connect.Response[dmtv1.JoinResponse], error) {
	return atLeader(ctx, s, req, func(ctx context.Context, j *dmtv1.JoinRequest) (*dmtv1.JoinResponse, error) {
		reply, err := s.node.HandleJoin(ctx, raftfsm.Join{
			ID: j.GetId(), UUID: j.GetUuid(), Address: j.GetAddress(), ClusterID: j.GetClusterId(), Precision: int(j.GetPrecision()),
		})
		if err != nil {
			return nil, err
		}
		return &dmtv1.JoinResponse{ClusterId: reply.ClusterID, Precision: uint32(reply.Precision), Members: membersToProto(reply.Members)}, nil
	}, dmtv1connect.TrackerClient.Join)
}

// Remove takes a member out of the cluster.
func (s *Server) Remove(ctx context.Context, req *connect.Request[dmtv1.RemoveRequest]) (*connect.Response[dmtv1.RemoveResponse], error) {
	return atLeader(ctx, s, req, func(ctx context.Context, r *dmtv1.RemoveRequest) (*dmtv1.RemoveResponse, error) {
		if err := checkID(r.GetId()); err != nil {
			return nil, err
		}
		if err := s.node.Remove(ctx, r.GetId()); err != nil {
			return nil, err
		}
		return &dmtv1.RemoveResponse{}, nil
	}, dmtv1connect.TrackerClient.Remove)
}

// Transfer hands leadership to a member, or to any other.
func (s *Server) Transfer(ctx context.Context, req *connect.Request[dmtv1.TransferRequest]) (*connect.Response[dmtv1.TransferResponse], error) {
	return atLeader(ctx, s, req, func(ctx context.Context, r *dmtv1.TransferRequest) (*dmtv1.TransferResponse, error) {
		if id := r.GetId(); id != "" {
			if err := checkID(id); err != nil {
				return nil, err
			}
		}
		if err := s.node.Transfer(ctx, r.GetId()); err != nil {
			return nil, err
		}
		return &dmtv1.TransferResponse{LeaderId: s.nextLeader(ctx, r.GetId())}, nil
	}, dmtv1connect.TrackerClient.Transfer)
}

// nextLeader is who leads after this member has handed over, empty when that
// does not show in time. The transfer is done either way.
func (s *Server) nextLeader(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, askLeaderFor)
	defer cancel()
	for {
		v := s.leaders.view()
		// A member that has just been handed leadership by name may still see
		// the one before.
		if v.id != "" && (v.id == id || id == "" && v.id != s.node.ID()) {
			return v.id
		}
		select {
		case <-v.changed.Done():
		case <-ctx.Done():
			return ""
		}
	}
}

// checkID refuses what cannot be the id of a member.
func checkID(id string) error {
	// Members are named by the rules that nodes are named by.
	return window.InField(window.CheckNode(id), "id")
}

func membersToProto(members []raftfsm.Member) []*dmtv1.Member {
	out := make([]*dmtv1.Member, len(members))
	for i, m := range members {
		out[i] = &dmtv1.Member{
			Id: m.ID, Address: m.Address, Voter: m.Voter, Leader: m.Leader,
			AppliedIndex: m.AppliedIndex, Reachable: m.Reachable, FreeDiskBytes: m.FreeDiskBytes,
			ClockSkewMs: m.ClockSkewMs, Version: m.Version,
		}
	}
	return out
}

// tiersToProto writes tiers as the command line does; for ever is empty.
func tiersToProto(tiers window.Tiers) []*dmtv1.Tier {
	keep := func(seconds int64) string {
		if seconds == 0 {
			return ""
		}
		return window.Width(seconds).String()
	}
	out := make([]*dmtv1.Tier, len(tiers))
	for i, t := range tiers {
		out[i] = &dmtv1.Tier{Width: t.Width.String(), KeepNode: keep(t.KeepNode), KeepFleet: keep(t.KeepFleet)}
	}
	return out
}

func clockToProto(ms int64) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: ms / 1000, Nanos: int32(ms % 1000 * 1e6)}
}
