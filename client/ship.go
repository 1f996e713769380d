package client

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	// batchBytes and batchEntries bound a batch. Larger ones cost fewer
	// requests; smaller ones share the log better with other producers, and
	// cost less to repeat. api.MaxRequestBytes is eight times this.
	batchBytes   = 1 << 20
	batchEntries = api.MaxBatchEntries

	// compressFrom is the size from which a request is compressed. Sketches
	// themselves are dense, but the names around them repeat: gzip takes 75 %
	// off a batch of sketches with 10 values each, 50 % at 100 values and 25 %
	// at 1000, at 20 to 100 MB/s; a batch of one sketch it makes 10 to 25 bytes
	// longer (BenchmarkCompress). One sketch of 1000 values is below the bound.
	compressFrom = 512

	// maxSends bounds how often a sketch is put into a new batch because its
	// batch was refused for the sake of others.
	maxSends = 16

	// lifetime is how long without an answer a producer waits before it takes
	// a new life and asks for the log clock again. The cluster forgets one
	// after a week.
	lifetime = 24 * time.Hour

	// maxSkew is by how much the own clock may differ from the cluster's before
	// somebody should know: values land in the wrong bucket from 10 s on. Said
	// at most once in warnEvery.
	maxSkew   = 5 * time.Second
	warnEvery = time.Hour
)

// cluster is what a client has learned about the other side.
type cluster struct {
	id        string
	precision int
	base      window.Width
	clockMs   int64     // greatest log clock told
	heard     time.Time // when something of this was last confirmed
}

func (k *cluster) known(now time.Time) bool {
	return k.precision != 0 && now.Sub(k.heard) < lifetime
}

// batch is what was put on its way under one number.
type batch struct {
	producer *producer
	seq      uint64
	seenMs   int64
	cluster  cluster
	deltas   []*delta
	entries  []record.Entry // of the deltas, as they go out: the same bytes every time
	doubt    bool           // some try may have been counted

	// For the spool.
	created int64 // unix seconds
	void    bool  // refused: an empty batch may have gone out under its number
	stored  bool  // the file holds it, or may
	saved   bool  // the file holds it as it is
}

// pump puts batches on their way, as many as may be. c.mu is held.
func (c *Client) pump() {
	for c.inFlight < c.options.MaxInFlight && c.life.Err() == nil {
		if len(c.queue.replays) > 0 {
			b := c.queue.replays[0]
			c.queue.replays = c.queue.replays[1:]
			c.inFlight++
			c.work.Go(func() { c.deliver(b) })
			continue
		}
		if len(c.queue.ready) == 0 {
			return
		}
		if !c.cluster.known(time.Now()) {
			if !c.learning {
				c.learning = true
				c.work.Go(c.learn)
			}
			return
		}
		if !c.producer.room() {
			return
		}
		b := c.nextBatch()
		if b == nil {
			return
		}
		c.inFlight++
		c.work.Go(func() { c.deliver(b) })
	}
}

// nextBatch numbers the oldest deltas. It returns nil if none may be sent as
// long as the spool is broken. c.mu is held.
func (c *Client) nextBatch() *batch {
	if c.spool != nil && c.spool.broken != nil {
		// What the file holds has to stay there until it can be written. What
		// is new may pass.
		slices.SortStableFunc(c.queue.ready, func(a, b *delta) int { return cmp.Compare(btoi(a.stored), btoi(b.stored)) })
		if c.queue.ready[0].stored {
			return nil
		}
	}
	limit := c.queue.limit
	if limit == 0 {
		limit = batchBytes
	}
	n, bytes := 0, int64(0)
	for n < len(c.queue.ready) && n < batchEntries && (n == 0 || c.sendable(c.queue.ready[n])) {
		bytes += c.queue.ready[n].wire()
		if n > 0 && bytes > limit {
			break
		}
		n++
	}
	b := &batch{
		producer: c.producer,
		seq:      c.producer.number(),
		seenMs:   c.cluster.clockMs,
		cluster:  c.cluster,
		deltas:   c.queue.ready[:n:n],
		entries:  make([]record.Entry, n),
		created:  time.Now().Unix(),
	}
	for i, d := range b.deltas {
		d.sends++
		b.entries[i] = record.Entry{
			Metric: string(d.metric), Node: d.node,
			Start:  b.cluster.base.Floor(d.start),
			Sketch: d.at(b.cluster.precision),
		}
	}
	c.queue.ready = c.queue.ready[n:]
	c.keepBatch(b)
	return b
}

