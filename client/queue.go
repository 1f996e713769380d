package client

import (
	"fmt"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	// deltaOverhead is what a delta costs in memory besides its bytes.
	deltaOverhead = 128

	// dropTo is how far the queue is emptied once it is over its bound, so
	// that a long outage does not pay for making room with every sketch.
	dropTo = 15.0 / 16
)

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

func (d *delta) lost() Dropped {
	return Dropped{Metric: string(d.metric), Node: d.node, Start: time.Unix(d.start, 0).UTC(), Values: d.count}
}

// deltas collects what a drain hands out, encoded outside any lock.
type deltas struct {
	account   *account
	precision int // to encode at; 0 while the cluster's is not known
	list      []*delta
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

// release moves what an account has held back into the queue. c.mu is held.
func (a *account) release() {
	a.client.queue.ready = append(a.client.queue.ready, a.held...)
	a.held, a.heldBytes = nil, 0
}

// bound keeps the memory of unsettled sketches under its limit. What waits for
// its hour is put on its way first; then deltas of one bucket are merged, and
// last the oldest that were never sent are dropped. c.mu is held.
func (c *Client) bound() {
	if c.queue.bytes <= c.options.MaxPendingBytes {
		return
	}
	for a := range c.accounts {
		a.release()
	}
	c.mergeEqual()
	if c.queue.bytes <= c.options.MaxPendingBytes {
		return
	}
	keep := int64(float64(c.options.MaxPendingBytes) * dropTo)
	n := 0
	for ; n < len(c.queue.ready) && c.queue.bytes > keep; n++ {
		d := c.queue.ready[n]
		c.settle(d)
		c.lose(d.account, RefusedError{Reason: ReasonMemory, Sketches: 1,
			Message: "no room for more unsent sketches", Limit: fmt.Sprint(c.options.MaxPendingBytes, " bytes")}, d.lost())
	}
	c.queue.ready = append([]*delta(nil), c.queue.ready[n:]...)
}

// mergeEqual merges the waiting deltas that one source has for the same
// bucket. c.mu is held.
func (c *Client) mergeEqual() {
	type key struct {
		account *account
		metric  window.Metric
		node    string
		start   int64
	}
	first := make(map[key]*delta, len(c.queue.ready))
	kept := c.queue.ready[:0]
	for _, d := range c.queue.ready {
		k := key{d.account, d.metric, d.node, d.start}
		f := first[k]
		if f == nil || !c.mergeInto(f, d) {
			first[k] = d
			kept = append(kept, d)
		}
	}
	clear(c.queue.ready[len(kept):])
	c.queue.ready = kept
}

// mergeInto adds d to f, if both are whole and the sum is not too much.
func (c *Client) mergeInto(f, d *delta) bool {
	if f.count+d.count > sketch.MaxCount {
		return false
	}
	var x, y sketch.Sketch
	if x.UnmarshalBinary(f.data) != nil || y.UnmarshalBinary(d.data) != nil {
		return false // cannot be: we encoded both; the cluster will say so
	}
	x.Merge(&y)
	data, _ := x.AppendBinary(nil)
	c.queue.bytes += int64(len(data)) - int64(len(f.data))
	f.data, f.count, f.precision = data, f.count+d.count, uint8(x.Precision())
	f.created = max(f.created, d.created) // or a merged one would be the sooner too old
	f.epoch.values += d.count
	c.keep(f)
	c.settle(d)
	return true
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
