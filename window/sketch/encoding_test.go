package sketch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestEncoding_Pinned holds the bytes of version 1. They are on disks and in
// logs: a change here is another version.
func TestEncoding_Pinned(t *testing.T) {
	f := func(what string, s *Sketch, want string) {
		t.Helper()
		if got := hex.EncodeToString(encode(s)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	ints := func(precision int, vs ...int64) *Sketch { return sketchOf(precision, vs) }
	floats := ints(7)
	addTo(t, floats, number(0.25), Int(-3), number(1e300), Int(0), number(5e-324))
	wide := New(8)
	for i := range 5000 {
		addTo(t, wide, number(math.Ldexp(1, i%2000-1000)), number(-math.Ldexp(1.1, i/3-800)))
	}

	f("empty", ints(7), "01010073a987d6")
	f("one", ints(7, 42), "010101540006773f8b")
	f("two, of both signs", ints(5, -100, 101), "010302c701c9010001d551e06d")
	f("constant", ints(7, 7, 7, 7, 7), "0101040e00b18523ca")
	f("zeros", ints(6, 0, 0, 0), "01020300006bfa2a28")
	f("three", ints(8, 1, 10, 100), "01000302630901122e9afce0")
	f("floats", floats, "01050502059c7500883ce4377e0101cb9610000018044752c154")
	f("1 to 40", ints(7, upTo40()...), "0101280227e5050005aaaaaaaaaaaaaaaaaa00e74ed56b")
	f("dense, by Rice", ints(5, append(longTail(40), upTo40()...)...), "01035002cdefbe06e0c3ff1600227b013939393939393939392d36dc927e6187fbb20bf7de7befbd370000000010902401c414114490549200051705428814aa241c43")
	f("denser, by Rice", ints(6, slices.Repeat(append(longTail(60), upTo40()...), 9)...),
		"0102840702aebcdb0795d2e9bc0301fefcfbefbfff9e273322822419000000feff44fcff0ffffb5dabbbaa6cfbff8f2cfcf7ff2feae7fb7c8c6b3c878d5f461c69c4814386050d2dac610c1f4219862108412041051124d825a450420816fe3140f02adb7e082848b005f71082060a29e4b00408f62960b80708b6a740a1060d1a62d0f0317407a800a3f9")
	if got := crc32.ChecksumIEEE(encode(ints(7, longTail(1000)...))); got != 0xe934ebb6 {
		t.Errorf("1000 by Elias-Fano: checksum %#x", got)
	}
	if got := crc32.ChecksumIEEE(encode(wide)); got != 0xcedf7411 {
		t.Errorf("below its precision: checksum %#x", got)
	}
}

func upTo40() (vs []int64) {
	for v := range int64(40) {
		vs = append(vs, v+1)
	}
	return vs
}

// longTail has values without any float, whose functions may differ in the last
// bit between machines.
func longTail(n int) []int64 {
	r := rand.New(rand.NewPCG(1, 1))
	vs := make([]int64, n)
	for i := range vs {
		vs[i] = 1000 + int64(r.Uint64()>>(40+r.IntN(12)))
	}
	return vs
}

func TestEncoding_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := sketchOfNumbers(t, rapid.IntRange(MinPrecision, MaxPrecision).Draw(t, "precision"), numbers().Draw(t, "values"))
		b := encode(s)
		d := mustDecode(t, b)
		sameBytes(t, "decoded", d, s)
		if d.Count() != s.Count() || d.Min() != s.Min() || d.Max() != s.Max() || d.NumBins() != s.NumBins() {
			t.Fatalf("decoded %d values, %v to %v, %d bins", d.Count(), d.Min(), d.Max(), d.NumBins())
		}
		h, err := ReadHeader(b)
		if checked, err := Check(b); err != nil || checked != h {
			t.Fatalf("Check = %+v, %v, ReadHeader = %+v", checked, err, h)
		}
		if err != nil || h != s.header() {
			t.Fatalf("ReadHeader = %+v, %v, want %+v", h, err, s.header())
		}
		prefix := []byte("prefix")
		if b2, _ := s.AppendBinary(prefix); !bytes.Equal(b2, append([]byte("prefix"), b...)) {
			t.Fatalf("AppendBinary after a prefix = %x", b2)
		}
	})
}

