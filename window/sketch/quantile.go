package sketch

import (
	"math"
	"math/big"
)

// Median returns the middle value, of an even count the mean of the two middle
// values, with the interval that is certain to hold it.
func (s *Sketch) Median() Estimate { return median(s, s.count) }

// Quantile returns the q-quantile of the values, 0 ≤ q ≤ 1, with the interval
// that is certain to hold it. It panics for any other q. Quantiles that lie
// between two values are interpolated as numpy does by default: the quantile is
// the value at (count-1)·q of the sorted values. So 0 is the minimum, 0.5 the
// median and 1 the maximum, and a greater q never gives a smaller value.
func (s *Sketch) Quantile(q float64) Estimate { return quantile(s, s.count, q) }

// orderer knows the order statistics of values: a Sketch, or an Accumulator.
type orderer interface {
	// order returns the r-th smallest value, 1 ≤ r ≤ count.
	order(r uint64) order
}

func median(s orderer, count uint64) Estimate {
	if count == 0 {
		return Estimate{Empty: true}
	}
	return between(s, (count-1)/2, float64(1-count%2)/2)
}

func quantile(s orderer, count uint64, q float64) Estimate {
	if !(q >= 0 && q <= 1) {
		panic("sketch: q out of range")
	}
	switch {
	case q == 0.5 || count == 0:
		return median(s, count)
	case q == 1:
		return between(s, count-1, 0)
	}
	at := float64(float64(count-1) * q)
	whole := math.Floor(at)
	if k := uint64(whole); k < count-1 {
		return between(s, k, at-whole)
	}
	return between(s, count-1, 0) // beyond 2^53 values, (count-1) rounds up
}

// between returns the estimate of what lies part of the way from the k-th value,
// counted from 0, to the next, 0 ≤ part < 1.
func between(s orderer, k uint64, part float64) Estimate {
	a := s.order(k + 1)
	if part == 0 {
		return newEstimate(a.value, a.lower, a.upper)
	}
	b := s.order(k + 2)
	// The lower order statistic never exceeds the upper, so the certain interval
	// of the mix is the mix of the ends.
	lower, _ := mix(a.lower, b.lower, part)
	_, upper := mix(a.upper, b.upper, part)
	value := a.value + float64(part*(b.value-a.value))
	if b.value-a.value > math.MaxFloat64 {
		value = float64((1-part)*a.value) + float64(part*b.value)
	}
	return newEstimate(math.Min(value, b.value), lower, upper)
}

// mixPrecision holds a·(1-part) + b·part of any float64 exactly, down to the
// least bit of the product of two subnormals.
const mixPrecision = 4400

// mix returns the nearest numbers at or below, and at or above, a + (b-a)·part.
func mix(a, b Number, part float64) (down, up Number) {
	if a == b {
		return a, a
	}
	if x, y := int64(a.bits), int64(b.bits); !a.float && !b.float && part == 0.5 {
		floor := x&y + (x^y)>>1 // of the mean, without overflow
		switch {
		case (x^y)&1 == 0:
			return Int(floor), Int(floor)
		case magnitude(floor) < maxSafeInt/2:
			half := number(float64(floor) + 0.5)
			return half, half
		}
		return Int(floor), Int(floor + 1)
	}
	z := new(big.Float).SetPrec(mixPrecision)
	z.Sub(b.big(), a.big())
	z.Mul(z, new(big.Float).SetPrec(mixPrecision).SetFloat64(part))
	z.Add(z, a.big())
	return bracket(z)
}

func (n Number) big() *big.Float {
	z := new(big.Float).SetPrec(mixPrecision)
	if v, ok := n.Int64(); ok {
		return z.SetInt64(v)
	}
	return z.SetFloat64(n.Float64())
}

// bracket returns the nearest numbers at or below, and at or above, z.
func bracket(z *big.Float) (down, up Number) {
	if f, _ := z.Float64(); math.Abs(f) >= maxSafeInt && math.Abs(f) < 1<<63 {
		// The integers are closer together than the floats here.
		switch i, accuracy := z.Int64(); accuracy {
		case big.Below:
			return Int(i), Int(i + 1)
		case big.Above:
			return Int(i - 1), Int(i)
		default:
			return Int(i), Int(i)
		}
	}
	f, accuracy := z.Float64()
	switch accuracy {
	case big.Below:
		return number(f), number(math.Nextafter(f, math.Inf(1)))
	case big.Above:
		return number(math.Nextafter(f, math.Inf(-1))), number(f)
	}
	return number(f), number(f)
}

// Ranks tells how many values are at most some x.
type Ranks struct {
	// Lower ≤ truth ≤ Upper, always.
	Lower, Upper uint64

	// Estimate is the best guess, a fraction inside a bin.
	Estimate float64
}

// Rank returns how many of the values are less than or equal to x. It is exact
// wherever no bin holds values on both sides of x.
func (s *Sketch) Rank(x Number) Ranks {
	var below uint64
	for b := range s.Bins() {
		switch {
		case !x.less(b.Upper):
			below += b.Count
		case x.less(b.Lower):
			return Ranks{below, below, float64(below)}
		default:
			return s.rankInside(b, x, below)
		}
	}
	return Ranks{below, below, float64(below)}
}

// rankInside returns the rank of an x with b.Lower ≤ x < b.Upper.
func (s *Sketch) rankInside(b Bin, x Number, below uint64) Ranks {
	r := Ranks{Lower: below, Upper: below + b.Count}
	if !s.bounds {
		// The extremes are values, so where they cut a bin off they are in it.
		if b.Lower == s.min {
			r.Lower++
		}
		if b.Upper == s.max {
			r.Upper--
		}
	}
	step := 0.0
	if !s.floats {
		step = 1 // of l, l+1 … u, the first x-l+1 are at most x
	}
	l, u := b.Lower.Float64(), b.Upper.Float64()
	part := (x.Float64() - l + step) / (u - l + step)
	r.Estimate = float64(below) + float64(part*float64(b.Count))
	r.Estimate = math.Min(math.Max(r.Estimate, float64(r.Lower)), float64(r.Upper))
	return r
}
