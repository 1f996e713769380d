package raftfsm

import (
	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/window"
)

// Status is what a member knows of itself and, on the leader, of the others.
type Status struct {
	ClusterID         string // empty while the cluster has not formed
	ID, UUID, Address string
	LeaderID          string // empty while no leader is known
	LeaderAddress     string
	State             string // leader, follower, candidate, shutdown
	Ready             bool
	WaitingFor        string // what Ready waits for, in words

	Term          uint64
	AppliedIndex  uint64 // of the state
	CommitIndex   uint64
	LastIndex     uint64 // of the log
	FlushedIndex  uint64 // of the state file
	ClockMs       int64  // log clock
	Precision     int
	Tiers         window.Tiers
	Members       []Member
	Alarms        []string // one word each: disk_full, disk_stalled, clock_skew, no_leader, removed
	DataBytes     int64    // of the state file
	HeadBytes     int64    // of the state in memory
	LogBytes      int64
	LogEntries    uint64
	FreeDiskBytes int64 // -1 when unknown
}

// clockSkewAlarm is how far a member's wall clock may be off the log clock.
const clockSkewAlarm = 60_000

// Status describes the member. It waits for nothing.
func (n *Node) Status() Status {
	applied, _ := n.db.Applied()
	flushed, _ := n.db.FlushedState()
	head, _ := n.db.HeadBytes()
	entries, bytes := n.logs.size()
	leaderID, leaderAddr := n.Leader()
	s := Status{
		ClusterID: n.ClusterID(), ID: n.ident.ID, UUID: n.ident.UUID, Address: n.o.Address,
		LeaderID: leaderID, LeaderAddress: leaderAddr, State: stateName(n.raft.State()),
		Term: n.raft.CurrentTerm(), AppliedIndex: applied, CommitIndex: n.raft.CommitIndex(),
		LastIndex: n.raft.LastIndex(), FlushedIndex: flushed.Index, ClockMs: n.db.ClockMs(),
		Members: n.Members(), DataBytes: n.db.SizeBytes(), HeadBytes: head,
		LogBytes: bytes, LogEntries: entries, FreeDiskBytes: freeDisk(n.dir),
	}
	if c, ok := n.db.Cluster(); ok {
		s.Precision, s.Tiers = c.Precision, c.Tiers
	}
	select {
	case <-n.ready:
		s.Ready = true
	default:
		s.WaitingFor = n.waitingFor()
	}
	s.Alarms = n.alarms(s)
	return s
}

func (n *Node) alarms(s Status) []string {
	var alarms []string
	if n.members.diskFull() {
		alarms = append(alarms, "disk_full")
	}
	if n.logs.stalled() {
		alarms = append(alarms, "disk_stalled")
	}
	for _, m := range s.Members {
		if n.members.clockSkewed() || m.Reachable && (m.ClockSkewMs > clockSkewAlarm || m.ClockSkewMs < -clockSkewAlarm) {
			alarms = append(alarms, "clock_skew")
			break
		}
	}
	if s.LeaderID == "" {
		alarms = append(alarms, "no_leader")
	}
	if n.removed.Load() {
		alarms = append(alarms, "removed")
	}
	return alarms
}

func stateName(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Shutdown:
		return "shutdown"
	default:
		return "follower"
	}
}

// Leader is the id and the address of the leader, empty while none is known.
func (n *Node) Leader() (id, address string) {
	addr, server := n.raft.LeaderWithID()
	id, _ = splitServerID(server)
	return id, string(addr)
}

func (n *Node) hasLeader() bool {
	addr, _ := n.raft.LeaderWithID()
	return addr != ""
}

// IsLeader says whether this member leads, as far as it knows, and its log can
// be written.
func (n *Node) IsLeader() bool { return n.leads() }

// notLeader is the error for work that only the leader does.
func (n *Node) notLeader() error {
	if n.closing.Load() {
		return ErrClosed
	}
	addr, server := n.raft.LeaderWithID()
	if server == n.server {
		addr = "" // on the way in or out
	}
	return NotLeaderError{Leader: string(addr)}
}

// ID is the name of the member.
func (n *Node) ID() string { return n.ident.ID }

// UUID is the identity of its data directory.
func (n *Node) UUID() string { return n.ident.UUID }

// Address is where others reach it.
func (n *Node) Address() string { return n.o.Address }

// Identity is all of it.
func (n *Node) Identity() Identity {
	n.identMu.Lock()
	defer n.identMu.Unlock()
	return n.ident
}

// ClusterID is the cluster that this member belongs to or has promised to join,
// empty before.
func (n *Node) ClusterID() string {
	if c, ok := n.db.Cluster(); ok {
		return c.ID
	}
	return n.Identity().ClusterID
}

// streamNames lets the stream layer ask the node.
type streamNames Node

func (s *streamNames) clusterID() string   { return (*Node)(s).ClusterID() }
func (s *streamNames) self() raft.ServerID { return s.server }

func (s *streamNames) target(address string) string {
	if !s.up.Load() {
		return ""
	}
	for _, server := range (*Node)(s).servers() {
		if string(server.Address) == address {
			return string(server.ID)
		}
	}
	return ""
}
