package sketch

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestRecorder_EqualsSketch(t *testing.T) {
	var r Recorder // used again and again: what Drain leaves behind would show
	rapid.Check(t, func(t *rapid.T) {
		want := New(MaxPrecision)
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			ns := numbers().Draw(t, "values")
			var ints []int64
			for _, n := range ns {
				if v, ok := n.Int64(); ok {
					ints = append(ints, v)
				} else {
					addTo(t, &r, n)
				}
			}
			r.AddInts(ints)
			addTo(t, want, ns...)
			sameBytes(t, "so far", r.Sketch(), want)
			if r.Count() != want.Count() {
				t.Fatalf("Count() = %d, want %d", r.Count(), want.Count())
			}
		}
		sameBytes(t, "drained", r.Drain(), want)
		if r.Count() != 0 || !r.Sketch().Empty() {
			t.Fatalf("%d values after Drain", r.Count())
		}
	})
}

func TestRecorder_CarriesBeyond32Bits(t *testing.T) {
	var r Recorder
	want := New(MaxPrecision)
	for v := range int64(200) {
		n := uint64(math.MaxUint32) - uint64(v%3)
		if v%5 == 0 {
			n = MaxCount + uint64(v)
		}
		r.AddIntN(v-100, n)
		want.AddIntN(v-100, n)
	}
	for range 5 {
		for v := range int64(200) {
			r.AddInt(v - 100)
			want.AddInt(v - 100)
		}
	}
	sameBytes(t, "drained", r.Drain(), want)
	r.AddInts(lognormal(1, 1000))
	sameBytes(t, "afterwards", r.Drain(), sketchOf(MaxPrecision, lognormal(1, 1000)))
}

func TestRecorder_DrainKeepsWhatIsUsedAndNoMore(t *testing.T) {
	var r Recorder
	r.AddInts(lognormal(1, 1000))
	r.Drain()
	if n := testing.AllocsPerRun(10, func() { r.AddInts(lognormal0) }); n != 0 {
		t.Errorf("%v allocations for known values after Drain, want none", n)
	}
	r.Drain()
	pages := 0
	for v := range int64(100) {
		r.AddInt(1<<40 + v<<34)
	}
	r.Drain()
	for _, p := range r.pages {
		if p != nil {
			pages++
		}
	}
	if pages == 0 || pages > 3 {
		t.Errorf("%d pages kept after values of two octaves, want those two", pages)
	}
	r.AddInt(5)
	r.Drain()
	if r.pages != nil {
		t.Errorf("%d pages kept after one value, want none", len(r.pages))
	}
}

var lognormal0 = lognormal(1, 1000)

func TestRecorder_ManyOfThemStaySmall(t *testing.T) {
	f := func(values int, want float64) {
		t.Helper()
		if got := bytesPerRecorder(1000, values); got > want {
			t.Errorf("%d values: %.0f bytes a recorder, want at most %.0f", values, got, want)
		}
	}
	f(4, 512)
	f(32, 1500)
	f(1000, 30_000)
}

func TestRecorder_AnyExponent(t *testing.T) {
	var r Recorder
	want := New(MaxPrecision)
	rnd := rand.New(rand.NewPCG(1, 1))
	for e := -1074; e < 1024; e++ {
		f := math.Ldexp(1+rnd.Float64()/2, e)
		addTo(t, &r, number(f), number(-f))
		addTo(t, want, number(f), number(-f))
	}
	sameBytes(t, "drained", r.Drain(), want)
}
