package sketch

import (
	"iter"
	"math/bits"
	"slices"
)

// Bin is one counter of a sketch: Count values lie in [Lower, Upper].
type Bin struct {
	Lower, Upper Number
	Count        uint64
}

// Bins yields the bins in ascending order of value, zero among them.
func (s *Sketch) Bins() iter.Seq[Bin] {
	return func(yield func(Bin) bool) {
		for _, b := range slices.Backward(s.negative) {
			if l, u := s.span(b.index, true); !yield(Bin{l, u, b.count}) {
				return
			}
		}
		if s.zeros > 0 && !yield(Bin{Count: s.zeros}) {
			return
		}
		for _, b := range s.positive {
			if l, u := s.span(b.index, false); !yield(Bin{l, u, b.count}) {
				return
			}
		}
	}
}

// span returns the least and the greatest value that a bin can hold, given the
// extremes of the sketch.
func (s *Sketch) span(i int32, negative bool) (lower, upper Number) {
	lower, upper = binRange(i, s.shift, negative, s.floats)
	if lower.less(s.min) {
		lower = s.min
	}
	if s.max.less(upper) {
		upper = s.max
	}
	return lower, upper
}

func findBin(bins []bin, i int32) (at int, found bool) {
	lo, hi := 0, len(bins)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bins[mid].index < i {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(bins) && bins[lo].index == i
}

// fit coarsens the bins to the finest scale at which there are at most MaxBins.
//
// Two neighbours become one bin after d halvings of the scale exactly when
// their indexes differ in the lowest d bits only, so one pass tells how many
// bins each scale would leave.
func (s *Sketch) fit() {
	if s.NumBins() <= MaxBins {
		return
	}
	var merging [33]int // by the number of halvings
	for _, bins := range [][]bin{s.negative, s.positive} {
		for k := 1; k < len(bins); k++ {
			merging[bits.Len32(uint32(bins[k].index^bins[k-1].index))]++
		}
	}
	left, d := s.NumBins(), uint8(0)
	for left > MaxBins {
		d++
		left -= merging[d]
	}
	s.shrink(s.shift + d)
}

// shrink coarsens the bins to a shift that is not smaller than now.
func (s *Sketch) shrink(shift uint8) {
	if d := shift - s.shift; d > 0 {
		s.negative = shrinkBins(s.negative, d)
		s.positive = shrinkBins(s.positive, d)
		s.shift = shift
	}
}

func shrinkBins(bins []bin, d uint8) []bin {
	out := bins[:0]
	for _, b := range bins {
		out = addBin(out, bin{b.index >> d, b.count})
	}
	return out
}

// addBin appends a bin, or adds it to the last one if that is the same.
func addBin(bins []bin, b bin) []bin {
	if last := len(bins) - 1; last >= 0 && bins[last].index == b.index {
		bins[last].count += b.count
		return bins
	}
	return append(bins, b)
}

// union merges b, whose indexes lose d bits on the way, into a, in place where a
// has the room: from the back, so that nothing is overwritten before it is read,
// not even when a and b are the same bins. Runs of a between bins of b move as
// one.
func union(a, b []bin, d uint8) []bin {
	if len(b) == 0 {
		return a
	}
	n := len(a) // bins of a that are still to come
	a = slices.Grow(a, len(b))[:len(a)+len(b)]
	w := len(a)
	for _, x := range slices.Backward(b) {
		x.index >>= d
		run := n
		for run > 0 && a[run-1].index >= x.index {
			run--
		}
		w -= n - run
		copy(a[w:], a[run:n])
		n = run
		if w < len(a) && a[w].index == x.index {
			a[w].count += x.count
		} else {
			w--
			a[w] = x
		}
	}
	return append(a[:n], a[w:]...)
}
