package sketch

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSketch_CanonicalOverOrderPartitionAndTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := numbers().Draw(t, "values")
		precision := rapid.IntRange(MinPrecision, MaxPrecision).Draw(t, "precision")
		want := sketchOfNumbers(t, precision, ns)

		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		parts := split(t, r, precision, shuffled(r, ns), rapid.IntRange(1, 8).Draw(t, "parts"))
		sameBytes(t, "merged", mergeTree(r, parts), want)
	})
}

// split spreads values over n sketches, some of a finer precision than wanted
// that are coarsened before or after.
func split(tb rapid.TB, r *rand.Rand, precision int, ns []Number, n int) []*Sketch {
	parts := make([]*Sketch, n)
	for i := range parts {
		parts[i] = New(precision + r.IntN(MaxPrecision-precision+1))
	}
	parts[0].Coarsen(precision)
	for _, v := range ns {
		addTo(tb, parts[r.IntN(n)], v)
	}
	for _, p := range parts {
		if r.IntN(2) == 0 {
			p.Coarsen(precision)
		}
	}
	return parts
}

// mergeTree merges two sketches at random until one is left.
func mergeTree(r *rand.Rand, parts []*Sketch) *Sketch {
	for len(parts) > 1 {
		i := r.IntN(len(parts))
		a := parts[i]
		parts = slices.Delete(parts, i, i+1)
		j := r.IntN(len(parts))
		a.Merge(parts[j])
		parts[j] = a
	}
	return parts[0]
}

// TestSketch_CanonicalBelowPrecision has values so wide that scales fall, down to
// those below zero.
func TestSketch_CanonicalBelowPrecision(t *testing.T) {
	draws := map[string]func(*rand.Rand) Number{
		"any":      randomNumber,
		"integers": func(r *rand.Rand) Number { return Int(int64(r.Uint64()) >> r.IntN(60)) },
		"floats":   func(r *rand.Rand) Number { return number(math.Ldexp(r.NormFloat64(), r.IntN(2000)-1000)) },
	}
	for name, draw := range draws {
		for seed := range uint64(2) {
			r := rand.New(rand.NewPCG(seed, 5))
			ns := make([]Number, 12000)
			for i := range ns {
				ns[i] = draw(r)
			}
			precision := MaxPrecision - int(seed)
			want := sketchOfNumbers(t, precision, ns)
			if want.Scale() >= precision {
				t.Fatalf("%s, seed %d: scale %d does not fall below %d", name, seed, want.Scale(), precision)
			}
			if got := scaleOf(precision, ns); want.Scale() != got {
				t.Errorf("%s, seed %d: scale %d, want %d", name, seed, want.Scale(), got)
			}
			for _, n := range []int{1, 2, 7} {
				parts := split(t, r, precision, shuffled(r, ns), n)
				a := NewAccumulator(precision)
				for _, p := range parts {
					p.Coarsen(precision)
					mergeBinary(t, a, encode(p))
				}
				sameBytes(t, name+" accumulated", a.Sketch(), want)
				sameBytes(t, name+" merged", mergeTree(r, parts), want)
			}
			var rec Recorder
			addTo(t, &rec, ns...)
			s := rec.Drain()
			s.Coarsen(precision)
			sameBytes(t, name+" recorded", s, want)
			sameBytes(t, name+" decoded", mustDecode(t, encode(want)), want)
			checkBins(t, want, ns)
		}
	}
}

