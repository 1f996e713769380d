package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// RecorderOptions tune a Recorder. The zero value is right for production.
type RecorderOptions struct {
	// FlushEvery is how often to ship; 0 means Options.FlushEvery.
	FlushEvery time.Duration

	// Spool names a directory in which the client keeps what is not
	// acknowledged yet, so that it survives the process: at the latest a moment
	// after each bucket's end, and when Sync returns. The program has to import
	// client/spool. A client has one spool, which all its recorders and
	// trackers share from then on, and a directory belongs to one client at a
	// time. Where it cannot be opened, the recorder works without and says so
	// in Err; Options.Spool is for those who would rather not start.
	Spool string
}

// Recorder counts the values of one node. It is safe for concurrent use.
type Recorder struct {
	account
	node string
	bad  *RefusedError // the node id is no good: every value is refused
	note error         // what Err says besides losses

	gone   atomic.Bool  // closed
	locals atomic.Int64 // not closed yet

	mu      sync.RWMutex // guards the two below
	handles map[string]*Handle
	list    []*Handle
}

// Recorder returns a recorder for a node, an opaque id of 1..256 bytes of
// printable UTF-8. A bad id is reported by Err, Flush and every value added.
// Several recorders may count for one node: their values add up.
func (c *Client) Recorder(node string, o RecorderOptions) *Recorder {
	r := &Recorder{node: node, handles: make(map[string]*Handle)}
	if err := window.CheckNode(node); err != nil {
		r.bad = refusal(err, ReasonBadNode)
	}
	if o.Spool != "" {
		if err := c.openSpool(o.Spool); err != nil {
			r.note = err
			c.log.Error("recorder has no spool", "node", node, "error", err)
		}
	}
	if o.FlushEvery <= 0 {
		o.FlushEvery = c.options.FlushEvery
	}
	r.account = account{client: c, source: r, every: max(o.FlushEvery, minFlushEvery)}
	if !c.enrol(&r.account) {
		r.shut()
	}
	return r
}

// refusal describes bad input. With a reason it is counted under that, whatever
// is wrong in particular.
func refusal(err error, reason string) *RefusedError {
	r := &RefusedError{Reason: reason, Message: err.Error()}
	if in := (*window.InputError)(nil); errors.As(err, &in) {
		r.Field, r.Limit, r.Message = in.Field, in.Limit, in.Message
		if reason == "" {
			r.Reason = in.Reason
		}
	}
	return r
}

// Metric returns the handle for counting under a metric: a name, or a name
// with labels, latency_us{route="/cart"}. The same metric gives the same
// handle. A handle is safe for concurrent use; where several goroutines count
// the same thing as fast as they can, give each a Recorder of its own. What
// is not a metric gets a handle whose values are refused, as Flush and Err
// report.
func (r *Recorder) Metric(name string) *Handle {
	r.mu.RLock()
	h := r.handles[name]
	r.mu.RUnlock()
	if h != nil {
		return h
	}
	metric, err := window.ParseMetric(name)
	if err != nil {
		return &Handle{recorder: r, metric: window.Metric(name), refuse: refusal(err, ReasonBadMetric)}
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.handles[string(metric)]; h != nil {
		return h // another spelling; only the canonical one is remembered
	}
	h = &Handle{recorder: r, metric: metric, refuse: r.bad}
	if h.refuse == nil && r.gone.Load() {
		h.refuse = errClosedValues
	}
	r.handles[string(metric)] = h
	r.list = append(r.list, h)
	return h
}

// errClosedValues refuses what is added after Close.
var errClosedValues = &RefusedError{Reason: ReasonClosed, Message: "added after Close"}

// AddInt counts v under a metric. It finds the handle by name: hot loops hold
// one from Metric.
func (r *Recorder) AddInt(metric string, v int64) { r.Metric(metric).AddInt(v) }

// AddInts counts every value of vs.
func (r *Recorder) AddInts(metric string, vs []int64) { r.Metric(metric).AddInts(vs) }

// Adds counts every value of fs that is finite; see Handle.Adds.
func (r *Recorder) Adds(metric string, fs []float64) error { return r.Metric(metric).Adds(fs) }

// AddIntN counts v n times.
func (r *Recorder) AddIntN(metric string, v int64, n uint64) { r.Metric(metric).AddIntN(v, n) }

// AddIntAt counts v in the bucket that holds t.
func (r *Recorder) AddIntAt(metric string, t time.Time, v int64) { r.Metric(metric).AddIntAt(t, v) }

// Add counts f, or refuses NaN and the infinities with ErrNotFinite.
func (r *Recorder) Add(metric string, f float64) error { return r.Metric(metric).Add(f) }

// AddN counts f n times.
func (r *Recorder) AddN(metric string, f float64, n uint64) error { return r.Metric(metric).AddN(f, n) }

// AddAt counts f in the bucket that holds t.
func (r *Recorder) AddAt(metric string, t time.Time, f float64) error {
	return r.Metric(metric).AddAt(t, f)
}

// Node returns the node id.
func (r *Recorder) Node() string { return r.node }

// Err returns everything that was lost so far, by reason: what the cluster
// refused, bad names, and what memory had no room for; and why the spool does
// not work, if one was asked for. Nil means that all is well.
func (r *Recorder) Err() error {
	err := r.err()
	if r.bad != nil && err == nil {
		err = r.bad
	}
	return join(r.note, r.client.spoolError(), err)
}

// Flush returns nil when everything added before the call is counted by the
// cluster. An *UnsentError says what is still on its way when ctx ends; a
// *RefusedError (several are joined) says what was lost since the last Flush.
func (r *Recorder) Flush(ctx context.Context) error {
	if r.gone.Load() {
		return ErrClosed
	}
	err := r.client.flush(ctx, []*account{&r.account})
	if err == nil && r.bad != nil {
		return r.bad
	}
	return err
}

// Close flushes and gives the recorder up: values added later are refused. What
// ctx left no time for is in the *UnsentError; the client goes on trying until
// it is closed itself. A second Close returns ErrClosed.
func (r *Recorder) Close(ctx context.Context) error {
	if r.gone.Swap(true) {
		return ErrClosed
	}
	r.shut()
	err := r.client.flush(ctx, []*account{&r.account})
	r.client.leave(&r.account)
	err = join(err, r.openLocals())
	if err == nil && r.bad != nil {
		return r.bad
	}
	return err
}

func (r *Recorder) handlesNow() []*Handle {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.list[:len(r.list):len(r.list)]
}

func (r *Recorder) drain(start int64, emit emitFunc) {
	for _, h := range r.handlesNow() {
		h.drain(start, emit)
	}
}

// drainLate hands out what came for buckets that have been drained before.
func (r *Recorder) drainLate(emit emitFunc) {
	for _, h := range r.handlesNow() {
		h.drainLate(emit)
	}
}

// openLocals reports Locals that were not closed. What they hold back only
// their owners can know.
func (r *Recorder) openLocals() error {
	if n := r.locals.Load(); n > 0 {
		return fmt.Errorf("client: node %q: %d Locals were not closed, each may hold back up to %d values", r.node, n, localValues)
	}
	return nil
}

func (r *Recorder) shut() {
	r.gone.Store(true)
	for _, h := range r.handlesNow() {
		h.shut()
	}
}

func (r *Recorder) count(s *Stats) {
	for _, h := range r.handlesNow() {
		s.Values += h.pending()
	}
}
