// Package sketch summarises a multiset of numbers in a few hundred bytes, so
// that any quantile of it can be told with an interval that is certain to hold
// the true one.
//
// A sketch is canonical: its bytes are a function of the multiset of values and
// of the precision alone. Values may come in any order, be split over any
// number of sketches and be merged in any tree; the result is the same to the
// last byte. So sketches are compared by comparing bytes.
//
// Values are exact reals: every int64 and every finite float64, both signs, at
// full range. Count, minimum, maximum, the number of zeros and the sum of
// integers are exact. Everything else is counted in bins whose bounds grow by a
// factor of 2^(1/2^s); s, the scale, is the precision of the sketch until it
// would need more than MaxBins bins, and then the finest that does not.
//
// The package imports the standard library only. It has no clock, no
// randomness, no goroutine, and adds no float anywhere, so that every machine
// computes the same bytes. DESIGN.md says why it is built so.
package sketch

import (
	"errors"
	"math/big"
	"slices"
)

const (
	// MaxBins is the most bins a sketch holds, both signs together. More would
	// keep wide data at a finer scale, for more bytes; the figure is part of the
	// encoding, version 1, and cannot change without another version.
	MaxBins = 4096

	// MinPrecision to MaxPrecision are the precisions a sketch may have: half
	// the width of an interval is 1.08 %, 0.54 %, 0.27 % and 0.135 % for 5 to 8.
	MinPrecision = 5
	// MaxPrecision is the finest, the scale at which nodes count.
	MaxPrecision = maxScale
	// DefaultPrecision is what clusters have unless told otherwise.
	DefaultPrecision = 7

	// MaxEncodedSize bounds an encoded sketch in bytes. TestEncodedSize_Worst
	// shows that none comes near it.
	MaxEncodedSize = 256 << 10

	// MaxCount is the most values a sketch may hold that is to be stored. Merging
	// does not look at it: whoever accepts sketches does, and bounds the total of
	// all that were ever accepted at 2^62.
	MaxCount = 1 << 40
)

var (
	// ErrCorrupt is returned for bytes that no sketch encodes to.
	ErrCorrupt = errors.New("sketch: corrupt encoding")

	// ErrPrecision is returned for a sketch of another precision than wanted.
	ErrPrecision = errors.New("sketch: wrong precision")

	// ErrNotFinite is returned for NaN and for the infinities.
	ErrNotFinite = errors.New("sketch: value is not finite")
)

// Sketch summarises a multiset of numbers. The zero value is an empty sketch of
// precision 8, ready for use. It is not safe for concurrent use.
//
// A sketch counts right up to 2^62 values.
type Sketch struct {
	negative, positive []bin // by magnitude, ascending

	count    uint64
	zeros    uint64
	min, max Number
	sum      int128 // zero once floats is set
	floats   bool   // some value is not an integer
	bounds   bool   // min and max are bounds, not values: a part had none to give

	// Scales are held as 8 less the scale, the number of bits that an index at
	// scale 8 loses, so that the zero value is the finest.
	coarseness uint8 // of the precision
	ceiling    uint8 // of the cap, the coarsest scale that a part was measured at
	shift      uint8 // of the scale of the bins
}

// bin counts the values in one bin of one sign.
type bin struct {
	index int32
	count uint64
}

// New returns an empty sketch. It panics if the precision is none of 5 to 8.
func New(precision int) *Sketch {
	s := new(Sketch)
	s.Coarsen(precision)
	return s
}

// AddInt adds v.
func (s *Sketch) AddInt(v int64) { s.AddIntN(v, 1) }

// AddIntN adds v n times. Adding it zero times does nothing.
func (s *Sketch) AddIntN(v int64, n uint64) {
	if n == 0 {
		return
	}
	if !s.floats {
		s.sum = s.sum.add(product(v, n))
	}
	s.addNumber(Int(v), n)
}

// Add adds v. It returns ErrNotFinite, and adds nothing, for NaN and ±Inf.
func (s *Sketch) Add(v float64) error { return s.AddN(v, 1) }

// AddN adds v n times. Adding it zero times does nothing. It returns
// ErrNotFinite, and adds nothing, for NaN and ±Inf.
func (s *Sketch) AddN(v float64, n uint64) error {
	if !finite(v) {
		return ErrNotFinite
	}
	if i, ok := asInt(v); ok {
		s.AddIntN(i, n)
	} else if n > 0 {
		s.floats, s.sum = true, int128{}
		s.addNumber(number(v), n)
	}
	return nil
}

