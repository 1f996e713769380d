package raftfsm

import "context"

// Peers is how a member asks others outside the Raft stream. The server
// implements it over its API, tests in memory. Every method is safe for
// concurrent use and returns when ctx ends.
type Peers interface {
	Hello(ctx context.Context, addr string, me Hello) (Hello, error)
	Heartbeat(ctx context.Context, addr string) (Heartbeat, error)
	ReadIndex(ctx context.Context, addr string) (ReadIndex, error)
	Join(ctx context.Context, addr string, j Join) (JoinReply, error)
}

// Hello is what a member says of itself, before there is a cluster too.
type Hello struct {
	ID, UUID, Address string

	// ClusterID is empty while the member knows no cluster.
	ClusterID string

	// Empty says that the directory holds no cluster yet: no log, no state and
	// no promise to join one.
	Empty bool

	// LeaderAddress is empty while no leader is known.
	LeaderAddress string

	// JoinList, BootstrapExpect and Precision are how the member was started.
	JoinList        []string
	BootstrapExpect int
	Precision       int
}

// Heartbeat is a member's answer to its leader, every two seconds.
type Heartbeat struct {
	ID            string
	WallMs        int64 // the member's wall clock, unix milliseconds
	FreeDiskBytes int64 // of the file system of its directory; -1 when unknown
	AppliedIndex  uint64
	Version       string
}

// ReadIndex is a promise of the leader: a member that has applied Index sees
// every write acknowledged before the question was asked.
type ReadIndex struct {
	Index, Term uint64
	LeaderID    string
	ClockMs     int64 // log clock of the leader
}

// Join asks the leader to make a member of the sender.
type Join struct {
	ID, UUID, Address string

	// ClusterID is the cluster that is meant, empty for any.
	ClusterID string

	// Precision is 0 for any.
	Precision int
}

// JoinReply says what the new member joined.
type JoinReply struct {
	ClusterID string
	Precision int
	Members   []Member
}

// Member is one member as this one sees it. The last five fields come from the
// heartbeats of the leader and are zero on other members, except for itself.
type Member struct {
	ID, UUID, Address string
	Voter, Leader     bool

	AppliedIndex  uint64
	Reachable     bool
	FreeDiskBytes int64
	ClockSkewMs   int64 // wall clock minus log clock
	Version       string
}
