package raftfsm

import (
	"errors"
	"fmt"
)

// Sentinels for callers that branch on them.
var (
	// ErrNoLeader says that no leader was known, or that it did not answer,
	// before the deadline. Nothing was written; a retry may succeed.
	ErrNoLeader = errors.New("raftfsm: no leader")

	// ErrClosed says that the node is shut down or shutting down.
	ErrClosed = errors.New("raftfsm: closed")

	// ErrOverloaded says that the node refused a write before the log, because
	// its memory or its queue is full. Nothing was written.
	ErrOverloaded = errors.New("raftfsm: overloaded")

	// ErrIndeterminate says that a write may or may not be committed: leadership
	// was lost, or the caller's deadline passed, while it was under way. Sending
	// it again under the same producer and sequence settles it.
	ErrIndeterminate = errors.New("raftfsm: outcome unknown, retry under the same name")

	// ErrDiskFull says that a voter is short of disk, so that the leader refuses
	// values until there is space again. Nothing was written.
	ErrDiskFull = errors.New("raftfsm: a voter is short of disk")

	// ErrClockSkew says that the wall clock of the leader is more than a minute
	// off the others', so that it refuses values and hands leadership over. It
	// is an ErrNoLeader: nothing was written, and a retry may succeed.
	ErrClockSkew = fmt.Errorf("%w whose clock is right", ErrNoLeader)

	// ErrRemoved says that the member was removed from the cluster. Its
	// directory cannot be used to join again; an empty one can.
	ErrRemoved = errors.New("raftfsm: this member was removed from the cluster; to join again, start it with an empty directory")

	// ErrTooLarge says that the batches of one call do not fit in a log entry.
	ErrTooLarge = errors.New("raftfsm: batches exceed the size of a log entry")

	// ErrTooStale says that a stale read found the member further behind than
	// the query allows.
	ErrTooStale = errors.New("raftfsm: member is further behind than the query allows")

	// ErrAlreadyFormed says that a directory which holds a cluster was asked to
	// form another one.
	ErrAlreadyFormed = errors.New("raftfsm: directory already holds a cluster")

	// ErrUnknownMember says that no member has the id.
	ErrUnknownMember = errors.New("raftfsm: no member has this id")

	// ErrQuorum says that a change of membership would leave fewer reachable
	// voters than a quorum needs.
	ErrQuorum = errors.New("raftfsm: change would leave the cluster without a quorum")
)

// NotLeaderError says that a write reached a member that does not lead.
// Nothing was written.
type NotLeaderError struct {
	// Leader is the address of the leader, empty while none is known.
	Leader string
}

func (e NotLeaderError) Error() string {
	if e.Leader == "" {
		return "raftfsm: not the leader, and none is known"
	}
	return "raftfsm: not the leader, which is " + e.Leader
}

// Is makes a NotLeaderError without an address an ErrNoLeader too.
func (e NotLeaderError) Is(target error) bool {
	return target == ErrNoLeader && e.Leader == ""
}

// ClusterIDError says that a member of another cluster asked.
type ClusterIDError struct {
	Ours, Theirs string
}

func (e *ClusterIDError) Error() string {
	return fmt.Sprintf("raftfsm: cluster id %q, this cluster is %q", e.Theirs, e.Ours)
}

// MemberConflictError says that a joining member claims the id or the address
// of another one.
type MemberConflictError struct {
	ID, Address string // of the member that is registered
	Field       string // "id" or "address"
	UUID        string // of the directory that is registered
}

func (e *MemberConflictError) Error() string {
	if e.Field == "address" {
		return fmt.Sprintf("raftfsm: address %s belongs to member %q", e.Address, e.ID)
	}
	return fmt.Sprintf("raftfsm: member %q is registered with another data directory (%s); remove it first if that directory is lost", e.ID, e.UUID)
}

// PrecisionError says that a joining member was started for another precision.
type PrecisionError struct {
	Ours, Theirs int
}

func (e *PrecisionError) Error() string {
	return fmt.Sprintf("raftfsm: precision %d, this cluster has %d", e.Theirs, e.Ours)
}

// EntryError says that a log entry cannot be read. On a member it means that
// the log was written by a newer version, or is damaged; the process stops.
type EntryError struct {
	Index  uint64 // 0 while it is not in a log
	Reason string
}

func (e *EntryError) Error() string {
	if e.Index == 0 {
		return "raftfsm: log entry: " + e.Reason
	}
	return fmt.Sprintf("raftfsm: log entry %d: %s", e.Index, e.Reason)
}
