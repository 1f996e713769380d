package storage

import (
	"cmp"
	"slices"
	"sync"

	"github.com/distributed-median-tracker/dmt/window"
)

// metric is a metric in the catalogue.
type metric struct {
	name   string
	number uint32

	// fleetMu guards the fleet sketches of all head buckets of the metric. Who
	// asks for them takes the view while holding it: then no bucket is ever
	// merged beyond what the view shows.
	fleetMu sync.Mutex
}

// delta is an encoded sketch as it came, not decoded.
type delta struct {
	sketch []byte
	count  uint64
	node   uint32
	late   bool // came when the fleet's base bucket was not kept any more
}

// headBucket holds the deltas of one metric and base bucket. deltas is only
// appended to: a view of it is its length.
type headBucket struct {
	start  int64
	deltas []delta

	// fleet is the merge of the first merged deltas, encoded. It is replaced,
	// never written to. metric.fleetMu guards both.
	merged int
	fleet  []byte
}

// head is what was applied and is not in the file yet. DB.mu guards it while it
// is the current one; once frozen it does not change.
type head struct {
	metrics map[uint32]map[int64]*headBucket
	slab    slab
	bytes   int64 // of deltas and new names, with what holding them costs

	settled   []settlement
	important bool // holds more than ticks

	// end is what the state machine was when the head was frozen.
	end     state
	cluster Cluster
	config  configuration
}

// deltaOverhead is about what a delta occupies beside its sketch, and what the
// settling of a batch occupies.
const deltaOverhead = 64

func newHead() *head { return &head{metrics: make(map[uint32]map[int64]*headBucket)} }

// add appends a delta. The sketch is copied: it may alias a log entry of many
// times its size.
func (h *head) add(metric uint32, start int64, node uint32, d *Delta, late bool) {
	buckets := h.metrics[metric]
	if buckets == nil {
		buckets = make(map[int64]*headBucket)
		h.metrics[metric] = buckets
	}
	b := buckets[start]
	if b == nil {
		b = &headBucket{start: start}
		buckets[start] = b
	}
	b.deltas = append(b.deltas, delta{h.slab.copy(d.Sketch), d.Count, node, late})
	h.bytes += int64(len(d.Sketch)) + deltaOverhead
}

// slabSize is how much memory is taken at once. Larger wastes more at the end,
// smaller is more work for the garbage collector.
const slabSize = 1 << 20

// slab copies small byte slices into large ones.
type slab struct{ free []byte }

func (s *slab) copy(b []byte) []byte {
	if len(b) > cap(s.free)-len(s.free) {
		s.free = make([]byte, 0, max(slabSize, len(b)))
	}
	at := len(s.free)
	s.free = append(s.free, b...)
	return s.free[at:len(s.free):len(s.free)]
}

// bucketView is a head bucket as it was at one index.
type bucketView struct {
	bucket *headBucket
	start  int64
	deltas []delta

	// fleet stands for the first merged deltas. Only views for fleet rows set it.
	merged int
	fleet  []byte
}

// view returns the buckets of a metric in a span, in no order.
func (h *head) view(dst []bucketView, metric uint32, span window.Span) []bucketView {
	for start, b := range h.metrics[metric] {
		if span.Contains(start) {
			dst = append(dst, bucketView{bucket: b, start: start, deltas: b.deltas})
		}
	}
	return dst
}

// byNode returns the deltas sorted by node, in dst.
func byNode(dst, deltas []delta) []delta {
	dst = append(dst[:0], deltas...)
	slices.SortFunc(dst, func(a, b delta) int { return cmp.Compare(a.node, b.node) })
	return dst
}
