package server

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/raftfsm"
)

// peerService answers the other members.
type peerService struct{ *Server }

// Hello tells a server that is, or may become, a member who this one is.
func (p peerService) Hello(_ context.Context, req *connect.Request[dmtv1.HelloRequest]) (*connect.Response[dmtv1.HelloResponse], error) {
	m := req.Msg
	if n := len(m.GetJoinList()); n > maxJoinList {
		return nil, api.Error(connect.CodeInvalidArgument, detailOf(api.ReasonTooManyEntries, "join_list", fmt.Sprint(maxJoinList)), "join_list: %d addresses", n)
	}
	h := p.node.HandleHello(raftfsm.Hello{
		ID: m.GetId(), UUID: m.GetUuid(), Address: m.GetAddress(), ClusterID: m.GetClusterId(), Empty: m.GetEmpty(),
		JoinList: m.GetJoinList(), BootstrapExpect: int(m.GetBootstrapExpect()), Precision: int(m.GetPrecision()),
	})
	return connect.NewResponse(&dmtv1.HelloResponse{
		Id: h.ID, Uuid: h.UUID, Address: h.Address, ClusterId: h.ClusterID, Empty: h.Empty, LeaderAddress: h.LeaderAddress,
		JoinList: h.JoinList, BootstrapExpect: uint32(h.BootstrapExpect), Precision: uint32(h.Precision),
	}), nil
}

// maxJoinList bounds the members that a cluster may be formed of.
const maxJoinList = 64

// Heartbeat answers the leader of the same cluster.
func (p peerService) Heartbeat(_ context.Context, req *connect.Request[dmtv1.HeartbeatRequest]) (*connect.Response[dmtv1.HeartbeatResponse], error) {
	if err := p.checkCluster(req.Msg.GetClusterId()); err != nil {
		return nil, err
	}
	h := p.node.HandleHeartbeat()
	return connect.NewResponse(&dmtv1.HeartbeatResponse{
		Id: h.ID, WallMs: h.WallMs, FreeDiskBytes: h.FreeDiskBytes, AppliedIndex: h.AppliedIndex, Version: h.Version,
	}), nil
}

// ReadIndex says which index a linearizable read must reach. Only the leader
// knows; the question is never passed on.
func (p peerService) ReadIndex(ctx context.Context, req *connect.Request[dmtv1.ReadIndexRequest]) (*connect.Response[dmtv1.ReadIndexResponse], error) {
	if err := p.checkCluster(req.Msg.GetClusterId()); err != nil {
		return nil, err
	}
	r, err := p.node.ReadIndex(ctx)
	if err != nil {
		return nil, p.connectError(err)
	}
	return connect.NewResponse(&dmtv1.ReadIndexResponse{Index: r.Index, Term: r.Term, LeaderId: r.LeaderID, ClockMs: r.ClockMs}), nil
}

// checkCluster refuses a member of another cluster, with both ids.
func (p peerService) checkCluster(theirs string) error {
	ours := p.node.ClusterID()
	if theirs == ours {
		return nil
	}
	return p.connectError(&raftfsm.ClusterIDError{Ours: ours, Theirs: theirs})
}
