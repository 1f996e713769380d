package client

import (
	"fmt"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// deltaOverhead is what a delta costs in memory besides its bytes, with its
// places in the queue and in the books of a spool.
const deltaOverhead = 160

// emitFunc takes over one bucket's values.
type emitFunc func(metric window.Metric, node string, start int64, s *sketch.Sketch)

// delta is the sketch of what one source counted for one (metric, node,
// bucket) since the drain before: the unit that is refused or lost as one.
type delta struct {
	account *account
	epoch   *epoch
	metric  window.Metric
	node    string
	start   int64 // unix seconds
	count   uint64
	data    []byte // encoded at precision

	precision uint8
	sends     uint8 // how often it was put into a batch

	// For the spool.
	id      uint64 // in it, 0 while it has none
	created int64  // unix seconds
	stored  bool   // the file holds it as a delta, or may
}

func (d *delta) size() int64 { return int64(len(d.data)) + deltaOverhead }

// wire is about what a delta takes in a request.
func (d *delta) wire() int64 { return int64(len(d.data)+len(d.metric)+len(d.node)) + 16 }

func (d *delta) lost() Dropped {
	return Dropped{Metric: string(d.metric), Node: d.node, Start: time.Unix(d.start, 0).UTC(), Values: d.count}
}

// deltas collects what a drain hands out, encoded outside any lock.
type deltas struct {
	account   *account
	precision int // to encode at; 0 while the cluster's is not known
	list      []*delta
	late      bool // of buckets that were drained before, and may be held still
}

// newDeltas asks for the precision once. It takes c.mu.
func newDeltas(a *account) *deltas {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	return &deltas{account: a, precision: a.client.cluster.precision}
}

func (l *deltas) emit(metric window.Metric, node string, start int64, s *sketch.Sketch) {
	count := s.Count()
	if count == 0 {
		return
	}
	if l.precision != 0 {
		s.Coarsen(l.precision)
	}
	// The error is always nil, as its documentation promises.
	data, _ := s.AppendBinary(nil)
	l.list = append(l.list, &delta{
		account: l.account, metric: metric, node: node, start: start,
		count: count, data: data, precision: uint8(s.Precision()),
	})
}

// queue is what waits to be sent, oldest first. It is guarded by Client.mu.
type queue struct {
	ready   []*delta
	replays []*batch // found in the spool, go first
	bytes   int64    // of everything unsettled: ready, held back and on its way
	limit   int64    // most bytes in a batch, 0 for the default
}

// enqueue takes over what a drain has found. It ships at once what fills a
// batch, and what fell due while it was collected.
func (c *Client) enqueue(l *deltas) {
	if len(l.list) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := l.account
	e := a.current()
	now := time.Now().Unix()
	if l.late {
		defer a.mergeHeld(len(a.held))
	}
	for _, d := range l.list {
		d.epoch = e
		if d.count > sketch.MaxCount {
			c.lose(a, RefusedError{Reason: ReasonRange, Field: "count", Sketches: 1,
				Message: fmt.Sprintf("%d values are too many for one sketch", d.count)}, d.lost())
			continue
		}
		e.open++
		e.values += d.count
		c.stats.Values += d.count
		c.queue.bytes += d.size()
		d.created = now
		c.keep(d)
		a.held = append(a.held, d)
		a.heldBytes += d.size()
	}
	if a.heldBytes >= batchBytes || len(a.held) >= batchEntries {
		a.release()
	}
	c.bound()
	c.pump()
}

// mergeHeld merges what was held back after the first n into those. c.mu is
// held.
func (a *account) mergeHeld(n int) {
	type key struct {
		metric window.Metric
		node   string
		start  int64
	}
	if n >= len(a.held) {
		return // nothing new, or all of it was released
	}
	at := make(map[key]*delta, n)
	for _, d := range a.held[:n] {
		at[key{d.metric, d.node, d.start}] = d
	}
	kept := a.held[:n]
	for _, d := range a.held[n:] {
		before := d.size()
		f := at[key{d.metric, d.node, d.start}]
		if f == nil {
			kept = append(kept, d)
			continue
		}
		grown := f.size()
		if !a.client.mergeInto(f, d) {
			kept = append(kept, d)
			continue
		}
		a.heldBytes += f.size() - grown - before
	}
	clear(a.held[len(kept):])
	a.held = kept
}

// release moves what an account has held back into the queue. c.mu is held.
func (a *account) release() {
	a.client.queue.ready = append(a.client.queue.ready, a.held...)
	a.held, a.heldBytes = nil, 0
}

// settle forgets a delta: it is counted, refused, dropped, or part of another.
// c.mu is held.
func (c *Client) settle(d *delta) {
	c.queue.bytes -= d.size()
	c.forget(d)
	d.epoch.open--
	d.epoch.values -= d.count
	d.epoch.check()
}