// TestSketch_FitsExactlyMaxBins stands on the edge: 4096 bins fit, one more
// halves the scale once if that is enough, and only then.
func TestSketch_FitsExactlyMaxBins(t *testing.T) {
	at := func(index int32) int64 { return int64(lowerInt(index, 0)) + 1 }
	s, r := New(8), new(Recorder)
	add := func(index int32, wantBins, wantScale int) {
		t.Helper()
		s.AddInt(at(index))
		r.AddInt(at(index))
		for _, got := range []*Sketch{s, r.Sketch(), mustDecode(t, encode(s))} {
			if got.NumBins() != wantBins || got.Scale() != wantScale {
				t.Fatalf("%d bins at scale %d, want %d at %d", got.NumBins(), got.Scale(), wantBins, wantScale)
			}
		}
	}
	const first = 20 << maxScale // bins are wider than an integer from here on
	for i := range int32(MaxBins - 1) {
		s.AddInt(at(first + 2*i))
		r.AddInt(at(first + 2*i))
	}
	add(first+2*(MaxBins-1), MaxBins, 8)
	add(first+1, MaxBins, 7)               // shares a bin of scale 7
	add(first+2*MaxBins, (MaxBins+2)/2, 6) // shares none of scale 7
}

// scaleOf finds the scale by counting the bins at each.
func scaleOf(precision int, ns []Number) int {
	for scale := precision; ; scale-- {
		bins := map[[2]int32]bool{}
		for _, n := range ns {
			if n != (Number{}) {
				i, negative := n.index()
				bins[[2]int32{i >> (maxScale - scale), int32(map[bool]int{true: 1}[negative])}] = true
			}
		}
		if len(bins) <= MaxBins {
			return scale
		}
	}
}

// checkBins counts the values that lie in each bin.
func checkBins(t *testing.T, s *Sketch, ns []Number) {
	t.Helper()
	sorted := slices.SortedFunc(slices.Values(ns), Number.Cmp)
	last := Number{}
	for b := range s.Bins() {
		if b.Upper.less(b.Lower) || len(sorted) == 0 || !last.less(b.Lower) && last != (Number{}) {
			t.Fatalf("bin [%v, %v] after %v", b.Lower, b.Upper, last)
		}
		n := 0
		for n < len(sorted) && !b.Upper.less(sorted[n]) {
			n++
		}
		if uint64(n) != b.Count || sorted[0].less(b.Lower) {
			t.Fatalf("bin [%v, %v] counts %d, want %d from %v", b.Lower, b.Upper, b.Count, n, sorted[0])
		}
		sorted, last = sorted[n:], b.Upper
	}
	if len(sorted) > 0 {
		t.Fatalf("%d values in no bin", len(sorted))
	}
}

func TestSketch_ExactFacts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := numbers().Draw(t, "values")
		s := sketchOfNumbers(t, rapid.IntRange(MinPrecision, MaxPrecision).Draw(t, "precision"), ns)
		sum, zeros, integers := new(big.Int), uint64(0), true
		for _, n := range ns {
			if v, ok := n.Int64(); ok {
				sum.Add(sum, big.NewInt(v))
			} else {
				integers = false
			}
			if n == (Number{}) {
				zeros++
			}
		}
		if s.Count() != uint64(len(ns)) || s.Zeros() != zeros || s.Integers() != integers || s.Empty() != (len(ns) == 0) {
			t.Fatalf("count %d, zeros %d, integers %v; want %d, %d, %v", s.Count(), s.Zeros(), s.Integers(), len(ns), zeros, integers)
		}
		if got, ok := s.Sum(); ok != integers || ok && got.Cmp(sum) != 0 {
			t.Fatalf("Sum() = %v, %v, want %v, %v", got, ok, sum, integers)
		}
		if len(ns) > 0 {
			if l, u := slices.MinFunc(ns, Number.Cmp), slices.MaxFunc(ns, Number.Cmp); s.Min() != l || s.Max() != u {
				t.Fatalf("extremes %v, %v, want %v, %v", s.Min(), s.Max(), l, u)
			}
		}
	})
}

func TestSketch_AddNEqualsAddingNTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := numbers().Draw(t, "values")
		n := rapid.IntRange(0, 5).Draw(t, "times")
		one, many, rec := New(7), New(7), new(Recorder)
		for _, v := range ns {
			for range n {
				addTo(t, one, v)
			}
			for _, a := range []adder{many, rec} {
				if i, ok := v.Int64(); ok {
					a.AddIntN(i, uint64(n))
				} else if err := a.AddN(v.Float64(), uint64(n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		sameBytes(t, "AddN", many, one)
		s := rec.Drain()
		s.Coarsen(7)
		sameBytes(t, "Recorder.AddN", s, one)
	})
}

func TestSketch_MergeWithItselfDoubles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := numbers().Draw(t, "values")
		s := sketchOfNumbers(t, 7, ns)
		want := sketchOfNumbers(t, 7, append(slices.Clone(ns), ns...))
		s.Merge(s)
		sameBytes(t, "s.Merge(s)", s, want)
	})
}

