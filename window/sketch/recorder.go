package sketch

import "math"

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
	// pages of both signs by octave: that of octave o is 2(o-octave), of negative
	// values the one behind. Nil until there are more than 64 bins.
	pages []*page
	base  uint32 // 2·octave

	least, greatest int64 // of the integers in pages
	sumLow, sumHigh uint64
	counted         uint64 // values in pages

	// rest holds what does not go into pages: all values until there are pages,
	// then zeros, and the extremes of floats.
	rest Sketch
}

// sparseBins is how many bins a recorder lists before it takes pages, which are
// a kilobyte for each octave.
const sparseBins = 64

// page counts the bins of an octave of one sign in 64 bits each. The high halves
// are there from the first carry on.
type page struct {
	low  [1 << maxScale]uint32
	high *[1 << maxScale]uint32
}

func (p *page) add(slot uint8, n uint64) {
	sum := uint64(p.low[slot]) + n&math.MaxUint32
	p.low[slot] = uint32(sum)
	if carry := n>>32 + sum>>32; carry > 0 {
		if p.high == nil {
			p.high = new([1 << maxScale]uint32)
		}
		p.high[slot] += uint32(carry)
	}
}

func (p *page) count(slot int) uint64 {
	n := uint64(p.low[slot])
	if p.high != nil {
		n |= uint64(p.high[slot]) << 32
	}
	return n
}

// AddInt adds v.
func (r *Recorder) AddInt(v int64) { r.AddIntN(v, 1) }

// AddInts adds every one of vs.
func (r *Recorder) AddInts(vs []int64) {
	for _, v := range vs {
		r.AddInt(v)
	}
}

// AddIntN adds v n times. Adding it zero times does nothing.
func (r *Recorder) AddIntN(v int64, n uint64) { r.rest.AddIntN(v, n) }

// Add adds v. It returns ErrNotFinite, and adds nothing, for NaN and ±Inf.
func (r *Recorder) Add(v float64) error { return r.AddN(v, 1) }

// AddN adds v n times. It returns ErrNotFinite, and adds nothing, for NaN and ±Inf.
func (r *Recorder) AddN(v float64, n uint64) error { return r.rest.AddN(v, n) }

// Count returns how many values were added since the last Drain.
func (r *Recorder) Count() uint64 { return r.counted + r.rest.count }

// Sketch returns the values so far as a sketch of precision 8.
func (r *Recorder) Sketch() *Sketch { return r.rest.Clone() }

// Drain returns the values so far as a sketch of precision 8, and empties the
// recorder.
func (r *Recorder) Drain() *Sketch {
	s := r.Sketch()
	r.rest.Reset()
	return s
}
