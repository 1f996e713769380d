package sketch

import (
	"math"
	"math/bits"
	"slices"
)

// Recorder counts the values of one node, at scale 8, and hands them out as a
// sketch. It is made for the path that every value takes: where a Sketch looks
// for the bin, a recorder has a counter at a place that follows from the value.
//
// Up to 64 bins it keeps them as a list. Beyond, it keeps a page of 256 counters
// for each octave of either sign that a value fell into.
//
// The zero value is an empty recorder, ready for use. It is not safe for
// concurrent use.
type Recorder struct {
	// pages holds the page of octave o at 2o-first, for negative values behind
	// it. It is empty as long as there are few bins.
	pages []*page
	first int

	// Of the values counted in pages.
	counted                   uint64
	sum                       int128 // of the integers
	least, greatest           int64
	leastFloat, greatestFloat float64

	// rest is all else: every value while there are few bins. When there are
	// more, its bins move to pages, and what comes then are zeros only.
	rest Sketch
}

// sparseBins is how many bins a recorder lists before it takes pages. More would
// save memory where a node has few values, and make each of them slower to add.
const sparseBins = 64

// AddInt adds v.
func (r *Recorder) AddInt(v int64) {
	sign := v >> 63
	u := uint64((v ^ sign) - sign)
	i := index(u)
	at := uint(i>>maxScale<<1 - int(sign) - r.first)
	if u == 0 || at >= uint(len(r.pages)) || r.pages[at] == nil {
		r.addSlow(v, 1)
		return
	}
	r.pages[at].increment(uint8(i))
	r.counted++
	if v < r.least {
		r.least = v
	}
	if v > r.greatest {
		r.greatest = v
	}
	var carry uint64
	r.sum.low, carry = bits.Add64(r.sum.low, uint64(v), 0)
	r.sum.high += uint64(sign) + carry
}

// AddInts adds every one of vs.
func (r *Recorder) AddInts(vs []int64) {
	for len(vs) > 0 {
		n := r.addPaged(vs)
		if n == len(vs) {
			return
		}
		r.addSlow(vs[n], 1)
		vs = vs[n+1:]
	}
}

// addPaged is AddInt with the sums in registers. It returns how many of vs came
// before the first that is zero or has no page.
func (r *Recorder) addPaged(vs []int64) int {
	pages, first := r.pages, r.first
	least, greatest := r.least, r.greatest
	low, high := r.sum.low, r.sum.high
	n := 0
	for _, v := range vs {
		sign := v >> 63
		u := uint64((v ^ sign) - sign)
		i := index(u)
		at := uint(i>>maxScale<<1 - int(sign) - first)
		if u == 0 || at >= uint(len(pages)) || pages[at] == nil {
			break
		}
		pages[at].increment(uint8(i))
		least, greatest = min(least, v), max(greatest, v)
		var carry uint64
		low, carry = bits.Add64(low, uint64(v), 0)
		high += uint64(sign) + carry
		n++
	}
	r.counted += uint64(n)
	r.least, r.greatest, r.sum = least, greatest, int128{high, low}
	return n
}

// AddIntN adds v n times. Adding it zero times does nothing.
func (r *Recorder) AddIntN(v int64, n uint64) { r.addSlow(v, n) }

// addSlow adds zeros, integers to the list of bins, and those that need a page.
func (r *Recorder) addSlow(v int64, n uint64) {
	if len(r.pages) == 0 || v == 0 {
		r.rest.AddIntN(v, n)
		r.spread()
		return
	}
	if n == 0 {
		return
	}
	i, negative := Int(v).index()
	r.page(i, negative).add(uint8(i), n)
	r.counted += n
	r.least, r.greatest = min(r.least, v), max(r.greatest, v)
	r.sum = r.sum.add(product(v, n))
}

// Add adds v. It returns ErrNotFinite, and adds nothing, for NaN and ±Inf.
func (r *Recorder) Add(v float64) error { return r.AddN(v, 1) }

