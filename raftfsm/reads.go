package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

// readRounds lets concurrent readers share one proof of leadership. A reader
// joins a round that has not begun, so that the proof comes after its question.
type readRounds struct {
	mu      sync.Mutex // guards the two below
	next    *readRound // joined by readers, not begun
	running bool
}

type readRound struct {
	done  chan struct{}
	index ReadIndex
	err   error
}

// ReadIndex answers on the leader: a member whose state has reached the index
// sees every write that was acknowledged before the call. Members that do not
// lead get a NotLeaderError. It waits until the first entry of the leader's
// term is applied: before that, the commit index may lie behind what an earlier
// leader acknowledged, and may name an entry the state machine never sees.
func (n *Node) ReadIndex(ctx context.Context) (ReadIndex, error) {
	round, err := n.joinRound()
	if err != nil {
		return ReadIndex{}, err
	}
	select {
	case <-round.done:
		return round.index, round.err
	case <-ctx.Done():
		return ReadIndex{}, fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
	}
}

func (n *Node) joinRound() (*readRound, error) {
	r := &n.rounds
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &readRound{done: make(chan struct{})}
	}
	round := r.next
	if !r.running {
		if !n.calls.start(n.runRounds) {
			return nil, ErrClosed
		}
		r.running = true
	}
	return round, nil
}

// runRounds runs rounds until nobody waits for one.
func (n *Node) runRounds() {
	r := &n.rounds
	for {
		r.mu.Lock()
		round := r.next
		r.next = nil
		if round == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		round.index, round.err = n.proveIndex()
		close(round.done)
	}
}

// proveIndex is one round: the commit index first, then the proof that this
// member still led when it was read, in one term.
func (n *Node) proveIndex() (ReadIndex, error) {
	term := n.raft.CurrentTerm()
	if err := n.waitTermOpen(n.ctx, term); err != nil {
		return ReadIndex{}, err
	}
	index := n.raft.CommitIndex()
	if err := n.confirmLeader(term); err != nil {
		return ReadIndex{}, err
	}
	return ReadIndex{Index: index, Term: term, LeaderID: n.ident.ID, ClockMs: n.db.ClockMs()}, nil
}

// waitTermOpen waits until the state machine has an entry of the leader's term.
func (n *Node) waitTermOpen(ctx context.Context, term uint64) error {
	for {
		changed := n.changed.wait()
		switch _, applied := n.db.Applied(); {
		case n.raft.State() != raft.Leader || n.raft.CurrentTerm() != term:
			return n.notLeader()
		case applied == term:
			return nil
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
		}
	}
}

// gate waits until the local state is as fresh as the read level asks.
func (n *Node) gate(ctx context.Context, read window.Read, maxStale time.Duration) error {
	if n.closing.Load() {
		return ErrClosed
	}
	if read == window.Stale {
		if age := n.age(); maxStale > 0 && age > maxStale {
			return fmt.Errorf("%w: %v, at most %v", ErrTooStale, age.Round(time.Millisecond), maxStale)
		}
		return nil
	}
	index, err := n.readIndex(ctx, read)
	if err != nil {
		return err
	}
	if err := n.db.WaitApplied(ctx, index); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: applied index %d not reached: %w", ErrNoLeader, index, ctx.Err())
		}
		return err
	}
	return nil
}

// readIndex gets an index from the leader, whoever it is, until ctx ends.
func (n *Node) readIndex(ctx context.Context, read window.Read) (uint64, error) {
	for {
		changed := n.changed.wait()
		index, err := n.askIndex(ctx, read)
		if err == nil {
			return index, nil
		}
		if errors.Is(err, ErrClosed) {
			return 0, err
		}
		// A new leader is noticed at once, a leader that comes back soon.
		retry := time.NewTimer(50 * time.Millisecond)
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return 0, fmt.Errorf("%w within the deadline: %w", ErrNoLeader, err)
		case <-n.ctx.Done():
			retry.Stop()
			return 0, ErrClosed
		}
		retry.Stop()
	}
}

func (n *Node) askIndex(ctx context.Context, read window.Read) (uint64, error) {
	addr, id := n.raft.LeaderWithID()
	switch {
	case id == n.server && read == window.Leader:
		// No quorum is asked: a leader that was paused answers from the past.
		if err := n.waitTermOpen(ctx, n.raft.CurrentTerm()); err != nil {
			return 0, err
		}
		return n.raft.CommitIndex(), nil
	case id == n.server:
		r, err := n.ReadIndex(ctx)
		return r.Index, err
	case addr == "" || n.o.Peers == nil:
		return 0, NotLeaderError{}
	}
	ask, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	r, err := n.o.Peers.ReadIndex(ask, string(addr))
	return r.Index, err
}

// age is how far this member may be behind: the time since it heard from the
// leader, or how far the log clock of what it applied is behind its own clock.
func (n *Node) age() time.Duration {
	if n.raft.State() == raft.Leader {
		return 0
	}
	heard := n.raft.LastContact()
	if heard.IsZero() {
		return 1 << 62
	}
	// Heartbeats carry neither entries nor what is committed: who gets nothing
	// else notices by the log clock, which moves at least every tickEvery.
	behind := time.Duration(n.o.Now().UnixMilli()-n.db.ClockMs()) * time.Millisecond
	if applied, _ := n.db.Applied(); applied >= n.raft.CommitIndex() {
		behind -= tickEvery
	}
	return max(time.Since(heard), behind)
}

// bounded gives a read its deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, readDeadline)
}

// Query answers a checked question from the local state, once that is as fresh
// as q.Read asks. Any member answers; without a quorum a linearizable read
// fails with ErrNoLeader inside its deadline (five seconds if ctx has none).
func (n *Node) Query(ctx context.Context, q window.Query) (window.Answer, error) {
	gctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.gate(gctx, q.Read, q.MaxStaleness); err != nil {
		return window.Answer{}, err
	}
	return n.db.Query(ctx, q)
}

// Metrics lists what is stored, and the index it is true of.
func (n *Node) Metrics(ctx context.Context, read window.Read) ([]storage.MetricInfo, uint64, error) {
	gctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.gate(gctx, read, 0); err != nil {
		return nil, 0, err
	}
	return n.db.Metrics(ctx)
}

// Nodes lists the nodes of a metric, and the index it is true of.
func (n *Node) Nodes(ctx context.Context, read window.Read, metric window.Metric) ([]storage.NodeInfo, uint64, error) {
	gctx, cancel := bounded(ctx)
	defer cancel()
	if err := n.gate(gctx, read, 0); err != nil {
		return nil, 0, err
	}
	return n.db.Nodes(ctx, metric)
}
