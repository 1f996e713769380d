package raftfsm

import (
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// stallAfter is how long an append to the log may take. Longer, and a leader
// falls silent so that another one is elected: Raft would go on with heartbeats
// and lead a cluster that cannot write (hashicorp/raft#503). Less takes a slow
// disk for a stalled one, more makes writers wait longer.
const stallAfter = 2 * time.Second

var errStalled = errors.New("raftfsm: the disk of the log is stalled")

// began notes that an append begins, and returns what notes its end. Raft
// appends from one goroutine.
func (l *logStore) began() (ended func()) {
	l.appending.Store(max(1, int64(time.Since(l.opened))))
	return func() { l.appending.Store(0) }
}

// stalled says whether an append has been under way for too long.
func (l *logStore) stalled() bool {
	since := l.appending.Load()
	return since != 0 && time.Since(l.opened)-time.Duration(since) > stallAfter
}

// leads says whether this member leads and could write.
func (n *Node) leads() bool { return n.raft.State() == raft.Leader && !n.logs.stalled() }

// silentTransport is a transport on which a leader with a stalled disk is not
// heard. Its own loop hangs in the append, so that it cannot step down; it does
// when the append returns and its lease is found to have run out.
type silentTransport struct {
	raft.Transport
	preVote raft.WithPreVote
	stalled func() bool
}

func (t silentTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.stalled() {
		return errStalled
	}
	return t.Transport.AppendEntries(id, to, req, resp)
}

func (t silentTransport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.stalled() {
		return nil, errStalled
	}
	p, err := t.Transport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return silentPipeline{p, t.stalled}, nil
}

func (t silentTransport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if t.stalled() {
		return errStalled
	}
	return t.Transport.InstallSnapshot(id, to, req, resp, data)
}

// RequestPreVote and Close are what Raft looks for beside raft.Transport.
func (t silentTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.preVote.RequestPreVote(id, to, req, resp)
}

func (t silentTransport) Close() error { return closeTransport(t.Transport) }

// silentPipeline breaks when the disk stalls. Raft sends on it between entries too.
type silentPipeline struct {
	raft.AppendPipeline
	stalled func() bool
}

func (p silentPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.stalled() {
		return nil, errStalled
	}
	return p.AppendPipeline.AppendEntries(req, resp)
}
