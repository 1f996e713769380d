package client

import (
	"sync"
	"sync/atomic"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// localValues is how many values a Local holds back at most. More would spread
// the cost of handing them over further, which is 0.1 ns a value already, and
// cost 8 bytes each.
const localValues = 128

// Local counts for a Handle on behalf of one goroutine, without a lock and
// without an atomic operation but one load: a third of what Handle.AddInt
// costs, at any number of goroutines. It is NOT safe for concurrent use: each
// goroutine takes its own from Handle.Local, and closes it.
//
// A Local holds up to 128 values back. It hands them over when it is full, with
// the first value that is added after the bucket ended, and with Flush or
// Close. So whoever adds much is never behind, and whoever pauses in the middle
// calls Flush first: what is held back is in no shipment, no Flush or Close of
// the Recorder waits for it, and it is lost with the process. It is counted in
// its own bucket of time, however late it is handed over.
type Local struct {
	open   *atomic.Int64 // start of the bucket that the client has open
	bucket int64         // the one that the values held back belong to
	n      int
	values [localValues]int64
	share  *share
	closed bool

	_ [64]byte // keeps the next one's owner off the cache line
}

// share is what one Local has handed over: a part of what its Handle counts,
// under a lock of its own, so that Locals do not wait for each other.
type share struct {
	handle *Handle

	mu     sync.Mutex // guards what follows; taken after Handle.mu
	now    sketch.Recorder
	idle   bool
	refuse *RefusedError
	closed bool // the Local is: nothing more will come
}

// Local returns a Local for the calling goroutine, which has to close it: until
// then it takes the memory of a Handle.
func (h *Handle) Local() *Local {
	h.recorder.locals.Add(1)
	open := &h.recorder.client.openNow
	s := &share{handle: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.refuse = h.refuse
	h.shares = append(h.shares, s)
	return &Local{open: open, bucket: open.Load(), share: s}
}

// AddInt counts v.
func (l *Local) AddInt(v int64) {
	n := l.n
	if uint(n) < localValues && l.bucket == l.open.Load() {
		l.values[n] = v
		l.n = n + 1
		return
	}
	l.next(v)
}

// next hands over what is held back, and begins with v.
func (l *Local) next(v int64) {
	l.Flush()
	if l.closed {
		h := l.share.handle
		h.mu.Lock()
		_ = h.lostAs(errClosedValues, 1) // booked; AddInt returns no error
		return
	}
	l.values[0], l.n = v, 1
}

// AddInts counts every value of vs, at once.
func (l *Local) AddInts(vs []int64) {
	l.Flush()
	l.share.handle.AddInts(vs)
}

// Flush hands over what is held back to the Handle: from then on it is like
// values added there.
func (l *Local) Flush() {
	if l.closed {
		return
	}
	if l.n > 0 {
		l.share.take(l.bucket, l.values[:l.n])
		l.n = 0
	}
	l.bucket = l.open.Load()
}

// Close flushes and ends the Local: values added later are refused. A second
// Close does nothing.
func (l *Local) Close() {
	if l.closed {
		return
	}
	l.Flush()
	l.closed, l.n = true, localValues // so that AddInt looks
	l.share.mu.Lock()
	l.share.closed = true
	l.share.mu.Unlock()
	l.share.handle.recorder.locals.Add(-1)
}

// take counts values that belong to a bucket: the open one, or one that ended
// before its owner came by.
func (s *share) take(bucket int64, vs []int64) {
	h := s.handle
	s.mu.Lock()
	if s.refuse == nil && bucket == h.recorder.client.openNow.Load() {
		s.now.AddInts(vs)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	h.mu.Lock()
	if h.refuse != nil {
		_ = h.lost(uint64(len(vs))) // booked; AddInt returns no error
		return
	}
	late := h.explicit(bucket)
	for _, v := range vs {
		late.AddInt(v)
	}
	h.mu.Unlock()
}

// drainShares adds what Locals have handed over to s, which is nil if there is
// nothing else, and forgets those that are closed. The lock is held.
func (h *Handle) drainShares(s *sketch.Sketch) *sketch.Sketch {
	kept := h.shares[:0]
	for _, x := range h.shares {
		x.mu.Lock()
		switch {
		case x.now.Count() > 0:
			part := x.now.Drain()
			x.idle = false
			if s == nil {
				s = part
			} else {
				s.Merge(part)
			}
		case !x.idle:
			x.now, x.idle = sketch.Recorder{}, true
		}
		if !x.closed {
			kept = append(kept, x)
		}
		x.mu.Unlock()
	}
	clear(h.shares[len(kept):])
	h.shares = kept
	return s
}
