package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

const (
	// lingerTime and lingerBytes bound how long a batch waits for company while
	// other entries are under way. Longer or larger costs latency and saves
	// fsyncs; raft-boltdb does two per commit.
	lingerTime  = 2 * time.Millisecond
	lingerBytes = 256 << 10

	// maxInFlight entries are given to Raft before the first is applied. Raft
	// groups those that arrive while it writes into one fsync.
	maxInFlight = 16

	// maxQueued bytes wait in the proposer before calls are refused.
	maxQueued = 64 << 20

	enqueueTimeout = 5 * time.Second
)

// proposer gives entries to Raft: it is the only one that does, so that the
// first entry of a term is a Tick (or Init), and small batches share entries.
type proposer struct {
	raft    *raft.Raft
	log     *slog.Logger
	clock   func() int64            // for the next entry
	initial func() *storage.Cluster // what Init would say, nil once initialised

	queue  chan *request
	wake   chan struct{}   // leadership may have changed
	ticks  <-chan struct{} // somebody needs the log to move
	slots  chan struct{}   // one token per entry in flight
	queued atomic.Int64    // bytes
	flying sync.WaitGroup

	shareBytes int // lingerBytes; a benchmark sets 0, an entry per call

	// Owned by run.
	term uint64    // that was opened with a Tick
	last time.Time // when the last entry was given to Raft
}

// request is one call to Ingest, or one command.
type request struct {
	body  []byte
	count int

	// command, when it is set, encodes an entry of its own instead.
	command func(clockMs int64) []byte

	done chan response // buffered, answered once
}

type response struct {
	outcomes []storage.Outcome
	err      error
}

func newProposer(r *raft.Raft, log *slog.Logger, clock func() int64, initial func() *storage.Cluster) *proposer {
	return &proposer{
		raft: r, log: log, clock: clock, initial: initial,
		queue: make(chan *request), wake: make(chan struct{}, 1),
		slots: make(chan struct{}, maxInFlight), last: time.Now(), shareBytes: lingerBytes,
	}
}

// submit waits for the outcomes of batches.
func (p *proposer) submit(ctx context.Context, done <-chan struct{}, batches []storage.Batch) ([]storage.Outcome, error) {
	r := &request{count: len(batches), done: make(chan response, 1)}
	for i := range batches {
		var err error
		if r.body, err = appendBatch(r.body, &batches[i]); err != nil {
			return nil, fmt.Errorf("raftfsm: batches[%d]: %w", i, err)
		}
		if len(r.body) > MaxEntryBytes-entryOverhead {
			return nil, ErrTooLarge
		}
	}
	return p.ask(ctx, done, r)
}

// ask hands a request to run and waits for its answer.
func (p *proposer) ask(ctx context.Context, done <-chan struct{}, r *request) ([]storage.Outcome, error) {
	size := int64(len(r.body))
	if p.queued.Add(size) > maxQueued && size > 0 {
		p.queued.Add(-size)
		return nil, ErrOverloaded
	}
	defer p.queued.Add(-size)
	select {
	case p.queue <- r:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
	case <-done:
		return nil, ErrClosed
	}
	select {
	case resp := <-r.done:
		return resp.outcomes, resp.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrIndeterminate, ctx.Err())
	}
}

// poke makes run look whether this member leads.
func (p *proposer) poke() {
	select {
	case p.wake <- struct{}{}:
	default: // one is enough
	}
}

// askTick asks the proposer for an entry, if this member leads.
func (n *Node) askTick() {
	select {
	case n.ticks <- struct{}{}:
	default: // one is enough
	}
}

// run proposes until ctx ends, and returns once nothing of its is under way.
func (p *proposer) run(ctx context.Context) {
	defer p.flying.Wait()
	idle := time.NewTicker(tickEvery / 5)
	defer idle.Stop()
	var carry *request
	for {
		first := carry
		carry = nil
		if first == nil {
			select {
			case <-ctx.Done():
				return
			case <-p.wake:
				p.open(ctx)
				continue
			case <-p.ticks:
				if p.open(ctx) {
					p.propose(ctx, encodeTick(p.clock()), nil)
				}
				continue
			case <-idle.C:
				if p.open(ctx) && time.Since(p.last) >= tickEvery {
					p.propose(ctx, encodeTick(p.clock()), nil)
				}
				continue
			case first = <-p.queue:
			}
		}
		if first.command != nil {
			p.open(ctx)
			p.propose(ctx, first.command(p.clock()), []*request{first})
			continue
		}
		var group []*request
		group, carry = p.gather(ctx, first)
		p.send(ctx, group)
	}
}