func TestSketch_MergeLeavesTheOtherAlone(t *testing.T) {
	a, b := sketchOf(8, lognormal(1, 300)), sketchOf(7, lognormal(2, 300))
	before := b.Clone()
	a.Merge(b)
	sameBytes(t, "merged", b, before)
	if a.Precision() != 7 || a.Cap() != 7 || a.Scale() != 7 {
		t.Errorf("precision, cap, scale = %d, %d, %d, want the smaller: 7", a.Precision(), a.Cap(), a.Scale())
	}
}

func TestSketch_ZeroValueIsEmptyAtPrecision8(t *testing.T) {
	var s Sketch
	sameBytes(t, "zero value", &s, New(8))
	if !s.Empty() || s.Precision() != 8 || s.Median().Empty != true || !math.IsNaN(s.Median().Float64()) {
		t.Errorf("zero value: %+v, median %+v", s, s.Median())
	}
	s.AddInt(7)
	if m := s.Median(); m.Value != Int(7) || !m.Exact {
		t.Errorf("Median() of 7 = %+v", m)
	}
}

func TestSketch_RefusesWhatIsNotFinite(t *testing.T) {
	s, r := New(7), new(Recorder)
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, err := range []error{s.Add(v), s.AddN(v, 3), r.Add(v), r.AddN(v, 3)} {
			if !errors.Is(err, ErrNotFinite) {
				t.Errorf("Add(%v) = %v, want ErrNotFinite", v, err)
			}
		}
	}
	if s.Count()+r.Count() != 0 {
		t.Errorf("counted %d and %d values, want none", s.Count(), r.Count())
	}
}

// TestSketch_Cap merges what was measured at a coarser scale: the result is the
// same in any order and never finer.
func TestSketch_Cap(t *testing.T) {
	foreign := func(ns ...Number) *Sketch { // as from a histogram of scale 3
		s := sketchOfNumbers(t, 7, ns)
		s.ceiling, s.bounds, s.floats, s.sum = maxScale-3, true, true, int128{}
		s.shrink(s.ceiling)
		s.min, s.max = number(-math.MaxFloat64), number(math.MaxFloat64)
		bins := slices.Collect(s.Bins())
		s.min, s.max = bins[0].Lower, bins[len(bins)-1].Upper
		return s
	}
	a := foreign(Int(100), Int(107), Int(1000))
	b := sketchOf(7, lognormal(1, 500))
	x, y := a.Clone(), b.Clone()
	x.Merge(b)
	y.Merge(a)
	sameBytes(t, "a+b and b+a", x, y)
	if x.Cap() != 3 || x.Scale() != 3 || x.Precision() != 7 || x.ExactExtremes() {
		t.Errorf("cap %d, scale %d, precision %d, exact %v; want 3, 3, 7, false", x.Cap(), x.Scale(), x.Precision(), x.ExactExtremes())
	}
	sameBytes(t, "decoded", mustDecode(t, encode(x)), x)
	acc := NewAccumulator(7)
	mergeBinary(t, acc, encode(b))
	mergeBinary(t, acc, encode(a))
	sameBytes(t, "accumulated", acc.Sketch(), x)
	if e := a.Quantile(0); e.Exact || e.Lower.Cmp(Int(100)) > 0 || e.Upper.Cmp(Int(100)) < 0 {
		t.Errorf("Quantile(0) over bins = %+v, want an interval that holds 100", e)
	}
	y.Reset()
	if y.Cap() != 7 || !y.Empty() {
		t.Errorf("after Reset: cap %d, count %d", y.Cap(), y.Count())
	}
}