// samples are encoded sketches of every kind: both formats, both signs, floats,
// scales below the precision.
func samples(tb testing.TB) map[string][]byte {
	r := rand.New(rand.NewPCG(9, 9))
	many := func(n int, draw func() Number) *Sketch {
		s := New(7)
		for range n {
			addTo(tb, s, draw())
		}
		return s
	}
	return map[string][]byte{
		"empty":         encode(New(5)),
		"one":           encode(many(1, func() Number { return Int(-5) })),
		"few":           encode(many(5, func() Number { return Int(r.Int64N(100) - 50) })),
		"lognormal":     encode(sketchOf(7, lognormal(1, 1000))),
		"few lognormal": encode(sketchOf(8, lognormal(1, 90))),
		"dense":         encode(sketchOf(5, lognormal(1, 3000))),
		"floats":        encode(many(300, func() Number { return number(r.NormFloat64()) })),
		"any":           encode(many(200, func() Number { return randomNumber(r) })),
		"constant":      encode(many(1000, func() Number { return Int(7) })),
		"wide":          encode(many(9000, func() Number { return Int(int64(r.Uint64()) >> r.IntN(60)) })),
		"huge counts": encode(many(40, func() Number { return Int(r.Int64N(1000)) }).with(func(s *Sketch) {
			s.AddIntN(500, MaxCount)
			s.AddIntN(3, MaxCount/3)
		})),
	}
}

func (s *Sketch) with(f func(*Sketch)) *Sketch {
	f(s)
	return s
}

func TestDecode_RefusesEveryFlippedBit(t *testing.T) {
	for name, b := range samples(t) {
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			refused(t, name+" with a flipped bit", b)
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestDecode_RefusesEveryTruncation(t *testing.T) {
	for name, b := range samples(t) {
		for n := range b {
			refused(t, name+" truncated", b[:n])
		}
		refused(t, name+" and a byte", append(bytes.Clone(b), 0))
	}
}

// refused checks that bytes are refused everywhere, and change nothing.
func refused(t *testing.T, what string, b []byte) {
	t.Helper()
	s := sketchOf(7, []int64{1, 2, 3})
	before := encode(s)
	if err := s.UnmarshalBinary(b); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%s: UnmarshalBinary(%x) = %v, want ErrCorrupt", what, b, err)
	}
	if !bytes.Equal(encode(s), before) {
		t.Fatalf("%s: UnmarshalBinary changed the sketch", what)
	}
	if _, err := Check(b); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%s: Check = %v, want ErrCorrupt", what, err)
	}
}