// AddN adds v n times. Adding it zero times does nothing. It returns
// ErrNotFinite, and adds nothing, for NaN and ±Inf.
func (r *Recorder) AddN(v float64, n uint64) error {
	if !finite(v) {
		return ErrNotFinite
	}
	if i, ok := asInt(v); ok {
		if n == 1 {
			r.AddInt(i)
		} else {
			r.addSlow(i, n)
		}
		return nil
	}
	if len(r.pages) == 0 {
		err := r.rest.AddN(v, n)
		r.spread()
		return err
	}
	if n > 0 {
		i := indexOfFloat(math.Abs(v))
		r.page(i, v < 0).add(uint8(i), n)
		r.counted += n
		r.leastFloat, r.greatestFloat = min(r.leastFloat, v), max(r.greatestFloat, v)
	}
	return nil
}

// Count returns how many values were added since the last Drain.
func (r *Recorder) Count() uint64 { return r.counted + r.rest.count }

// Sketch returns the values so far as a sketch of precision 8.
func (r *Recorder) Sketch() *Sketch {
	s := r.rest.Clone()
	if r.counted > 0 {
		head := r.head()
		s.absorb(&head)
	}
	if len(r.pages) > 0 {
		s.negative = r.appendBins(nil, 1)
		s.positive = r.appendBins(nil, 0)
		s.fit()
	}
	return s
}

// Drain returns the values so far as a sketch of precision 8, and empties the
// recorder. It keeps the pages that were used this time, so that the same kind
// of values will need no allocation, unless a list would do.
func (r *Recorder) Drain() *Sketch {
	s := r.Sketch()
	r.rest.Reset()
	if s.NumBins() <= sparseBins/2 {
		r.pages = nil
	}
	for k, p := range r.pages {
		if p != nil && !p.clear() {
			r.pages[k] = nil
		}
	}
	r.startPages()
	return s
}

// startPages begins to count in pages.
func (r *Recorder) startPages() {
	r.counted, r.sum = 0, int128{}
	r.least, r.greatest = math.MaxInt64, math.MinInt64
	r.leastFloat, r.greatestFloat = math.Inf(1), math.Inf(-1)
}

// head returns what the pages tell but for the bins.
func (r *Recorder) head() Sketch {
	h := Sketch{count: r.counted, sum: r.sum}
	h.floats = r.leastFloat <= r.greatestFloat
	switch {
	case !h.floats:
		h.min, h.max = Int(r.least), Int(r.greatest)
		return h
	case r.least > r.greatest:
		h.min, h.max = number(r.leastFloat), number(r.greatestFloat)
	default:
		h.min, h.max = Int(r.least), Int(r.greatest)
		if f := number(r.leastFloat); f.less(h.min) {
			h.min = f
		}
		if f := number(r.greatestFloat); h.max.less(f) {
			h.max = f
		}
	}
	return h
}

// spread moves the bins to pages once there are many.
func (r *Recorder) spread() {
	if r.rest.NumBins() <= sparseBins {
		return
	}
	r.startPages()
	for _, b := range r.rest.negative {
		r.page(b.index, true).add(uint8(b.index), b.count)
	}
	for _, b := range r.rest.positive {
		r.page(b.index, false).add(uint8(b.index), b.count)
	}
	r.rest.negative, r.rest.positive = nil, nil
}

// page returns the page of a bin, a new one if need be.
func (r *Recorder) page(i int32, negative bool) *page {
	key := int(i) >> maxScale << 1
	if len(r.pages) == 0 {
		r.first = key
	}
	if key < r.first {
		r.pages = slices.Concat(make([]*page, r.first-key), r.pages)
		r.first = key
	}
	if end := key - r.first + 2; end > len(r.pages) {
		r.pages = slices.Concat(r.pages, make([]*page, end-len(r.pages)))
	}
	at := key - r.first
	if negative {
		at++
	}
	if r.pages[at] == nil {
		r.pages[at] = new(page)
	}
	return r.pages[at]
}

// appendBins appends the bins of one sign, 0 for positive and 1 for negative.
func (r *Recorder) appendBins(bins []bin, sign int) []bin {
	n := 0
	for k := sign; k < len(r.pages); k += 2 {
		n += r.pages[k].used()
	}
	bins = slices.Grow(bins, n)
	for k := sign; k < len(r.pages); k += 2 {
		if p := r.pages[k]; p != nil {
			bins = p.appendTo(bins, int32(r.first+k)>>1<<maxScale)
		}
	}
	return bins
}