// sendable says that a delta may be numbered, the spool being as it is.
func (c *Client) sendable(d *delta) bool {
	return c.spool == nil || c.spool.broken == nil || !d.stored
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// learn asks for the cluster's settings, until it is told.
func (c *Client) learn() {
	status, err := attempt(c.life, c, policy{stubborn: true}, func(ctx context.Context, m *member) (*connect.Response[dmtv1.StatusResponse], error) {
		res, err := m.Status(ctx, connect.NewRequest(&dmtv1.StatusRequest{}))
		if err == nil && (res.Msg.GetClusterId() == "" || !validPrecision(res.Msg.GetPrecision())) {
			return nil, api.Error(connect.CodeUnavailable, api.ErrorDetail{Reason: api.ReasonNoLeader}, "the cluster has not formed yet")
		}
		return res, err
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.learning = false
	if err != nil {
		return // the client is closed
	}
	if c.producer.idle() {
		c.producer = newProducer()
	}
	c.cluster = cluster{
		id:        status.Msg.GetClusterId(),
		precision: int(status.Msg.GetPrecision()),
		base:      baseWidth(status.Msg.GetTiers()),
		clockMs:   status.Msg.GetClock().AsTime().UnixMilli(),
		heard:     time.Now(),
	}
	c.pump()
}

func validPrecision(p uint32) bool { return p >= sketch.MinPrecision && p <= sketch.MaxPrecision }

// baseWidth returns the finest width stored.
func baseWidth(tiers []*dmtv1.Tier) window.Width {
	if len(tiers) > 0 {
		if d, err := window.ParseDuration(tiers[0].GetWidth()); err == nil && d >= time.Second {
			return window.Width(d / time.Second)
		}
	}
	return bucketSeconds
}

// message makes up a batch as it goes on the wire. It is made once: every try
// sends the same bytes, by which the cluster knows a repetition.
func (b *batch) message() *dmtv1.Batch {
	m := b.empty()
	m.Entries = make([]*dmtv1.Entry, len(b.entries))
	for i, e := range b.entries {
		m.Entries[i] = &dmtv1.Entry{Metric: e.Metric, Node: e.Node, Start: e.Start, Sketch: e.Sketch}
	}
	return m
}

// empty is the batch without content, which settles its number.
func (b *batch) empty() *dmtv1.Batch {
	return &dmtv1.Batch{Producer: b.producer.id[:], Seq: b.seq, SeenMs: b.seenMs, ClusterId: b.cluster.id}
}

// at returns the sketch at a precision. Most are encoded at it already; those
// from before it was known are not.
func (d *delta) at(precision int) []byte {
	if int(d.precision) <= precision {
		return d.data
	}
	var s sketch.Sketch
	if s.UnmarshalBinary(d.data) != nil {
		return d.data // cannot be: we encoded it; the cluster will say so
	}
	s.Coarsen(precision)
	data, _ := s.AppendBinary(nil)
	return data
}

// deliver sends a batch until its fate is known or the client is closed.
func (c *Client) deliver(b *batch) {
	switch {
	case !c.onDisk(b):
		c.back(b)
	case b.void:
		c.settleVoid(b, judgement{}, nil)
	default:
		res, err := c.send(b, b.message())
		switch {
		case err == nil:
			c.accepted(b, res)
		case errors.Is(err, errEnded):
			c.back(b)
		default:
			c.refusedWhole(b, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	c.pump()
}

// send puts one message on the wire, again and again.
func (c *Client) send(b *batch, message *dmtv1.Batch) (*dmtv1.BatchResult, error) {
	request := &dmtv1.IngestRequest{Batches: []*dmtv1.Batch{message}}
	res, err := attempt(c.life, c, policy{doubt: &b.doubt}, func(ctx context.Context, m *member) (*connect.Response[dmtv1.IngestResponse], error) {
		res, err := m.Ingest(ctx, connect.NewRequest(request))
		if err == nil && len(res.Msg.GetResults()) != 1 {
			return nil, connect.NewError(connect.CodeUnknown, errors.New("answer without a result"))
		}
		return res, err
	})
	if err != nil {
		return nil, err
	}
	c.heard(res.Msg)
	return res.Msg.GetResults()[0], nil
}

// heard takes in what an acknowledgement tells about the cluster.
func (c *Client) heard(res *dmtv1.IngestResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if res.GetClusterId() != c.cluster.id {
		return
	}
	c.cluster.heard = time.Now()
	c.warnOfSkew(c.cluster.heard, res.GetClockMs())
	c.cluster.clockMs = max(c.cluster.clockMs, res.GetClockMs())
	if validPrecision(res.GetPrecision()) {
		c.cluster.precision = int(res.GetPrecision())
	}
}

// warnOfSkew compares the own clock with that of the log, which is fresh right
// after something was counted. c.mu is held.
func (c *Client) warnOfSkew(now time.Time, clockMs int64) {
	skew := now.Sub(time.UnixMilli(clockMs))
	if skew.Abs() > maxSkew && now.Sub(c.warned) > warnEvery {
		c.warned = now
		c.log.Warn("own clock differs from the cluster's", "ahead", skew)
	}
}
