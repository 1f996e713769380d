package raftfsm

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// confirmLeader proves that no leader of a later term was elected before it was
// called: a majority of the voters, this member among them, still has its term.
//
// It asks by heartbeats of its own, sent after the call. raft.VerifyLeader
// counts answers to heartbeats and appends that were sent before it, so that an
// answer which was delayed by longer than an election takes (or a process that
// was stopped between reading an answer and counting it) proves the past.
//
// A peer is asked once at a time: one that fell silent holds one question, not
// one for every read meanwhile. Those that made the last round succeed are free
// to be asked; after one that failed there may be too few, and the read is tried
// again.
//
// term must be one that this member was elected in.
func (n *Node) confirmLeader(term uint64) error {
	var others []raft.Server
	voters := 1
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter && s.ID != n.server {
			others = append(others, s)
			voters++
		}
	}
	need := voters / 2 // beside this member
	if need == 0 {
		return n.sameTerm(term)
	}
	addr := n.trans.EncodePeer(n.server, n.trans.LocalAddr())
	answers := make(chan bool, len(others))
	asked := 0
	for _, s := range others {
		if !n.asking.begin(s.ID) {
			continue
		}
		asked++
		ask := func() {
			req := &raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.server), Addr: addr},
				Term:      term,
			}
			var resp raft.AppendEntriesResponse
			err := n.trans.AppendEntries(s.ID, s.Address, req, &resp)
			n.asking.end(s.ID)
			answers <- err == nil && resp.Success && resp.Term == term
		}
		if !n.calls.start(ask) {
			n.asking.end(s.ID)
			return ErrClosed
		}
	}
	timeout := time.NewTimer(peerTimeout)
	defer timeout.Stop()
	for range asked {
		select {
		case yes := <-answers:
			if yes {
				need--
			}
		case <-timeout.C:
			return n.notLeader()
		case <-n.ctx.Done():
			return ErrClosed
		}
		if need == 0 {
			return n.sameTerm(term)
		}
	}
	return n.notLeader()
}

func (n *Node) sameTerm(term uint64) error {
	if n.raft.CurrentTerm() != term {
		return n.notLeader()
	}
	return nil
}

// inquiries are the peers that have not answered yet.
type inquiries struct {
	mu   sync.Mutex // guards open
	open map[raft.ServerID]struct{}
}

// begin reports false while an earlier question to the peer is open.
func (q *inquiries) begin(id raft.ServerID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.open[id]; ok {
		return false
	}
	if q.open == nil {
		q.open = make(map[raft.ServerID]struct{})
	}
	q.open[id] = struct{}{}
	return true
}

func (q *inquiries) end(id raft.ServerID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, id)
}
