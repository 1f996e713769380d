package sketch

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAccumulator_EqualsMerge(t *testing.T) {
	a := NewAccumulator(7) // used again and again: what is left over would show
	rapid.Check(t, func(t *rapid.T) {
		precision := rapid.IntRange(MinPrecision, MaxPrecision).Draw(t, "precision")
		want := New(precision)
		a.Reset(precision)
		for range rapid.IntRange(0, 6).Draw(t, "parts") {
			s := sketchOfNumbers(t, precision, numbers().Draw(t, "values"))
			want.Merge(s)
			if rapid.Bool().Draw(t, "from bytes") {
				if err := a.MergeBinary(encode(s)); err != nil {
					t.Fatal(err)
				}
			} else {
				a.Merge(s)
			}
		}
		sameBytes(t, "accumulated", a.Sketch(), want)
		if b, _ := a.AppendBinary([]byte{1}); !bytes.Equal(b[1:], encode(want)) {
			t.Fatalf("AppendBinary = %x, want %x", b[1:], encode(want))
		}
		if a.Min() != want.Min() || a.Max() != want.Max() || a.Median() != want.Median() {
			t.Fatalf("Min, Max, Median() = %v, %v, %+v, want %v, %v, %+v", a.Min(), a.Max(), a.Median(), want.Min(), want.Max(), want.Median())
		}
		for _, q := range append(quantiles, rapid.Float64Range(0, 1).Draw(t, "q")) {
			if got, want := a.Quantile(q), want.Quantile(q); got != want {
				t.Fatalf("Quantile(%v) = %+v, want %+v", q, got, want)
			}
		}
		if a.Count() != want.Count() {
			t.Fatalf("Count() = %d, want %d", a.Count(), want.Count())
		}
	})
}

func TestAccumulator_AnswersBeyondMaxBins(t *testing.T) {
	a, want := NewAccumulator(8), New(8)
	for k := range 3 {
		vs := make([]int64, 3000)
		for i := range vs {
			vs[i] = int64(lowerInt(20<<maxScale+int32(3000*k+i), 0)+1) * int64(1-2*(i%2))
		}
		s := sketchOf(8, vs)
		a.Merge(s)
		want.Merge(s)
	}
	if want.Scale() == 8 {
		t.Fatalf("%d bins at scale 8: the values are not wide enough", want.NumBins())
	}
	for _, q := range quantiles {
		if got, want := a.Quantile(q), want.Quantile(q); got != want {
			t.Errorf("Quantile(%v) = %+v, want %+v", q, got, want)
		}
	}
}

// TestAccumulator_MergesBytesAtAnotherScale merges each kind of payload after
// values so wide that the counters are coarser than it.
func TestAccumulator_MergesBytesAtAnotherScale(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	wide := New(7)
	for range 9000 {
		addTo(t, wide, Int(int64(r.Uint64())>>r.IntN(62)))
	}
	for name, s := range map[string]*Sketch{
		"bitmap":        sketchOf(7, lognormal(1, 1000)),
		"small bitmap":  sketchOf(7, upTo40()),
		"low bits":      sketchOf(7, lognormal(1, 100)),
		"Rice":          sketchOf(7, lognormal(1, 10_000)),
		"small numbers": sketchOf(7, slices.Repeat(upTo40(), 50)),
	} {
		for _, first := range []*Sketch{wide, New(7)} {
			a, want := NewAccumulator(7), first.Clone()
			a.Merge(first)
			want.Merge(s)
			mergeBinary(t, a, encode(s))
			sameBytes(t, name, a.Sketch(), want)
		}
	}
	if wide.Scale() == 7 {
		t.Error("the wide values are not wide enough")
	}
}

func TestAccumulator_MergeOfAFinerOrCoarserSketch(t *testing.T) {
	fine, coarse := sketchOf(8, lognormal(1, 500)), sketchOf(6, lognormal(2, 500))
	a := NewAccumulator(7)
	want := New(7)
	for _, s := range []*Sketch{fine, coarse} {
		a.Merge(s)
		want.Merge(s)
	}
	sameBytes(t, "accumulated", a.Sketch(), want)
}

func TestAccumulator_RefusesAnotherPrecision(t *testing.T) {
	a := NewAccumulator(7)
	a.Merge(sketchOf(7, []int64{1, 2, 3}))
	for _, precision := range []int{5, 6, 8} {
		if err := a.MergeBinary(encode(sketchOf(precision, lognormal(1, 100)))); !errors.Is(err, ErrPrecision) {
			t.Errorf("MergeBinary at precision %d = %v, want ErrPrecision", precision, err)
		}
	}
	sameBytes(t, "after errors", a.Sketch(), sketchOf(7, []int64{1, 2, 3}))
}

func TestAccumulator_AllocatesNothingOnceWarm(t *testing.T) {
	nodes := encoded(7, 16, 1000)
	nodes = append(nodes, encoded(7, 4, 10000)...)
	a := NewAccumulator(7)
	round := func() {
		a.Reset(7)
		for _, n := range nodes {
			mergeBinary(t, a, n)
		}
	}
	round()
	if n := testing.AllocsPerRun(10, round); n != 0 {
		t.Errorf("%v allocations for %d merges, want none", n, len(nodes))
	}
}

func TestAccumulator_ResetForgetsAll(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	a := NewAccumulator(8)
	for range 5000 {
		addTo(t, accumulatorAdder{a}, randomNumber(r))
	}
	a.Reset(5)
	a.Merge(sketchOf(5, []int64{-7, 0, 7}))
	sameBytes(t, "after Reset", a.Sketch(), sketchOf(5, []int64{-7, 0, 7}))
}

// accumulatorAdder merges a sketch of each value.
type accumulatorAdder struct{ *Accumulator }

func (a accumulatorAdder) AddInt(v int64) { a.AddIntN(v, 1) }
func (a accumulatorAdder) AddIntN(v int64, n uint64) {
	s := New(8)
	s.AddIntN(v, n)
	a.Merge(s)
}
func (a accumulatorAdder) Add(v float64) error { return a.AddN(v, 1) }
func (a accumulatorAdder) AddN(v float64, n uint64) error {
	s := New(8)
	err := s.AddN(v, n)
	a.Merge(s)
	return err
}
