package client

import (
	"fmt"
	"sync"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// bucketSeconds is the width of the buckets that clients count into, seconds.
// It is the finest that clusters store; where one stores coarser only, starts
// are floored again when a batch is made up.
const bucketSeconds = 10

// maxOwnBuckets bounds the explicit buckets (AddIntAt) that one handle holds
// open. Past it they are encoded and queued: a larger bound makes fewer and
// fuller sketches of values that come in no order, and costs memory.
const maxOwnBuckets = 256

// Handle counts the values of one node and metric. It is safe for concurrent
// use and allocates nothing once it has seen its range of values.
//
// A value goes into the bucket of time that the client last opened: once every
// ten seconds by the wall clock, in the background. Reading the clock for
// every value would cost several times the adding. AddIntAt and AddAt take the
// time from the caller.
type Handle struct {
	mu  sync.Mutex // guards what follows, up to the gap
	now sketch.Recorder
	own map[int64]*sketch.Sketch // explicit buckets, by start

	shares []*share // of Locals

	// Set when values are not wanted: the names are no good, or it is closed.
	refuse *RefusedError
	idle   bool // nothing came since the last drain

	recorder *Recorder
	metric   window.Metric
}

// AddInt counts v.
func (h *Handle) AddInt(v int64) {
	h.mu.Lock()
	if h.refuse != nil {
		h.lost(1)
		return
	}
	h.now.AddInt(v)
	h.mu.Unlock()
}

// AddInts counts every value of vs, at less cost than one by one.
func (h *Handle) AddInts(vs []int64) {
	h.mu.Lock()
	if h.refuse != nil {
		h.lost(uint64(len(vs)))
		return
	}
	h.now.AddInts(vs)
	h.mu.Unlock()
}

// AddIntN counts v n times; n = 0 does nothing. A sketch holds at most
// sketch.MaxCount values: one with more is refused when it is to be sent.
func (h *Handle) AddIntN(v int64, n uint64) {
	if n == 0 {
		return
	}
	h.mu.Lock()
	if h.refuse == nil && n > sketch.MaxCount {
		h.lostAs(tooMany(n), n)
		return
	}
	if h.refuse != nil {
		h.lost(n)
		return
	}
	h.now.AddIntN(v, n)
	h.mu.Unlock()
}

// Add counts f. NaN and the infinities are refused with ErrNotFinite.
func (h *Handle) Add(f float64) error { return h.AddN(f, 1) }

// AddN counts f n times.
func (h *Handle) AddN(f float64, n uint64) error {
	if n == 0 {
		return nil
	}
	h.mu.Lock()
	if h.refuse != nil {
		return h.lost(n)
	}
	if n > sketch.MaxCount {
		return h.lostAs(tooMany(n), n)
	}
	if err := h.now.AddN(f, n); err != nil {
		h.lostAs(notFinite(f), n)
		return err
	}
	h.mu.Unlock()
	return nil
}

// Adds counts every value of fs that is finite, at less cost than one by one.
// Others are refused, and make it return ErrNotFinite.
func (h *Handle) Adds(fs []float64) (err error) {
	for len(fs) > 0 {
		n := h.adds(fs)
		if n == len(fs) {
			return err
		}
		h.mu.Lock()
		if h.refuse != nil {
			return h.lost(uint64(len(fs) - n))
		}
		_ = h.lostAs(notFinite(fs[n]), 1) // booked; the sentinel is returned
		err, fs = ErrNotFinite, fs[n+1:]
	}
	return err
}

// adds counts values up to the first that is refused, and returns how many.
func (h *Handle) adds(fs []float64) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return 0
	}
	for i, f := range fs {
		if h.now.Add(f) != nil {
			return i
		}
	}
	return len(fs)
}

// AddIntAt counts v in the bucket that holds t. What is too old or too new for
// the cluster is refused there, and reported by Flush and Err. It never waits:
// somebody who loads much at once calls Flush every some ten thousand values,
// lest Options.MaxPendingBytes is reached.
func (h *Handle) AddIntAt(t time.Time, v int64) {
	s, ok := h.bucket(t)
	if !ok {
		return
	}
	s.AddInt(v)
	h.mu.Unlock()
}

