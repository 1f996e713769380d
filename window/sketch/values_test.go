package sketch

import (
	"bytes"
	"math"
	"math/rand/v2"

	"pgregory.net/rapid"
)

// randomNumber draws from the corners of the domain as often as from its middle.
func randomNumber(r *rand.Rand) Number {
	switch r.IntN(9) {
	case 0:
		return Int(r.Int64N(21) - 10)
	case 1:
		return Int(int64(r.Uint64()))
	case 2:
		return Int(int64(r.Uint64()) >> r.IntN(64))
	case 3: // at a bound of a bin, or one beside it
		u := lowerInt(r.Int32N(63<<maxScale), 0) + uint64(r.IntN(3)) - 1
		return signed(r, Int(int64(u&math.MaxInt64)))
	case 4:
		return []Number{Int(math.MinInt64), Int(math.MinInt64 + 1), Int(math.MaxInt64), Int(math.MaxInt64 - 1),
			number(math.MaxFloat64), number(-math.MaxFloat64), number(0x1p63), number(-0x1p64), {}}[r.IntN(9)]
	case 5:
		return signed(r, number(math.Float64frombits(r.Uint64()>>(12+r.IntN(52))))) // subnormal
	case 6:
		return signed(r, number(lowerFloat(r.Int32N(2098<<maxScale)-1074<<maxScale, 0)))
	case 7:
		return number(math.Round(r.NormFloat64()*1000) / 8)
	}
	for {
		if f := math.Float64frombits(r.Uint64()); finite(f) {
			return number(f)
		}
	}
}

func signed(r *rand.Rand, n Number) Number {
	if r.IntN(2) == 0 {
		return n.neg()
	}
	return n
}

func randomInt(r *rand.Rand) Number {
	for {
		if n := randomNumber(r); !n.float {
			return n
		}
	}
}

// numbers draws a multiset of integers, of any numbers, or of few that repeat.
func numbers() *rapid.Generator[[]Number] {
	return rapid.Custom(func(t *rapid.T) []Number {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		draw := randomNumber
		if rapid.Bool().Draw(t, "integers") {
			draw = randomInt
		}
		ns := make([]Number, rapid.IntRange(0, 200).Draw(t, "n"))
		for i := range ns {
			ns[i] = draw(r)
			if i > 0 && r.IntN(3) == 0 {
				ns[i] = ns[r.IntN(i)]
			}
		}
		return ns
	})
}

// adder is what values are added to.
type adder interface {
	AddInt(int64)
	AddIntN(int64, uint64)
	Add(float64) error
	AddN(float64, uint64) error
}

var (
	_ adder = (*Sketch)(nil)
	_ adder = (*Recorder)(nil)
)

func addTo(tb rapid.TB, a adder, ns ...Number) {
	tb.Helper()
	for _, n := range ns {
		if v, ok := n.Int64(); ok {
			a.AddInt(v)
		} else if err := a.Add(n.Float64()); err != nil {
			tb.Fatalf("Add(%v): %v", n, err)
		}
	}
}

func sketchOfNumbers(tb rapid.TB, precision int, ns []Number) *Sketch {
	tb.Helper()
	s := New(precision)
	addTo(tb, s, ns...)
	return s
}

func sameBytes(tb rapid.TB, what string, got, want *Sketch) {
	tb.Helper()
	if g, w := encode(got), encode(want); !bytes.Equal(g, w) {
		tb.Fatalf("%s: bytes differ\n got %x\nwant %x", what, g, w)
	}
}

func precisions(f func(precision int)) {
	for p := MinPrecision; p <= MaxPrecision; p++ {
		f(p)
	}
}

// shuffled returns ns in another order.
func shuffled(r *rand.Rand, ns []Number) []Number {
	out := append([]Number(nil), ns...)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func mustDecode(tb rapid.TB, b []byte) *Sketch {
	tb.Helper()
	s := new(Sketch)
	if err := s.UnmarshalBinary(b); err != nil {
		tb.Fatalf("UnmarshalBinary(%x): %v", b, err)
	}
	return s
}
