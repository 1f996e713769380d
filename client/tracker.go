package client

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	// trackerMetric is the metric of NewMedianTracker.
	trackerMetric = "values"

	// closeWithin bounds MedianTracker.Close, which takes no context.
	closeWithin = 30 * time.Second
)

// MedianTracker keeps the median of all values that any number of nodes have
// added: in this process, or in a cluster that many processes share. It is
// safe for concurrent use.
type MedianTracker struct {
	account // of trackers over a cluster
	owned   bool
	metric  window.Metric
	shards  [trackerShards]shard
	seed    maphash.Seed
	born    time.Time

	state  sync.Mutex // guards what follows
	closed bool
	local  losses // of a tracker in memory
	fresh  losses // those that Median has not returned yet
	failed error  // of the last EstimateMedian
}

// NewMedianTracker returns a tracker of the metric "values" in the cluster at
// addrs, each host:port; without any, of values in this process alone. It
// fails only for an address that cannot be one.
func NewMedianTracker(addrs ...string) (*MedianTracker, error) {
	if len(addrs) == 0 {
		t := newTracker(trackerMetric)
		for i := range t.shards {
			t.shards[i].memory = true
		}
		return t, nil
	}
	c, err := New(addrs, Options{})
	if err != nil {
		return nil, err
	}
	t := c.MedianTracker(trackerMetric)
	t.owned = true
	return t, nil
}

// MedianTracker returns a tracker of a metric in the client's cluster. A name
// that is no metric is reported by Median and Err. Closing the tracker does not
// close the client.
func (c *Client) MedianTracker(metric string) *MedianTracker {
	t := newTracker(window.Metric(metric))
	t.account = account{client: c, source: t, every: c.options.FlushEvery}
	name, err := window.ParseMetric(metric)
	if err != nil {
		t.refuseAll(refusal(err, ReasonBadMetric))
	} else {
		t.metric = name
	}
	if !c.enrol(&t.account) {
		t.shut()
	}
	return t
}

func newTracker(metric window.Metric) *MedianTracker {
	t := &MedianTracker{metric: metric, seed: maphash.MakeSeed(), born: time.Now()}
	for i := range t.shards {
		t.shards[i].nodes = make(map[string]*series)
	}
	return t
}

// AddValue counts value for a node, an opaque id of 1..256 bytes of printable
// UTF-8. It never waits for the network. Another id is refused: counted, and
// reported by Median and Err.
func (t *MedianTracker) AddValue(nodeID string, value int64) {
	s := &t.shards[maphash.String(t.seed, nodeID)%trackerShards]
	s.mu.Lock()
	r := s.nodes[nodeID]
	if r == nil || s.refuse != nil {
		var e *RefusedError
		if r, e = s.admit(nodeID); e != nil {
			s.mu.Unlock()
			t.lost(e, nodeID)
			return
		}
	}
	if s.memory {
		s.all.AddInt(value)
	} else {
		r.now.AddInt(value)
	}
	s.mu.Unlock()
}

// AddFloat counts value for a node. NaN and the infinities are refused with
// ErrNotFinite, a bad id with a *RefusedError.
func (t *MedianTracker) AddFloat(nodeID string, value float64) error {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		t.lost(notFinite(value), nodeID)
		return ErrNotFinite
	}
	s := &t.shards[maphash.String(t.seed, nodeID)%trackerShards]
	s.mu.Lock()
	r, e := s.admit(nodeID)
	if e != nil {
		s.mu.Unlock()
		t.lost(e, nodeID)
		return e
	}
	defer s.mu.Unlock()
	if s.memory {
		return s.all.Add(value)
	}
	return r.now.Add(value)
}

// EstimateMedian returns the median of everything added so far by anybody, over
// all the time that the cluster keeps: the mean of the two middle values for an
// even count. It is off by at most 0.55 % at the standard precision wherever
// the two middle values have one sign. It first waits until what this process
// has added is counted. NaN means that there is nothing, or no answer within
// 30 s, which Err then reports.
func (t *MedianTracker) EstimateMedian() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ans, err := t.ask(ctx)
	if errors.Is(err, ErrNoData) {
		err = nil
	}
	t.state.Lock()
	t.failed = err
	t.state.Unlock()
	if e, ok := ans.Median(); ok && err == nil {
		return e.Float64()
	}
	return math.NaN()
}

