package client

import (
	"fmt"
	"math"
	"time"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
	"github.com/distributed-median-tracker/dmt/window"
)

// job is one commit: what to write, and whose state that changes.
type job struct {
	all    bool // in place of the file
	put    []record.Record
	remove [][]byte

	deltas, fresh []*delta // put, and those among them the file did not hold
	batches       []*batch
	goneDeltas    []*delta
	goneBatches   []*batch
}

func (j *job) empty() bool { return !j.all && len(j.put) == 0 && len(j.remove) == 0 }

// begin takes what has changed. What is to be put counts as stored from here
// on: whether a failed commit has reached the file nobody knows. c.mu is held.
func (s *spooler) begin() *job {
	j := &job{all: s.broken != nil}
	deltas, batches := s.touched, s.changed
	if j.all {
		for d := range s.deltas {
			deltas[d] = struct{}{}
		}
		for b := range s.batches {
			batches[b] = struct{}{}
		}
	}
	for d := range deltas {
		if _, ok := s.deltas[d]; ok {
			j.deltas = append(j.deltas, d)
			j.put = append(j.put, d.record())
			if !d.stored {
				j.fresh = append(j.fresh, d)
			}
			d.stored = true
		} else if d.stored {
			j.goneDeltas = append(j.goneDeltas, d)
			j.remove = append(j.remove, (&record.Delta{ID: d.id}).Key())
		}
	}
	for b := range batches {
		if _, ok := s.batches[b]; ok {
			j.batches = append(j.batches, b)
			j.put = append(j.put, b.record())
			b.stored = true
		} else if b.stored {
			j.goneBatches = append(j.goneBatches, b)
			j.remove = append(j.remove, (&record.Batch{Producer: b.producer.id, Seq: b.seq}).Key())
		}
	}
	clear(s.touched)
	clear(s.changed)
	return j
}

// finish books what has become of a commit. c.mu is held.
func (s *spooler) finish(j *job, swapped bool, err error) {
	if err != nil {
		s.broken = err
		s.retry = min(max(spoolRetryFirst, 2*s.retry), spoolRetry)
		if !swapped {
			for _, d := range j.fresh {
				d.stored = false // for certain: the file is as it was
			}
		}
	} else {
		s.broken, s.retry = nil, 0
		for _, d := range j.goneDeltas {
			d.stored = false
		}
		for _, b := range j.goneBatches {
			b.stored = false
		}
		for _, b := range j.batches {
			if _, again := s.changed[b]; !again {
				b.saved = true
			}
		}
	}
	close(s.tried)
	s.tried = make(chan struct{})
}

func (d *delta) record() *record.Delta {
	return &record.Delta{ID: d.id, Created: d.created, Entry: record.Entry{
		Metric: string(d.metric), Node: d.node, Start: d.start, Sketch: d.data,
	}}
}

func (b *batch) record() *record.Batch {
	return &record.Batch{
		Producer: b.producer.id, Seq: b.seq, SeenMs: b.seenMs, ClusterID: b.cluster.id,
		Created: b.created, Void: b.void, Entries: b.entries,
	}
}

// inherit takes over what an earlier process has left. c.mu is held.
func (c *Client) inherit(found record.Found) {
	for _, err := range found.Damage {
		c.log.Error("spool was damaged, what could be read is kept", "error", err)
		c.lose(&c.inherited, RefusedError{Reason: ReasonDamaged, Field: "spool", Message: err.Error()}, Dropped{})
	}
	s, values := c.spool, uint64(0)
	for _, r := range found.Records {
		switch r := r.(type) {
		case *record.Delta:
			d := c.inheritEntry(r.Entry, r.Created)
			d.id, d.stored = r.ID, true
			s.nextID = max(s.nextID, r.ID+1)
			s.deltas[d] = struct{}{}
			c.queue.ready = append(c.queue.ready, d)
			values += d.count
		case *record.Batch:
			b := &batch{
				producer: &producer{id: r.Producer, next: math.MaxUint64, settled: make(map[uint64]struct{})},
				seq:      r.Seq, seenMs: r.SeenMs, created: r.Created, void: r.Void, doubt: true,
				cluster: cluster{id: r.ClusterID}, entries: r.Entries, stored: true, saved: true,
			}
			for _, e := range r.Entries {
				d := c.inheritEntry(e, r.Created)
				d.sends = 1
				b.deltas = append(b.deltas, d)
				values += d.count
			}
			s.batches[b] = struct{}{}
			c.queue.replays = append(c.queue.replays, b)
		}
	}
	if values > 0 {
		c.stats.Recovered += values
		c.log.Info("spool holds values of an earlier process", "dir", s.dir, "values", values,
			"batches", len(c.queue.replays), "sketches", len(c.queue.ready))
	}
}

func (c *Client) inheritEntry(e record.Entry, created int64) *delta {
	a := &c.inherited
	d := &delta{
		account: a, epoch: a.current(), metric: window.Metric(e.Metric), node: e.Node, start: e.Start,
		count: e.Count, data: e.Sketch, precision: uint8(e.Precision), created: created,
	}
	d.epoch.open++
	d.epoch.values += d.count
	c.queue.bytes += d.size()
	return d
}

// inherited is the source of what an earlier process has counted: it counts
// nothing more.
type inherited struct{}

func (inherited) drain(int64, emitFunc) {}
func (inherited) shut()                 {}
func (inherited) count(*Stats)          {}

// expire gives up what has been in the spool for longer than it may. Batches of
// this process are left alone: they are few, and on their way. c.mu is held.
func (c *Client) expire(now time.Time) {
	if c.spool == nil || c.options.SpoolAge < 0 {
		return
	}
	oldest := now.Add(-c.options.SpoolAge).Unix()
	old := func(d *delta, message string) {
		c.settle(d)
		c.lose(d.account, RefusedError{Reason: ReasonAge, Sketches: 1, Message: message, Limit: fmt.Sprint(c.options.SpoolAge)}, d.lost())
	}
	ready := c.queue.ready[:0]
	for _, d := range c.queue.ready {
		if d.created >= oldest {
			ready = append(ready, d)
			continue
		}
		old(d, "in the spool for too long")
	}
	clear(c.queue.ready[len(ready):])
	c.queue.ready = ready
	replays := c.queue.replays[:0]
	for _, b := range c.queue.replays {
		if b.created >= oldest {
			replays = append(replays, b)
			continue
		}
		c.forgetBatch(b)
		for _, d := range b.deltas {
			old(d, "in the spool for too long, after it was sent without an answer: may have been counted")
		}
	}
	clear(c.queue.replays[len(replays):])
	c.queue.replays = replays
}