// AddAt counts f in the bucket that holds t.
func (h *Handle) AddAt(t time.Time, f float64) error {
	// Refused before a bucket is opened for it.
	if _, err := sketch.Float(f); err != nil {
		h.mu.Lock()
		h.lostAs(notFinite(f), 1)
		return err
	}
	s, ok := h.bucket(t)
	if !ok {
		return h.why()
	}
	defer h.mu.Unlock()
	return s.Add(f)
}

// bucket returns the sketch of the bucket that holds t, with the lock held, or
// false without it when values are refused.
func (h *Handle) bucket(t time.Time) (*sketch.Sketch, bool) {
	start := window.Width(bucketSeconds).Floor(t.Unix())
	h.mu.Lock()
	if h.refuse != nil {
		h.lost(1)
		return nil, false
	}
	if start < window.MinTime || start >= window.MaxTime {
		h.lostAs(&RefusedError{Reason: ReasonRange, Field: "time", Message: fmt.Sprintf("%v is out of range", t)}, 1)
		return nil, false
	}
	return h.explicit(start), true
}

// explicit returns the sketch of the bucket that begins at start. The lock is
// held.
func (h *Handle) explicit(start int64) *sketch.Sketch {
	s := h.own[start]
	if s == nil {
		if len(h.own) >= maxOwnBuckets {
			h.spill()
		}
		if h.own == nil {
			h.own = make(map[int64]*sketch.Sketch)
		}
		s = new(sketch.Sketch)
		h.own[start] = s
	}
	return s
}

// why repeats the reason of the last refusal by bucket.
func (h *Handle) why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return h.refuse
	}
	return &RefusedError{Reason: ReasonRange, Field: "time"}
}

// spill queues the explicit buckets. The lock is held.
func (h *Handle) spill() {
	out := newDeltas(&h.recorder.account)
	for start, s := range h.own {
		out.emit(h.metric, h.recorder.node, start, s)
	}
	clear(h.own)
	h.recorder.client.enqueue(out)
}

// lost books n values as lost for the reason of h.refuse. It takes over the
// lock, and releases it.
func (h *Handle) lost(n uint64) error { return h.lostAs(h.refuse, n) }

func (h *Handle) lostAs(e *RefusedError, n uint64) error {
	h.mu.Unlock()
	h.recorder.loseValue(*e, string(h.metric), h.recorder.node, n)
	return e
}

func notFinite(f float64) *RefusedError {
	return &RefusedError{Reason: ReasonNotFinite, Field: "value", Message: fmt.Sprintf("%v is not a finite number", f)}
}

func tooMany(n uint64) *RefusedError {
	return &RefusedError{Reason: ReasonRange, Field: "count",
		Message: fmt.Sprintf("%d values are too many for one sketch", n), Limit: fmt.Sprint(uint64(sketch.MaxCount))}
}

// drain hands out what was counted since the last one.
func (h *Handle) drain(start int64, emit emitFunc) {
	h.mu.Lock()
	own := h.own
	h.own = nil
	var s *sketch.Sketch
	switch {
	case h.now.Count() > 0:
		s, h.idle = h.now.Drain(), false
	case !h.idle:
		// A bucket went by without a value: give the memory back.
		h.now, h.idle = sketch.Recorder{}, true
	}
	s = h.drainShares(s)
	h.mu.Unlock()

	if same := own[start]; s != nil && same != nil {
		s.Merge(same)
		delete(own, start)
	}
	if s != nil {
		emit(h.metric, h.recorder.node, start, s)
	}
	for start, s := range own {
		emit(h.metric, h.recorder.node, start, s)
	}
}

// drainLate hands out what was counted into explicit buckets since the last
// drain.
func (h *Handle) drainLate(emit emitFunc) {
	h.mu.Lock()
	own := h.own
	h.own = nil
	h.mu.Unlock()
	for start, s := range own {
		emit(h.metric, h.recorder.node, start, s)
	}
}

func (h *Handle) shut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse == nil {
		h.refuse = errClosedValues
	}
	for _, s := range h.shares {
		s.mu.Lock()
		s.refuse = h.refuse
		s.mu.Unlock()
	}
}

// pending returns how many values were counted since the last drain.
func (h *Handle) pending() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.now.Count()
	for _, s := range h.shares {
		s.mu.Lock()
		n += s.now.Count()
		s.mu.Unlock()
	}
	for _, s := range h.own {
		n += s.Count()
	}
	return n
}
