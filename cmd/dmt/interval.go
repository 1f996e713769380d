package main

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// interval is a number computed from estimates, with the interval certain to
// hold it.
type interval struct {
	value, lower, upper end
}

// end is an exact real, or an infinity where nothing finite is certain. It is
// exact for sums of any two Numbers, which need up to 2^11 bits, and rounded in
// the direction that is safe for quotients.
type end struct{ *big.Float }

const (
	// exactBits hold the sum of the largest and the smallest float64.
	exactBits = 2200
	// quotientBits are enough for all digits of what is shown of a quotient.
	quotientBits = 128
)

// exact returns a Number without rounding.
func exact(n sketch.Number) *big.Float {
	x := new(big.Float).SetPrec(exactBits)
	if i, whole := n.Int64(); whole {
		return x.SetInt64(i)
	}
	return x.SetFloat64(n.Float64())
}

// difference returns current minus base, whatever the two are within their
// intervals.
func difference(current, base sketch.Estimate) *interval {
	minus := func(x, y sketch.Number) end {
		return end{new(big.Float).SetPrec(exactBits).Sub(exact(x), exact(y))}
	}
	return &interval{
		value: minus(current.Value, base.Value),
		lower: minus(current.Lower, base.Upper),
		upper: minus(current.Upper, base.Lower),
	}
}

// ratio returns current by base, or nil where the base may be 0.
func ratio(current, base sketch.Estimate) *interval {
	var zero sketch.Number
	if base.Lower.Cmp(zero) <= 0 && base.Upper.Cmp(zero) >= 0 {
		return nil
	}
	by := func(x, y sketch.Number, mode big.RoundingMode) *big.Float {
		return new(big.Float).SetPrec(quotientBits).SetMode(mode).Quo(exact(x), exact(y))
	}
	r := &interval{value: end{by(current.Value, base.Value, big.ToNearestEven)}}
	// Where the divisor has one sign the extremes are those of the corners.
	for _, x := range []sketch.Number{current.Lower, current.Upper} {
		for _, y := range []sketch.Number{base.Lower, base.Upper} {
			if low := by(x, y, big.ToNegativeInf); r.lower.Float == nil || low.Cmp(r.lower.Float) < 0 {
				r.lower = end{low}
			}
			if high := by(x, y, big.ToPositiveInf); r.upper.Float == nil || high.Cmp(r.upper.Float) > 0 {
				r.upper = end{high}
			}
		}
	}
	return r
}

// exact tells that there is one number in the interval, and that it can be said.
func (i *interval) exact() bool {
	_, whole := i.lower.digits()
	return i.lower.Cmp(i.upper.Float) == 0 && (whole || i.lower.round(-1) == i.upper.round(1))
}

// bound says of people's tables whether anything is open.
func (i *interval) bound(o *output) string {
	switch {
	case o.format == "csv":
		return ""
	case i.exact():
		return "exact"
	}
	return "interval"
}

// round returns the float64 next to x in a direction: -1 not above, 1 not below,
// 0 the nearest one. It is infinite where there is none.
func (x end) round(towards int) float64 {
	v, off := x.Float64()
	switch {
	case towards < 0 && off == big.Above:
		return math.Nextafter(v, math.Inf(-1))
	case towards > 0 && off == big.Below:
		return math.Nextafter(v, math.Inf(1))
	}
	return v
}

// digits returns an integer that a difference of two int64 can be, in full.
func (x end) digits() (string, bool) {
	i, off := x.Int(nil)
	return i.String(), off == big.Exact && i.BitLen() <= 64
}

// text writes the number as output.number does. What cannot be said is empty.
func (x end) text(o *output, towards int) string {
	if text, whole := x.digits(); whole {
		return text
	}
	n, err := sketch.Float(x.round(towards))
	if err != nil {
		return ""
	}
	return o.number(n, towards)
}

// json writes a number as a Number does, a string for integers that many
// readers would round, or null.
func (x end) json(towards int) (json.RawMessage, error) {
	if text, whole := x.digits(); whole {
		if x.Cmp(big.NewFloat(1<<53)) > 0 || x.Cmp(big.NewFloat(-1<<53)) < 0 {
			text = `"` + text + `"`
		}
		return json.RawMessage(text), nil
	}
	n, err := sketch.Float(x.round(towards))
	if err != nil {
		return json.RawMessage("null"), nil
	}
	return n.MarshalJSON()
}

// MarshalJSON writes value, lower, upper and exact.
func (i *interval) MarshalJSON() ([]byte, error) {
	value, err1 := i.value.json(0)
	lower, err2 := i.lower.json(-1)
	upper, err3 := i.upper.json(1)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Value json.RawMessage `json:"value"`
		Lower json.RawMessage `json:"lower"`
		Upper json.RawMessage `json:"upper"`
		Exact bool            `json:"exact"`
	}{value, lower, upper, i.exact()})
}