func (s *Sketch) addNumber(v Number, n uint64) {
	if s.count == 0 || v.less(s.min) {
		s.min = v
	}
	if s.count == 0 || s.max.less(v) {
		s.max = v
	}
	s.count += n
	if v == (Number{}) {
		s.zeros += n
		return
	}
	i, negative := v.index()
	bins := &s.positive
	if negative {
		bins = &s.negative
	}
	at, found := findBin(*bins, i>>s.shift)
	if found {
		(*bins)[at].count += n
		return
	}
	*bins = slices.Insert(*bins, at, bin{i >> s.shift, n})
	s.fit()
}

// Merge adds every value of o, which it leaves alone. The precision and the cap
// become the smaller of both. Merging a sketch with itself doubles its counts.
func (s *Sketch) Merge(o *Sketch) {
	s.shrink(s.absorb(o))
	s.negative = union(s.negative, o.negative, s.shift-min(s.shift, o.shift))
	s.positive = union(s.positive, o.positive, s.shift-min(s.shift, o.shift))
	s.fit()
}

// absorb merges everything but the bins of o. It returns the shift that the bins
// of both must come to.
func (s *Sketch) absorb(o *Sketch) (shift uint8) {
	s.coarseness = max(s.coarseness, o.coarseness)
	if o.count == 0 {
		s.ceiling = max(s.ceiling, s.coarseness)
		return max(s.shift, s.ceiling)
	}
	if s.count == 0 || o.min.less(s.min) {
		s.min = o.min
	}
	if s.count == 0 || s.max.less(o.max) {
		s.max = o.max
	}
	s.count += o.count
	s.zeros += o.zeros
	s.bounds = s.bounds || o.bounds
	s.floats = s.floats || o.floats
	s.sum = s.sum.add(o.sum)
	if s.floats {
		s.sum = int128{}
	}
	s.ceiling = max(s.ceiling, o.ceiling, s.coarseness)
	return max(s.shift, o.shift, s.ceiling)
}

// Coarsen lowers the precision: the sketch becomes the one, to the last byte,
// that the lower precision would have given from the start. A precision that is
// not lower changes nothing. It panics if the precision is none of 5 to 8.
func (s *Sketch) Coarsen(precision int) {
	c := coarsenessOf(precision)
	if c <= s.coarseness {
		return
	}
	s.coarseness = c
	s.ceiling = max(s.ceiling, c)
	s.shrink(max(s.shift, c))
}

func coarsenessOf(precision int) uint8 {
	if precision < MinPrecision || precision > MaxPrecision {
		panic("sketch: precision out of range")
	}
	return uint8(maxScale - precision)
}

// Clone returns an independent copy.
func (s *Sketch) Clone() *Sketch {
	c := *s
	c.negative, c.positive = slices.Clone(s.negative), slices.Clone(s.positive)
	return &c
}

// Reset empties the sketch. It keeps its precision and its memory; a cap is gone
// with the values that brought it.
func (s *Sketch) Reset() {
	*s = Sketch{
		negative:   s.negative[:0],
		positive:   s.positive[:0],
		coarseness: s.coarseness,
		ceiling:    s.coarseness,
		shift:      s.coarseness,
	}
}

// Empty tells whether the sketch holds no value.
func (s *Sketch) Empty() bool { return s.count == 0 }

// Count returns how many values were added.
func (s *Sketch) Count() uint64 { return s.count }

// Zeros returns how many of the values are zero.
func (s *Sketch) Zeros() uint64 { return s.zeros }

// Min returns the least value, 0 for an empty sketch. It is a lower bound of it
// if ExactExtremes is false.
func (s *Sketch) Min() Number { return s.min }

// Max returns the greatest value, 0 for an empty sketch. It is an upper bound of
// it if ExactExtremes is false.
func (s *Sketch) Max() Number { return s.max }

// ExactExtremes tells whether Min and Max are values that were added. They are,
// unless a part came from a histogram that knew its bins only.
func (s *Sketch) ExactExtremes() bool { return !s.bounds }

// Integers tells whether every value is an integer in the range of int64.
func (s *Sketch) Integers() bool { return !s.floats }

// Sum returns the exact sum, if every value is an integer.
func (s *Sketch) Sum() (sum *big.Int, ok bool) {
	if s.floats {
		return nil, false
	}
	return s.sum.big(), true
}

// Precision returns the finest scale that the sketch may have, 5 to 8.
func (s *Sketch) Precision() int { return maxScale - int(s.coarseness) }

// Cap returns the coarsest scale that any part was measured at, the precision if
// all were measured by this package.
func (s *Sketch) Cap() int { return maxScale - int(s.ceiling) }

// Scale returns the scale of the bins: the finest up to Cap at which there are
// no more than MaxBins.
func (s *Sketch) Scale() int { return maxScale - int(s.shift) }

// NumBins returns the number of bins that are not empty, zero not counted.
func (s *Sketch) NumBins() int { return len(s.negative) + len(s.positive) }
