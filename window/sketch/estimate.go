package sketch

import (
	"math"
	"math/bits"
)

// Estimate is one answer with its certificate.
type Estimate struct {
	// Value is the best guess, never outside [Lower, Upper]. Where one number is
	// certain it is that number.
	Value Number

	// Lower ≤ truth ≤ Upper, always.
	Lower, Upper Number

	// MaxRelativeError bounds |Value-x|/|x| for every x in [Lower, Upper]. It is
	// +Inf where that interval holds zero and more: only the interval is claimed.
	MaxRelativeError float64

	// Exact tells that Lower equals Upper, and so is the truth.
	Exact bool

	// Empty tells that there was no value to answer from; nothing else is set.
	Empty bool
}

// Float64 returns the value, NaN if there is none.
func (e Estimate) Float64() float64 {
	if e.Empty {
		return math.NaN()
	}
	return e.Value.Float64()
}

// newEstimate clamps the value to its interval and states the error.
func newEstimate(value float64, lower, upper Number) Estimate {
	e := Estimate{Lower: lower, Upper: upper, Exact: lower == upper}
	if e.Exact {
		e.Value = lower
		return e
	}
	e.Value = number(value)
	if e.Value.less(lower) {
		e.Value = lower
	} else if upper.less(e.Value) {
		e.Value = upper
	}
	e.MaxRelativeError = maxRelativeError(e.Value, lower, upper)
	return e
}

func maxRelativeError(value, lower, upper Number) float64 {
	if lower.sign() <= 0 && upper.sign() >= 0 {
		return math.Inf(1)
	}
	near, far := math.Abs(lower.Float64()), math.Abs(upper.Float64())
	if near > far {
		near, far = far, near
	}
	v := math.Abs(value.Float64())
	e := math.Max((v-near)/near, (far-v)/far)
	// The three numbers and each step are rounded; all that is below 2^-51.
	return float64(e*(1+0x1p-51)) + 0x1p-51
}

// order is what a sketch knows of one order statistic: its interval, and where
// in its bin it stands.
type order struct {
	lower, upper Number
	value        float64
}

func exactly(n Number) order { return order{n, n, n.Float64()} }

// order returns the r-th smallest value, 1 ≤ r ≤ count.
func (s *Sketch) order(r uint64) order {
	if !s.bounds && r == 1 {
		return exactly(s.min)
	}
	if !s.bounds && r == s.count {
		return exactly(s.max)
	}
	for k := len(s.negative) - 1; k >= 0; k-- {
		if c := s.negative[k].count; r > c {
			r -= c
		} else {
			return s.inBin(s.negative[k], true, r, neighbour(s.negative, k, -1), neighbour(s.negative, k, +1))
		}
	}
	if r <= s.zeros {
		return exactly(Number{})
	}
	r -= s.zeros
	for k := range s.positive {
		if c := s.positive[k].count; r > c {
			r -= c
		} else {
			return s.inBin(s.positive[k], false, r, neighbour(s.positive, k, -1), neighbour(s.positive, k, +1))
		}
	}
	panic("sketch: rank beyond count")
}

// inBin returns the j-th smallest value of a bin, given the counts of the bins to
// either side of it.
func (s *Sketch) inBin(b bin, negative bool, j, before, after uint64) order {
	lower, upper := s.span(b.index, negative)
	l, u := lower.Float64(), upper.Float64()
	o := order{lower, upper, l}
	if l == u {
		return o
	}
	// Where the neighbours are as full as the bin itself, values are spread over
	// it and the rank inside the bin tells where. Elsewhere it holds a few equal
	// or rounded values, and the centre is the safer guess.
	quarter := (b.count + 3) / 4
	if before < quarter || after < quarter {
		o.value = centre(l, u)
		return o
	}
	part := fraction(j, b.count+1)
	if !s.floats && u-l <= 64 {
		// j of c+1 parts of the staircase from l-½ to u+½.
		o.value = (l - 0.5) + float64(part*(u-l+1))
	} else {
		o.value = geometric(l, u, part)
	}
	o.value = math.Min(math.Max(o.value, l), u)
	return o
}

// neighbour returns the count of the bin next to bin k in the given direction.
func neighbour(bins []bin, k, direction int) uint64 {
	n := k + direction
	if n < 0 || n >= len(bins) || bins[n].index != bins[k].index+int32(direction) {
		return 0
	}
	return bins[n].count
}

// centre returns 2lu/(l+u), from which neither end is relatively farther.
func centre(l, u float64) float64 {
	if x := math.Abs(l) + math.Abs(u); x < 1e-300 || x > 1e300 {
		return l + float64((u-l)/2) // the products below would lose digits, or all
	}
	return l * (2 * u / (l + u))
}

// fraction returns j/n, j < n ≤ 2^62, rounded down to a multiple of 2^-32.
func fraction(j, n uint64) float64 {
	q, _ := bits.Div64(j>>32, j<<32, n)
	return float64(q) * 0x1p-32
}

// geometric returns l·(u/l)^part for a part that is a multiple of 2^-32.
//
// math.Pow may differ in its last bit between machines, and members of a cluster
// must not. Square roots and products are rounded exactly everywhere, so the
// power is the product of the roots that the bits of part name.
func geometric(l, u, part float64) float64 {
	root := u / l
	if root == 0 || math.IsInf(root, 0) {
		return centre(l, u)
	}
	if math.Abs(root-1) < 0x1p-20 {
		return l + float64(part*(u-l)) // the same within 2^-43, and monotone
	}
	power := 1.0
	for bit := uint64(part * 0x1p32); bit != 0; bit = bit << 1 & math.MaxUint32 {
		root = math.Sqrt(root)
		if bit>>31 != 0 {
			power *= root
		}
	}
	return l * power
}
