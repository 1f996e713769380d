package client

import (
	"context"
	"time"

	"connectrpc.com/connect"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

// Status is the cluster as one member sees it.
type Status struct {
	ClusterID     string `json:"cluster_id"` // empty while the cluster has not formed
	ID            string `json:"id"`         // of the member that answered
	Address       string `json:"address"`
	LeaderID      string `json:"leader_id"` // empty while there is no leader
	LeaderAddress string `json:"leader_address"`
	Term          uint64 `json:"term,string"`
	AppliedIndex  uint64 `json:"applied_index,string"`
	CommitIndex   uint64 `json:"commit_index,string"`

	Clock     time.Time `json:"clock"` // log clock
	Precision int       `json:"precision"`
	Tiers     []Tier    `json:"tiers"`   // finest first
	Members   []Member  `json:"members"` // sorted by id
	Alarms    []string  `json:"alarms"`  // what an operator should look at

	DataBytes int64  `json:"data_bytes,string"` // size of the database file
	HeadBytes int64  `json:"head_bytes,string"` // of the state in memory
	Version   string `json:"version"`
}

// Tier is a bucket width with its retention, as the command line writes them;
// an empty duration keeps for ever.
type Tier struct {
	Width     string `json:"width"`
	KeepNode  string `json:"keep_node"`
	KeepFleet string `json:"keep_fleet"`
}

// Member is one member of a cluster.
type Member struct {
	ID            string        `json:"id"`
	Address       string        `json:"address"`
	Voter         bool          `json:"voter"`
	Leader        bool          `json:"leader"`
	AppliedIndex  uint64        `json:"applied_index,string"`
	Reachable     bool          `json:"reachable"`
	FreeDiskBytes int64         `json:"free_disk_bytes,string"`
	ClockSkew     time.Duration `json:"clock_skew_ns"` // its wall clock minus the log clock
	Version       string        `json:"version"`
}

// JoinRequest names a server that shall become a member.
type JoinRequest struct {
	ID        string
	Address   string
	UUID      string // of its data directory
	ClusterID string // the cluster meant; empty accepts any
	Precision int    // 0 accepts the cluster's
	Voter     bool
}

// JoinReply describes the cluster joined.
type JoinReply struct {
	ClusterID string
	Precision int
	Members   []Member
}

// Status describes the cluster as the member that answers sees it.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	r, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.StatusResponse], error) {
		return m.Status(ctx, connect.NewRequest(&dmtv1.StatusRequest{}))
	})
	if err != nil {
		return nil, err
	}
	s := &Status{
		ClusterID: r.GetClusterId(), ID: r.GetId(), Address: r.GetAddress(),
		LeaderID: r.GetLeaderId(), LeaderAddress: r.GetLeaderAddress(),
		Term: r.GetTerm(), AppliedIndex: r.GetAppliedIndex(), CommitIndex: r.GetCommitIndex(),
		Clock: r.GetClock().AsTime(), Precision: int(r.GetPrecision()),
		Tiers: make([]Tier, 0, len(r.GetTiers())), Members: membersFrom(r.GetMembers()),
		Alarms:    append([]string{}, r.GetAlarms()...),
		DataBytes: r.GetDataBytes(), HeadBytes: r.GetHeadBytes(), Version: r.GetVersion(),
	}
	for _, t := range r.GetTiers() {
		s.Tiers = append(s.Tiers, Tier{Width: t.GetWidth(), KeepNode: t.GetKeepNode(), KeepFleet: t.GetKeepFleet()})
	}
	return s, nil
}

func membersFrom(list []*dmtv1.Member) []Member {
	members := make([]Member, len(list))
	for i, m := range list {
		members[i] = Member{
			ID: m.GetId(), Address: m.GetAddress(), Voter: m.GetVoter(), Leader: m.GetLeader(),
			AppliedIndex: m.GetAppliedIndex(), Reachable: m.GetReachable(), FreeDiskBytes: m.GetFreeDiskBytes(),
			ClockSkew: time.Duration(m.GetClockSkewMs()) * time.Millisecond, Version: m.GetVersion(),
		}
	}
	return members
}

// Join makes a running server a member. To repeat it is harmless.
func (c *Client) Join(ctx context.Context, j JoinRequest) (*JoinReply, error) {
	if j.Precision < 0 || j.Precision > 255 {
		return nil, &RefusedError{Reason: window.ReasonRange, Field: "precision", Message: "is out of range"}
	}
	request := &dmtv1.JoinRequest{Id: j.ID, Address: j.Address, Uuid: j.UUID,
		ClusterId: j.ClusterID, Precision: uint32(j.Precision), Voter: j.Voter}
	r, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.JoinResponse], error) {
		return m.Join(ctx, connect.NewRequest(request))
	})
	if err != nil {
		return nil, err
	}
	return &JoinReply{ClusterID: r.GetClusterId(), Precision: int(r.GetPrecision()), Members: membersFrom(r.GetMembers())}, nil
}

// Remove takes a member out of the cluster.
func (c *Client) Remove(ctx context.Context, id string) error {
	_, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.RemoveResponse], error) {
		return m.Remove(ctx, connect.NewRequest(&dmtv1.RemoveRequest{Id: id}))
	})
	return err
}

// Transfer hands leadership to a member, or to one that the leader chooses when
// id is empty, and returns the id of the new leader.
func (c *Client) Transfer(ctx context.Context, id string) (string, error) {
	r, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.TransferResponse], error) {
		return m.Transfer(ctx, connect.NewRequest(&dmtv1.TransferRequest{Id: id}))
	})
	return r.GetLeaderId(), err
}
