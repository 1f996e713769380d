package client

import "sync/atomic"

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
	handle *Handle
	closed bool

	_ [64]byte // keeps the next one's owner off the cache line
}

// Local returns a Local for the calling goroutine.
func (h *Handle) Local() *Local {
	h.recorder.locals.Add(1)
	open := &h.recorder.client.openNow
	return &Local{open: open, bucket: open.Load(), handle: h}
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
		l.handle.mu.Lock()
		l.handle.lostAs(errClosedValues, 1)
		return
	}
	l.values[0], l.n = v, 1
}

// AddInts counts every value of vs, at once.
func (l *Local) AddInts(vs []int64) {
	l.Flush()
	l.handle.AddInts(vs)
}

// Flush hands over what is held back to the Handle: from then on it is like
// values added there.
func (l *Local) Flush() {
	if l.closed {
		return
	}
	if l.n > 0 {
		l.handle.take(l.bucket, l.values[:l.n])
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
	l.handle.recorder.locals.Add(-1)
}

// take counts values that belong to a bucket: the open one, or one that ended
// before its owner came by.
func (h *Handle) take(bucket int64, vs []int64) {
	h.mu.Lock()
	if h.refuse != nil {
		_ = h.lost(uint64(len(vs))) // booked; AddInt returns no error
		return
	}
	if bucket == h.recorder.client.openNow.Load() {
		h.now.AddInts(vs)
		h.mu.Unlock()
		return
	}
	s := h.explicit(bucket)
	for _, v := range vs {
		s.AddInt(v)
	}
	h.mu.Unlock()
}