// TestDecode_CanonicalOrRefused damages sketches and makes the checksum right
// again: what is accepted must be exactly what the sketch encodes to, and the
// accumulator must survive it unchanged if it refuses.
func TestDecode_CanonicalOrRefused(t *testing.T) {
	accepted := 0
	for name, b := range samples(t) {
		if len(b) > 2000 {
			continue // the same code, slowly
		}
		for bit := range (len(b) - checksumSize) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			if checkForged(t, name, resealed(b)) {
				accepted++
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		for n := range len(b) - checksumSize {
			checkForged(t, name, resealed(b[:n+checksumSize]))
		}
	}
	if accepted == 0 {
		t.Error("nothing was accepted: no damage led to another sketch")
	}
}

// resealed returns b with its last four bytes made the checksum.
func resealed(b []byte) []byte {
	end := len(b) - checksumSize
	out := bytes.Clone(b[:end])
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

func checkForged(tb testing.TB, what string, b []byte) (accepted bool) {
	tb.Helper()
	var s Sketch
	err := s.UnmarshalBinary(b)
	if err == nil && !bytes.Equal(encode(&s), b) {
		tb.Fatalf("%s: %x accepted, but encodes as %x", what, b, encode(&s))
	}
	if err == nil && s.count > 0 {
		plausible(tb, what, &s)
	}
	precision := MaxPrecision
	if h, err := ReadHeader(b); err == nil {
		precision = h.Precision
	}
	a := NewAccumulator(precision)
	a.Merge(sketchOf(precision, []int64{1, 20, 300}))
	before, _ := a.AppendBinary(nil)
	switch mergeErr := a.MergeBinary(b); {
	case mergeErr == nil && err == nil:
		s.Merge(sketchOf(precision, []int64{1, 20, 300}))
		sameBytes(tb, what, a.Sketch(), &s)
	case mergeErr == nil:
		a.Sketch().Median() // trusted, and wrong in a way that does not show
	case err == nil:
		tb.Fatalf("%s: %x accepted, but not by the accumulator: %v", what, b, mergeErr)
	default:
		if after, _ := a.AppendBinary(nil); !bytes.Equal(before, after) {
			tb.Fatalf("%s: MergeBinary(%x) failed and changed the accumulator", what, b)
		}
	}
	return err == nil
}

// plausible checks what must hold for every sketch, whatever was added.
func plausible(tb testing.TB, what string, s *Sketch) {
	tb.Helper()
	n := uint64(0)
	last := number(-math.MaxFloat64)
	for b := range s.Bins() {
		if b.Upper.less(b.Lower) || b.Lower.less(last) || b.Count == 0 || b.Lower.less(s.min) || s.max.less(b.Upper) {
			tb.Fatalf("%s: bin %+v after %v, in [%v, %v]", what, b, last, s.min, s.max)
		}
		n += b.Count
		last = b.Upper
	}
	if n != s.count || s.NumBins() > MaxBins {
		tb.Fatalf("%s: %d values in %d bins, want %d", what, n, s.NumBins(), s.count)
	}
	for _, q := range []float64{0, 0.01, 0.5, 0.9, 1} {
		if e := s.Quantile(q); e.Upper.less(e.Lower) || e.Value.less(e.Lower) || e.Upper.less(e.Value) {
			tb.Fatalf("%s: Quantile(%v) = %+v", what, q, e)
		}
	}
}

// TestDecode_RefusesWhatNoValuesLeadTo encodes sketches that were tampered with.
func TestDecode_RefusesWhatNoValuesLeadTo(t *testing.T) {
	f := func(what string, tamper func(s *Sketch), vs ...int64) {
		t.Helper()
		s := sketchOf(7, vs)
		mustDecode(t, encode(s))
		tamper(s)
		refused(t, what, encode(s))
	}
	float := func(s *Sketch) { s.floats, s.sum = true, int128{} }
	f("one integer, marked otherwise", float, 5)
	f("two integers, marked otherwise", float, -3, 4)
	f("zeros, marked otherwise", float, 0, 0, 0)
	f("one integer often, marked otherwise", float, 7, 7, 7, 7)
	f("a scale lower than needed", func(s *Sketch) { s.shrink(s.shift + 1) }, lognormal(1, 100)...)
	f("the same with more than half the bins", func(s *Sketch) { s.shrink(s.shift + 1) }, everyBin(3000)...)
	f("a sum too large", func(s *Sketch) { s.sum = product(9, 3).add(int128{0, 1}) }, 1, 5, 9)
	f("a sum too small", func(s *Sketch) { s.sum = int128{} }, 10, 50, 90)
	f("a sum that the bins forbid", func(s *Sketch) { s.sum.low++ }, 10, 50, 90)
	f("a sum that the extremes forbid", func(s *Sketch) { s.sum.low += 3 }, 1000, 1001, 1002)
	f("a minimum in no bin", func(s *Sketch) { s.min = Int(3) }, 10, 50, 90)
	f("a maximum in no bin", func(s *Sketch) { s.max = Int(3000) }, 10, 50, 90)
	f("more than all values", func(s *Sketch) { s.count = maxTotal + 1; s.sum = product(10, s.count) }, 10, 50, 90)
	f("no zero behind a minimum of zero", func(s *Sketch) { s.zeros = 0 }, 0, 50, 90)
	f("an empty sketch with properties", func(s *Sketch) { s.bounds = true })
}

// TestDecode_RefusesBinsThatHoldNoNumber puts a value between two subnormal
// float64 that have none between them.
func TestDecode_RefusesBinsThatHoldNoNumber(t *testing.T) {
	s := New(8)
	addTo(t, s, number(5e-324), number(1e-323), number(1.5e-323))
	mustDecode(t, encode(s))
	s.positive[1].index -= 5
	refused(t, "a value between 5e-324 and 1e-323", encode(s))
}

// TestReadHeader_RefusesASumThatTheExtremesForbid is what stands between a
// forged sum and an accumulator, which does not look at the bins for it.
func TestReadHeader_RefusesASumThatTheExtremesForbid(t *testing.T) {
	s := sketchOf(7, []int64{10, 50, 90})
	s.sum = int128{1, 0}
	if h, err := ReadHeader(encode(s)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("ReadHeader = %+v, %v, want ErrCorrupt", h, err)
	}
	if err := NewAccumulator(7).MergeBinary(encode(s)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("MergeBinary = %v, want ErrCorrupt", err)
	}
}

// everyBin has a value in each of n neighbouring bins of scale 7.
func everyBin(n int32) (vs []int64) {
	for i := range n {
		vs = append(vs, int64(lowerInt(20<<DefaultPrecision+i, maxScale-DefaultPrecision))+1)
	}
	return vs
}

func TestDecode_BoundsWhatItAllocates(t *testing.T) {
	refused(t, "too long", resealed(make([]byte, MaxEncodedSize+1)))
	forged := binary.AppendUvarint([]byte{version, 1}, 1<<50) // count
	forged = binary.AppendVarint(forged, 1)
	forged = binary.AppendUvarint(forged, math.MaxInt64-1)
	forged = append(forged, 0, formatEliasFano)
	refused(t, "too many for Elias-Fano", resealed(append(forged, 0, 0, 0, 0)))
	n := testing.AllocsPerRun(10, func() {
		var s Sketch
		if s.UnmarshalBinary(forged) == nil {
			t.Error("forged sketch accepted")
		}
	})
	if n > 4 {
		t.Errorf("%v allocations for a forged sketch", n)
	}
}

// TestEncodedSize_Worst fills every bin with a count that takes the longest code.
func TestEncodedSize_Worst(t *testing.T) {
	s, r := New(8), rand.New(rand.NewPCG(1, 1))
	for i := range int32(MaxBins) {
		count := uint64(1) << (i % 2 * r.Int32N(50))
		s.AddIntN(int64(lowerInt(20<<maxScale+2*i, 0))+1, count)
	}
	if n := len(encode(s)); n > MaxEncodedSize/2 {
		t.Errorf("%d bins of any count take %d bytes, want at most half of MaxEncodedSize", s.NumBins(), n)
	} else {
		t.Logf("%d bins take %d bytes", s.NumBins(), n)
	}
	mustDecode(t, encode(s))
}

// TestEncodedSize_Goals holds the sizes that the design asks for: 1000 lognormal
// values, the mean over seeds.
func TestEncodedSize_Goals(t *testing.T) {
	f := func(precision int, want float64) {
		t.Helper()
		if got := meanLength(encoded(precision, 50, 1000)); got > want {
			t.Errorf("precision %d: %.1f bytes, want at most %v", precision, got, want)
		} else {
			t.Logf("precision %d: %.1f bytes", precision, got)
		}
	}
	f(7, 360)
	f(5, 160)
}
