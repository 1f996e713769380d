package sketch

import (
	"math"
	"math/bits"
)

// Bin i at scale s holds the magnitudes in (2^(i/2^s), 2^((i+1)/2^s)]. Every
// index is computed at scale 8; the index at a coarser scale is i >> (8-s).
const (
	maxScale = 8
	minScale = -11 // all of float64 lies in two bins a sign here, so every fit ends

	sliceShift = 63 - maxScale // bits of a fraction below its slice number
)

// carries makes the index of a mantissa one load, one add and one shift. Entry j
// stands for the j-th of 512 equal slices of the fraction. A slice is 0.5/256
// wide and a bin at least 0.69/256, so it holds at most one bound. Its entry is
// the number of bins below, plus an addend that lets the fraction carry into
// the bin number exactly when it lies above that bound.
var carries = makeCarries()

func makeCarries() (t [2 << maxScale]uint64) {
	const low = uint64(1)<<sliceShift - 1
	below := 0 // bounds, but for the first, at or below the start of slice j
	for j := range t {
		start := uint64(j) << sliceShift
		entry := uint64(below) << sliceShift
		if j == 0 {
			// A power of two belongs to the bin below: it is an upper bound.
			entry = math.MaxUint64
		} else if below+1 < len(thresholds) {
			// The mantissa has its leading one at bit 63, a fraction has not.
			if bound := thresholds[below+1] << 1; bound <= start|low {
				entry += low - (bound - start)
				below++
			}
		}
		t[j] = entry - start
	}
	return t
}

// indexOf returns the index at scale 8 of a magnitude u > 0.
func indexOf(u uint64) int32 { return int32(index(u)) }

// index is indexOf for the recorder, which saves two instructions by it.
func index(u uint64) int {
	lz := bits.LeadingZeros64(u)
	f := u << (lz & 63) << 1
	return (63-lz)<<maxScale + int(int64(carries[f>>sliceShift]+f)>>sliceShift)
}

// indexOfFloat returns the index at scale 8 of a finite magnitude x > 0,
// subnormal ones too.
func indexOfFloat(x float64) int32 {
	b := math.Float64bits(x)
	exponent := int32(b>>52) & 0x7ff
	if exponent == 0 {
		return indexOf(b) - 1074<<maxScale
	}
	f := b << 12
	return (exponent-1023)<<maxScale + int32(int64(carries[f>>sliceShift]+f)>>sliceShift)
}

// index returns the index at scale 8 of |n| for n other than zero, and n's sign.
func (n Number) index() (i int32, negative bool) {
	if n.float {
		f := math.Float64frombits(n.bits)
		return indexOfFloat(math.Abs(f)), f < 0
	}
	return indexOf(magnitude(int64(n.bits))), int64(n.bits) < 0
}

// magnitude returns |v|, right for the least int64 too.
func magnitude(v int64) uint64 {
	sign := uint64(v >> 63)
	return (uint64(v) ^ sign) - sign
}

// lowerBound returns the lower bound of bin i as mantissa·2^(exponent-63), the
// mantissa rounded down. shift is 8 less the scale.
func lowerBound(i int32, shift uint8) (mantissa uint64, exponent int32) {
	i <<= shift
	return thresholds[i&(1<<maxScale-1)], i >> maxScale
}

// lowerInt returns the greatest integer at or below the lower bound of bin i.
func lowerInt(i int32, shift uint8) uint64 {
	m, e := lowerBound(i, shift)
	switch {
	case e < 0:
		return 0
	case e > 63:
		return math.MaxUint64
	}
	return m >> (63 - e)
}

// lowerFloat returns the greatest float64 at or below the lower bound of bin i.
func lowerFloat(i int32, shift uint8) float64 {
	m, e := lowerBound(i, shift)
	switch {
	case e > 1023:
		return math.MaxFloat64
	case e >= -1022:
		return math.Float64frombits(uint64(e+1023)<<52 | m<<1>>12)
	case e >= -1074:
		return math.Float64frombits(m >> (-1011 - e))
	}
	return 0
}

// binRange returns the least and the greatest number that bin i of the given
// sign can hold. In a sketch of integers these are integers; in any other they
// are whichever of the int64 and the float64 lies nearer to the bound. A bin
// that holds no number at all gives lower > upper.
func binRange(i int32, shift uint8, negative, floats bool) (lower, upper Number) {
	lower, upper = above(i, shift, floats), upTo(i+1, shift, negative, floats)
	if negative {
		return upper.neg(), lower.neg()
	}
	return lower, upper
}

// above returns the least number greater than the lower bound of bin i.
func above(i int32, shift uint8, floats bool) Number {
	if _, e := lowerBound(i, shift); !floats || e >= 53 && e < 63 {
		// Beyond 2^53 the integers lie closer together than the floats.
		return magnitudeNumber(lowerInt(i, shift) + 1)
	}
	return number(math.Float64frombits(math.Float64bits(lowerFloat(i, shift)) + 1))
}

// upTo returns the greatest number at or below the lower bound of bin i.
func upTo(i int32, shift uint8, negative, floats bool) Number {
	if _, e := lowerBound(i, shift); !floats || e >= 53 && e < 63 {
		u := lowerInt(i, shift)
		if !negative {
			u = min(u, math.MaxInt64)
		}
		return magnitudeNumber(u)
	}
	return number(lowerFloat(i, shift))
}