// Median is the twin of EstimateMedian that reports errors, with the interval
// that is certain to hold the median, the count and more. ErrNoData means that
// there is nothing. An answer that comes with a *RefusedError is good, but
// stands for less than was added: the error says what was lost since the last
// call.
func (t *MedianTracker) Median(ctx context.Context) (window.Answer, error) {
	ans, err := t.ask(ctx)
	return ans, join(err, t.takeLosses())
}

func (t *MedianTracker) takeLosses() error {
	if t.client != nil {
		return t.client.takeLosses([]*account{&t.account})
	}
	t.state.Lock()
	defer t.state.Unlock()
	err := t.fresh.err()
	t.fresh = nil
	return err
}

// ask flushes and asks, and leaves losses for others to report.
func (t *MedianTracker) ask(ctx context.Context) (window.Answer, error) {
	t.state.Lock()
	closed := t.closed
	t.state.Unlock()
	if closed {
		return window.Answer{}, ErrClosed
	}
	if t.client == nil {
		return t.summary()
	}
	if e := t.client.settled(ctx, []*account{&t.account}); e != nil {
		return window.Answer{}, fmt.Errorf("%w: %w", ErrUnavailable, e)
	}
	ans, err := t.client.Query(ctx, window.Query{Metric: t.metric})
	if errors.Is(err, ErrUnknownMetric) {
		err = ErrNoData // nothing was ever added
	}
	return ans, err
}

// summary answers from memory.
func (t *MedianTracker) summary() (window.Answer, error) {
	sum, nodes := new(sketch.Sketch), 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		nodes += len(s.nodes)
		part := s.all.Sketch()
		s.mu.Unlock()
		sum.Merge(part)
	}
	base := window.Width(bucketSeconds)
	ans := window.Answer{Metric: t.metric, Span: window.Span{From: base.Floor(t.born.Unix()), To: base.Floor(time.Now().Unix()) + bucketSeconds}}
	if sum.Empty() {
		return ans, ErrNoData
	}
	ans.Results = []window.Result{{
		Node: window.AllNodes, Span: ans.Span, Count: sum.Count(), Min: sum.Min(), Max: sum.Max(), Nodes: nodes,
		Estimates: []window.QuantileEstimate{{Q: 0.5, Estimate: sum.Median()}},
	}}
	return ans, nil
}

// Err returns everything that was lost so far, by reason, and why the last
// EstimateMedian had no answer. Nil means that all is well.
func (t *MedianTracker) Err() error {
	t.state.Lock()
	err := join(t.local.err(), t.failed)
	t.state.Unlock()
	if t.client != nil {
		err = join(t.account.err(), err)
	}
	return err
}

// Close ships what was added and waits up to 30 s until it is counted; an
// *UnsentError says what could not be sent. A second Close returns ErrClosed.
func (t *MedianTracker) Close() error {
	t.state.Lock()
	closed := t.closed
	t.closed = true
	t.state.Unlock()
	if closed {
		return ErrClosed
	}
	t.shut()
	if t.client == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if t.owned {
		return t.client.Close(ctx)
	}
	err := t.client.flush(ctx, []*account{&t.account})
	t.client.leave(&t.account)
	return err
}

func (t *MedianTracker) lost(e *RefusedError, nodeID string) {
	if t.client != nil {
		t.loseValue(*e, string(t.metric), nodeID, 1)
		return
	}
	one := *e
	one.Values = 1
	t.state.Lock()
	defer t.state.Unlock()
	t.local.add(one)
	t.fresh.add(one)
}

func (t *MedianTracker) shut() { t.refuseAll(errClosedValues) }

func (t *MedianTracker) refuseAll(e *RefusedError) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		if s.refuse == nil {
			s.refuse = e
		}
		s.mu.Unlock()
	}
}

// drain hands out what was counted. Sketches are encoded with the lock
// released, so that nobody who adds waits for that.
func (t *MedianTracker) drain(start int64, emit emitFunc) {
	var found []drained
	for i := range t.shards {
		found = t.shards[i].drain(start, found[:0])
		for _, d := range found {
			emit(t.metric, d.node, start, d.sketch)
		}
		clear(found)
	}
}

func (t *MedianTracker) count(s *Stats) {
	for i := range t.shards {
		h := &t.shards[i]
		h.mu.Lock()
		for _, r := range h.nodes {
			s.Values += r.now.Count()
		}
		h.mu.Unlock()
	}
}
