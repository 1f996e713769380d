package sketch

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
)

// maxSafeInt is the greatest integer up to which every integer is a float64;
// many readers of JSON keep nothing better.
const maxSafeInt = 1 << 53

// Number is an exact real: an int64, or a finite float64 that is no int64.
// Equal numbers are equal in ==. The zero value is 0.
type Number struct {
	bits  uint64 // of the int64 or of the float64
	float bool
}

// Int returns v as a Number.
func Int(v int64) Number { return Number{bits: uint64(v)} }

// Float returns v as a Number. Integers in the range of int64 become integers,
// and -0 becomes 0. NaN and the infinities give ErrNotFinite.
func Float(v float64) (Number, error) {
	if !finite(v) {
		return Number{}, ErrNotFinite
	}
	return number(v), nil
}

// ParseNumber reads a decimal number: an optional sign, digits, a fraction, an
// exponent. Integers beyond int64 are rounded to the nearest float64, as decimal
// fractions are. What is too large for a float64 gives ErrNotFinite.
func ParseNumber(s string) (Number, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Int(i), nil
	}
	for _, c := range []byte(s) {
		// ParseFloat would also take hexadecimal, underscores, "inf" and "nan".
		if (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' && c != 'e' && c != 'E' {
			return Number{}, fmt.Errorf("sketch: %.40q is not a decimal number", s)
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if math.IsInf(f, 0) {
		return Number{}, fmt.Errorf("%w: %.40q", ErrNotFinite, s)
	}
	if err != nil {
		return Number{}, fmt.Errorf("sketch: %.40q is not a decimal number", s)
	}
	return number(f), nil
}

// number is Float for what is known to be finite.
func number(v float64) Number {
	if i, ok := asInt(v); ok {
		return Int(i)
	}
	return Number{bits: math.Float64bits(v), float: true}
}

// magnitudeNumber returns u ≤ 2^63 as a Number.
func magnitudeNumber(u uint64) Number {
	if u > math.MaxInt64 {
		return Number{bits: math.Float64bits(float64(u)), float: true}
	}
	return Int(int64(u))
}

// asInt tells whether v is an integer in the range of int64.
func asInt(v float64) (int64, bool) {
	// What a conversion out of range gives differs between machines, so the
	// upper end is compared for itself; below the lower end none gives v back.
	i := int64(v)
	return i, float64(i) == v && v < 1<<63
}

func finite(v float64) bool { return math.Abs(v) <= math.MaxFloat64 }

// Int64 returns the number as an int64, if it is one.
func (n Number) Int64() (v int64, ok bool) {
	if n.float {
		return 0, false
	}
	return int64(n.bits), true
}

// Float64 returns the float64 nearest to the number.
func (n Number) Float64() float64 {
	if n.float {
		return math.Float64frombits(n.bits)
	}
	return float64(int64(n.bits))
}

// Cmp returns -1, 0 or +1 as n is less than, equal to or greater than o. It
// compares the exact values, an integer with a float too.
func (n Number) Cmp(o Number) int {
	switch {
	case !n.float && !o.float:
		return cmp.Compare(int64(n.bits), int64(o.bits))
	case n.float && o.float:
		return cmp.Compare(n.Float64(), o.Float64())
	case o.float:
		return -o.Cmp(n)
	}
	f, i := n.Float64(), int64(o.bits)
	switch {
	case f >= 1<<63:
		return 1
	case f < -1<<63:
		return -1
	case int64(math.Floor(f)) < i: // f is no integer, so it is never equal
		return -1
	}
	return 1
}

func (n Number) less(o Number) bool { return n.Cmp(o) < 0 }

// sign returns -1, 0 or +1.
func (n Number) sign() int { return n.Cmp(Number{}) }

// neg returns -n.
func (n Number) neg() Number {
	if !n.float && int64(n.bits) != math.MinInt64 {
		return Int(-int64(n.bits))
	}
	return number(-n.Float64())
}

// String returns the shortest decimal that reads back as n.
func (n Number) String() string {
	if n.float {
		return strconv.FormatFloat(n.Float64(), 'g', -1, 64)
	}
	return strconv.FormatInt(int64(n.bits), 10)
}

// MarshalJSON writes a number, or a string for an integer beyond 2^53, which
// many readers of JSON would round.
func (n Number) MarshalJSON() ([]byte, error) {
	s := n.String()
	if v, ok := n.Int64(); ok && magnitude(v) > maxSafeInt {
		s = `"` + s + `"`
	}
	return []byte(s), nil
}

// UnmarshalJSON reads a decimal number, bare or in a string.
func (n *Number) UnmarshalJSON(b []byte) error {
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = b[1 : len(b)-1]
	} else if bytes.Equal(b, []byte("null")) {
		return nil // the convention of encoding/json
	}
	v, err := ParseNumber(string(b))
	if err != nil {
		return err
	}
	*n = v
	return nil
}
