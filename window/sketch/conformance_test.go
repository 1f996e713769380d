package sketch

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestConformance has the edge inputs on which common libraries were measured to
// answer wrongly without a word; DESIGN.md has the table. Each must be answered
// within the precision, or with an interval that is right where the two middle
// values differ in sign.
func TestConformance(t *testing.T) {
	f := func(name string, median float64, ns []Number) {
		t.Run(name, func(t *testing.T) {
			precisions(func(precision int) {
				s := sketchOfNumbers(t, precision, ns)
				sorted := slices.SortedFunc(slices.Values(ns), Number.Cmp)
				for _, q := range quantiles {
					checkEstimate(t, name, s, sorted, q, s.Quantile(q))
				}
				e := s.Median()
				checkEstimate(t, name, s, sorted, 0.5, e)
				if off := math.Abs(e.Float64()/median - 1); off > widest(s.Scale()) && !math.IsInf(e.MaxRelativeError, 1) {
					t.Errorf("precision %d: Median() = %+v, want %v", precision, e, median)
				}
				if s.Min() != sorted[0] || s.Max() != sorted[len(ns)-1] || s.Count() != uint64(len(ns)) {
					t.Errorf("count, min, max = %d, %v, %v", s.Count(), s.Min(), s.Max())
				}
			})
		})
	}
	ints := func(vs ...int64) (ns []Number) {
		for _, v := range vs {
			ns = append(ns, Int(v))
		}
		return ns
	}
	times := func(n int, v int64) []Number { return slices.Repeat(ints(v), n) }
	downTo := func(from, to int64) (ns []Number) {
		for v := from; v >= to; v-- {
			ns = append(ns, Int(v))
		}
		return ns
	}

	f("A: a gap in the middle", 13865.5, gapInTheMiddle())
	f("B: two atoms", 500005, append(times(500_000, 10), times(500_000, 1_000_000)...))
	f("C: one value repeated", 7, times(1000, 7))
	f("D: one value", 12345, ints(12345))
	f("E: two signs", 0.5, ints(-100, 101))
	f("F: the ends of int64", math.MaxInt64, ints(math.MinInt64, math.MaxInt64, math.MaxInt64))
	f("J: negative only", -501, downTo(-1, -1001))
	f("K: log-uniform of both signs", middle(bothSigns()), bothSigns())
}

// gapInTheMiddle is the data of github.com/DataDog/sketches-java, issue 73: the
// median lies where no value is.
func gapInTheMiddle() (ns []Number) {
	for _, v := range []int64{
		368, 444, 657, 1969, 1944, 2025, 2147, 2947,
		26128, 25495, 24784, 26791, 26171, 25895, 25941, 26314,
	} {
		ns = append(ns, Int(v), Int(v))
	}
	return ns
}

// bothSigns has values of -1e18 to 1e18 with the median close to 1.
func bothSigns() []Number {
	r := rand.New(rand.NewPCG(11, 11))
	ns := []Number{Int(7), Int(7), Int(7)}
	for range 500 {
		v := math.Exp(r.Float64() * math.Log(1e18))
		ns = append(ns, number(v), number(-v))
	}
	return ns
}

func middle(ns []Number) float64 {
	exact, _, _ := truth(slices.SortedFunc(slices.Values(ns), Number.Cmp), 0.5)
	f, _ := exact.Float64()
	return f
}

func TestConformance_ExactWhereOneNumberIsCertain(t *testing.T) {
	f := func(want float64, vs ...int64) {
		t.Helper()
		if e := sketchOf(DefaultPrecision, vs).Median(); !e.Exact || e.Float64() != want || e.MaxRelativeError != 0 {
			t.Errorf("Median(%v) = %+v, want exactly %v", vs, e, want)
		}
	}
	f(0.5, -100, 101)
	f(7, slices.Repeat([]int64{7}, 1000)...)
	f(12345, 12345)
	f(-0.5, math.MinInt64, math.MaxInt64)
	f(2.5, 1, 2, 3, 4)
	f(0, -5, 0, 5)
	f(math.MaxInt64-1, math.MaxInt64, math.MaxInt64-2)
}

// TestConformance_HalvesBeyondFloats has means that no float64 holds.
func TestConformance_HalvesBeyondFloats(t *testing.T) {
	f := func(lower, upper int64) {
		t.Helper()
		e := sketchOf(DefaultPrecision, []int64{lower, upper}).Median()
		if e.Lower != Int(lower) || e.Upper != Int(upper) || e.Exact || e.MaxRelativeError > 1e-15 {
			t.Errorf("Median(%d, %d) = %+v", lower, upper, e)
		}
	}
	f(math.MaxInt64-1, math.MaxInt64)
	f(math.MinInt64, math.MinInt64+1)
	f(1<<53, 1<<53+1)
}

// TestConformance_EndsOfFloat64 has a difference that no float64 holds.
func TestConformance_EndsOfFloat64(t *testing.T) {
	ns := []Number{number(-math.MaxFloat64), number(math.MaxFloat64)}
	s := sketchOfNumbers(t, DefaultPrecision, ns)
	for _, q := range quantiles {
		checkEstimate(t, "ends", s, ns, q, s.Quantile(q))
	}
	if e := s.Quantile(0.75); math.Abs(e.Float64()/(math.MaxFloat64/2)-1) > 1e-15 {
		t.Errorf("Quantile(0.75) = %+v, want half the greatest float64", e)
	}
}

// TestConformance_EmptyAndNotFinite are rows G, H and I.
func TestConformance_EmptyAndNotFinite(t *testing.T) {
	s := New(DefaultPrecision)
	if e := s.Median(); !e.Empty || !math.IsNaN(e.Float64()) {
		t.Errorf("Median() of nothing = %+v", e)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if err := s.Add(v); !errors.Is(err, ErrNotFinite) || s.Count() != 0 {
			t.Errorf("Add(%v) = %v, %d values counted; want ErrNotFinite, none", v, err, s.Count())
		}
	}
}
