package plot

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Scale is how values become heights.
type Scale uint8

const (
	// Auto is Log where all values have one sign and span more than three
	// decades, else Linear.
	Auto Scale = iota
	// Linear gives equal differences equal heights.
	Linear
	// Log gives equal ratios equal heights. Values of both signs, or zero, have
	// no place on it, and are drawn Linear.
	Log
)

// logDecades is from how many decades on Auto is Log. At three, the smallest
// value of a linear picture is a third of a pixel above zero.
const logDecades = 3

// axis maps values to [0, 1], bottom to top.
type axis struct {
	log      bool
	negative bool    // of a log axis: all values are
	lo, hi   float64 // ends: values, or decades of a log axis
	shift    int     // of a linear axis: values times 2^shift do not overflow
	ticks    []tick
}

type tick struct {
	at    float64 // in [0, 1]
	label string
}

// newAxis returns the axis that has all values, with round ends and about the
// wanted number of round ticks.
func newAxis(values []float64, s Scale, ticks int) axis {
	if len(values) == 0 {
		values = []float64{0}
	}
	lo, hi := slices.Min(values), slices.Max(values)
	if oneSign := lo > 0 || hi < 0; oneSign && s != Linear {
		near0, far := math.Log10(min(math.Abs(lo), math.Abs(hi))), math.Log10(max(math.Abs(lo), math.Abs(hi)))
		if s == Log || near(far-near0) > logDecades {
			return logAxis(near(near0), near(far), hi < 0, ticks)
		}
	}
	return linearAxis(lo, hi, ticks)
}

func logAxis(near0, far float64, negative bool, ticks int) axis {
	a := axis{log: true, negative: negative, lo: math.Floor(near0), hi: math.Ceil(far)}
	if a.lo == a.hi {
		a.hi++
	}
	every := max(1, int(math.Ceil((a.hi-a.lo)/float64(max(ticks, 2)))))
	for d := int(a.lo); d <= int(a.hi); d++ {
		if d%every != 0 {
			continue
		}
		at := (float64(d) - a.lo) / (a.hi - a.lo)
		label := "1e" + strconv.Itoa(d)
		if -4 <= d && d <= 8 {
			label = decimal(math.Pow10(d), max(0, -d))
		}
		if negative {
			at, label = 1-at, "-"+label
		}
		a.ticks = append(a.ticks, tick{at, label})
	}
	return a
}

// linearAxis has ticks at the multiples of 1, 2 or 5 times a power of ten.
func linearAxis(lo, hi float64, ticks int) axis {
	if lo == hi {
		// Something to stand in the middle of.
		around := math.Abs(lo) / 10
		if lo == 0 {
			around = 1
		}
		lo, hi = lo-around, hi+around
		lo, hi = max(lo, -math.MaxFloat64), min(hi, math.MaxFloat64)
	}
	if hi-lo < 1e-290 { // steps this small have no decimal text that is exact
		lo, hi = min(lo, -1e-290), max(hi, 1e-290)
	}
	// Halves, because the difference of two numbers can be no number.
	step := (hi/2 - lo/2) / float64(max(ticks, 2)) * 2
	// Ticks closer than this to each other are the same float64.
	step = max(step, max(math.Abs(lo), math.Abs(hi))*1e-14)
	exponent := int(math.Floor(near(math.Log10(step))))
	times := 10.0
	for _, t := range []float64{1, 2, 5} {
		if power(t, exponent) >= step*(1-1e-9) {
			times = t
			break
		}
	}
	unit := power(times, exponent)
	first, last := math.Floor(lo/unit), math.Ceil(hi/unit)
	a := axis{lo: power(first*times, exponent), hi: power(last*times, exponent)}
	_, e := math.Frexp(max(math.Abs(a.lo), math.Abs(a.hi)))
	a.shift = -e - 1
	for k := first; k <= last; k++ {
		v := power(k*times, exponent)
		a.ticks = append(a.ticks, tick{a.at(v), a.label(v, exponent)})
	}
	return a
}

// power returns n·10^e, or the largest number where that is none.
func power(n float64, e int) float64 {
	v := n * math.Pow10(e)
	if e < 0 {
		v = n / math.Pow10(-e) // rounded once: 3/10 is 0.3, 3·0.1 is not
	}
	return min(max(v, -math.MaxFloat64), math.MaxFloat64)
}

// label writes the tick v with as many digits as tell ticks apart whose last
// digit counts 10^exponent.
func (a axis) label(v float64, exponent int) string {
	far := max(math.Abs(a.lo), math.Abs(a.hi))
	switch {
	case v == 0:
		return "0"
	case far <= 1e9 && exponent >= -6:
		return decimal(v, max(0, -exponent))
	}
	digits := int(near(math.Floor(near(math.Log10(math.Abs(v)))))) - exponent
	text := strconv.FormatFloat(v, 'e', max(0, digits), 64)
	mantissa, power, _ := strings.Cut(text, "e")
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	n, err := strconv.Atoi(power)
	if err != nil {
		return text // cannot be: FormatFloat writes digits
	}
	return mantissa + "e" + strconv.Itoa(n)
}

// decimal writes v with so many decimals, and its digits in threes.
func decimal(v float64, decimals int) string {
	text := strconv.FormatFloat(math.Abs(v), 'f', decimals, 64)
	whole, fraction, dot := strings.Cut(text, ".")
	whole = grouped(whole)
	if dot {
		whole += "." + fraction
	}
	if v < 0 {
		return "-" + whole
	}
	return whole
}

// at returns the height of a value in [0, 1].
func (a axis) at(v float64) float64 {
	var h float64
	if a.log {
		h = (math.Log10(math.Abs(v)) - a.lo) / (a.hi - a.lo)
		if a.negative {
			h = 1 - h
		}
	} else {
		lo, hi := math.Ldexp(a.lo, a.shift), math.Ldexp(a.hi, a.shift)
		h = (math.Ldexp(v, a.shift) - lo) / (hi - lo)
	}
	return min(max(h, 0), 1)
}