// open starts a term with its first entry and says whether this member leads.
func (p *proposer) open(ctx context.Context) bool {
	term := p.raft.CurrentTerm()
	if p.raft.State() != raft.Leader {
		return false
	}
	if term == p.term {
		return true
	}
	p.term = term
	if c := p.initial(); c != nil {
		p.propose(ctx, encodeInit(p.clock(), *c), nil)
	}
	p.propose(ctx, encodeTick(p.clock()), nil)
	return true
}

// gather collects requests for one entry: all that wait, and while earlier
// entries are under way those of the next two milliseconds. A request that no
// longer fits is carried into the next entry.
func (p *proposer) gather(ctx context.Context, first *request) (group []*request, carry *request) {
	group = []*request{first}
	size, count := len(first.body), first.count
	var linger <-chan time.Time
	if len(p.slots) > 0 && size < p.shareBytes {
		timer := time.NewTimer(lingerTime)
		defer timer.Stop()
		linger = timer.C
	}
	for size < p.shareBytes {
		var r *request
		if linger == nil {
			select {
			case r = <-p.queue:
			default:
				return group, nil
			}
		} else {
			select {
			case r = <-p.queue:
			case <-linger:
				linger = nil
				continue
			case <-ctx.Done():
				return group, nil
			}
		}
		if r.command != nil || size+len(r.body) > p.shareBytes || count+r.count > maxBatches {
			return group, r
		}
		group = append(group, r)
		size, count = size+len(r.body), count+r.count
	}
	return group, nil
}

// send proposes one entry for a group of requests.
func (p *proposer) send(ctx context.Context, group []*request) {
	p.open(ctx)
	bodies := make([][]byte, len(group))
	count := 0
	for i, r := range group {
		bodies[i] = r.body
		count += r.count
	}
	p.propose(ctx, encodeBatches(p.clock(), count, bodies...), group)
}

// propose gives one entry to Raft and answers its requests when it is applied.
func (p *proposer) propose(ctx context.Context, entry []byte, group []*request) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		answer(group, nil, ErrClosed)
		return
	}
	p.last = time.Now()
	future := p.raft.Apply(entry, enqueueTimeout)
	p.flying.Go(func() {
		defer func() { <-p.slots }()
		err := future.Error()
		if err != nil {
			if group == nil {
				p.log.Debug("entry of the leader was not committed", "error", err)
			}
			answer(group, nil, p.writeError(err))
			return
		}
		switch r := future.Response().(type) {
		case []storage.Outcome:
			answer(group, r, nil)
		case error:
			answer(group, nil, fmt.Errorf("%w: %w", ErrIndeterminate, r))
		default:
			answer(group, nil, nil)
		}
	})
}

// answer deals the outcomes of an entry out to its requests.
func answer(group []*request, outcomes []storage.Outcome, err error) {
	for _, r := range group {
		if err == nil && len(outcomes) < r.count {
			err = fmt.Errorf("%w: %d outcomes for %d batches", ErrIndeterminate, len(outcomes), r.count)
		}
		if err != nil {
			r.done <- response{err: err}
			continue
		}
		r.done <- response{outcomes: outcomes[:r.count:r.count]}
		outcomes = outcomes[r.count:]
	}
}

// writeError sorts Raft's errors into nothing was written, and nobody knows.
func (p *proposer) writeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		addr, _ := p.raft.LeaderWithID()
		if p.raft.State() == raft.Leader {
			addr = "" // on the way out
		}
		return NotLeaderError{Leader: string(addr)}
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrOverloaded
	default:
		return fmt.Errorf("%w: %w", ErrIndeterminate, err)
	}
}
