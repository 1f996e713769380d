package sketch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// equalsReference checks that Check and UnmarshalBinary accept exactly what
// decoding plainly and encoding again accepts.
func equalsReference(tb rapid.TB, b []byte) (accepted bool) {
	tb.Helper()
	want := referenceCheck(b)
	h, err := Check(b)
	if (err == nil) != want {
		tb.Fatalf("Check(%x) = %v, encoding again says %v", b, err, want)
	}
	var s Sketch
	if err := s.UnmarshalBinary(b); (err == nil) != want {
		tb.Fatalf("UnmarshalBinary(%x) = %v, encoding again says %v", b, err, want)
	}
	if want && h != s.header() {
		tb.Fatalf("Check(%x) = %+v, the sketch has %+v", b, h, s.header())
	}
	return want
}

// randomSketch draws sketches of every kind of part: few and many values, dense
// and sparse, tails, atoms, both signs, below the precision and below a cap.
func randomSketch(tb rapid.TB, r *rand.Rand) *Sketch {
	s := New(MinPrecision + r.IntN(4))
	draws := []func() Number{
		func() Number { return Int(lognormalValue(r)) },
		func() Number { return Int(lognormalValue(r) - 10000) },
		func() Number { return Int(1 + r.Int64N(1000)) },
		func() Number { return Int(1<<40 + r.Int64N(1<<uint(1+r.IntN(40)))) },
		func() Number { return Int(int64(r.Uint64()) >> r.IntN(64)) },
		func() Number { return number(r.NormFloat64() * 1e3) },
		func() Number { return randomNumber(r) },
		func() Number { return randomInt(r) },
	}
	draw := draws[r.IntN(len(draws))]
	n := r.IntN(1 << r.IntN(12))
	if r.IntN(40) == 0 {
		n = 20000
	}
	for range n {
		v, times := draw(), uint64(1)
		if r.IntN(30) == 0 {
			times = 1 + r.Uint64N(1<<r.IntN(30))
		}
		if i, ok := v.Int64(); ok {
			s.AddIntN(i, times)
		} else if err := s.AddN(v.Float64(), times); err != nil {
			tb.Fatalf("AddN(%v): %v", v, err)
		}
	}
	if s.count > 0 && r.IntN(6) == 0 {
		s.bounds = true
	}
	if s.count > 0 && r.IntN(6) == 0 {
		s.ceiling = min(s.ceiling+uint8(r.IntN(12)), maxScale-minScale)
		s.shrink(max(s.shift, s.ceiling))
	}
	return s
}

// tampered returns a sketch that no values may have led to.
func tampered(r *rand.Rand, s *Sketch) *Sketch {
	switch r.IntN(5) {
	case 0:
		s.sum = s.sum.add(product(r.Int64N(1<<uint(1+r.IntN(50)))-r.Int64N(1<<uint(1+r.IntN(50))), 1))
	case 1:
		least, greatest := referenceSums(s)
		s.sum = []int128{least, least.sub(int128{0, 1}), greatest, greatest.add(int128{0, 1})}[r.IntN(4)]
	case 2:
		s.shrink(min(s.shift+1, maxScale-minScale))
	case 3:
		s.floats, s.sum = true, int128{}
	case 4:
		s.min, s.max = s.max, s.min
	}
	if s.floats {
		s.sum = int128{}
	}
	return s
}

// mutated returns b with damage that a forger may do.
func mutated(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	body := b[:len(b)-checksumSize]
	for range 1 + r.IntN(3) {
		at := r.IntN(len(body))
		if r.IntN(2) == 0 {
			at = max(0, len(body)-1-r.IntN(4)) // where the padding is
		}
		switch r.IntN(4) {
		case 0:
			body[at] = byte(r.Uint64())
		case 1:
			body[at]++
		default:
			body[at] ^= 1 << r.IntN(8)
		}
	}
	return resealed(b)
}

// inTheOtherPayload returns the sketch with each payload in the format that the
// encoder did not take, where both can be.
func inTheOtherPayload(s *Sketch) []byte {
	b := s.appendHeader(nil, total(s.negative))
	for _, negative := range [2]bool{true, false} {
		source := s.positive
		if negative {
			source = s.negative
		}
		part := referencePart(s, nil, negative, source)
		at := 0
		if _, _, known := s.ends(negative); !known && len(part) > 0 {
			_, at = binary.Uvarint(part)
		}
		if total(source)-2 > maxEliasFano || at >= len(part) {
			b = append(b, part...)
			continue
		}
		c := cellsOf(s.shift, s.floats)
		bins := make([]bin, len(source))
		c.number(bins, source)
		last := len(bins) - 1
		low, high := uint32(bins[0].index), uint32(bins[last].index)
		bins[0].count--
		bins[last].count--
		var values []uint32
		var left []bin
		for _, x := range bins {
			for range x.count {
				values = append(values, uint32(x.index))
			}
			if x.count > 0 {
				left = append(left, x)
			}
		}
		b = append(b, part[:at]...)
		if part[at] == formatRice {
			b = append(append(b, formatEliasFano), referenceEliasFano(values, low, high-low)...)
			continue
		}
		var rice plainBits
		rice.writeRice(left, uint64(len(values)), low, high-low)
		b = append(append(b, formatRice), rice.bytes()...)
	}
	return seal(b, 0)
}

// TestCheck_EqualsEncodingAgain is the proof that checking piece by piece misses
// nothing: the same bytes are accepted, of sketches, of sketches tampered with,
// in the other payload, and of damaged bytes.
func TestCheck_EqualsEncodingAgain(t *testing.T) {
	accepted, other, damaged, refusedOnes := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		s := randomSketch(t, r)
		b := encode(s)
		if want := referenceEncode(s); !bytes.Equal(b, want) {
			t.Fatalf("AppendBinary gives %x, plainly it is %x", b, want)
		}
		if equalsReference(t, b) {
			accepted++
		}
		if forged := inTheOtherPayload(s); !bytes.Equal(forged, b) {
			if equalsReference(t, forged) {
				t.Fatalf("both payloads are accepted: %x and %x", b, forged)
			}
			other++
		}
		for range 20 {
			if equalsReference(t, mutated(r, b)) {
				damaged++
			} else {
				refusedOnes++
			}
		}
		if s.count > 0 {
			equalsReference(t, referenceEncode(tampered(r, s.Clone())))
		}
	})
	if accepted == 0 || other == 0 || damaged == 0 || refusedOnes == 0 {
		t.Errorf("%d accepted, %d in the other payload, %d accepted and %d refused of damaged ones: want some of each",
			accepted, other, damaged, refusedOnes)
	}
	t.Logf("%d accepted, %d in the other payload, %d accepted and %d refused of damaged ones", accepted, other, damaged, refusedOnes)
}

// TestCheck_RefusesOtherForms has what random damage does not come upon: fields
// and codes that say the same in another way.
func TestCheck_RefusesOtherForms(t *testing.T) {
	f := func(what string, b []byte) {
		t.Helper()
		if b = resealed(append(b, 0, 0, 0, 0)); equalsReference(t, b) {
			t.Errorf("%s: %x accepted", what, b)
		}
		refused(t, what, b)
	}
	body := func(s *Sketch) []byte { b := encode(s); return b[:len(b)-checksumSize] }

	b := body(sketchOf(7, []int64{1, 2, 3}))
	f("a scale that is the precision", slices.Concat([]byte{b[0], b[1] | flagScaled, 7, 7}, b[2:]))

	s := New(7)
	addTo(t, s, number(0.5), number(0.5), number(0.5))
	b = body(s)
	for _, kinds := range []byte{kindEqual, kindEqual | kindMinFloat, kindEqual | kindMaxFloat} {
		f("kinds that contradict each other", slices.Concat(b[:3], []byte{kinds}, b[4:]))
	}
	f("a maximum that is the minimum", slices.Concat(b[:3], []byte{kindMinFloat | kindMaxFloat}, b[4:12], b[4:]))

	s = New(7)
	addTo(t, s, number(4.999), number(4.998), number(4.997))
	s.min, s.max, s.bounds = Int(5), Int(5), true
	b = body(s)
	mustDecode(t, encode(s))
	f("the kind of a maximum that is not written", slices.Concat(b[:3], []byte{kindEqual | kindMaxFloat}, b[4:]))

	s = sketchOf(7, lognormal(1, 20_000))
	bins := slices.Clone(s.positive)
	cells := cellsOf(s.shift, s.floats)
	cells.number(bins, s.positive)
	last := len(bins) - 1
	low, high := uint32(bins[0].index), uint32(bins[last].index)
	bins[0].count--
	bins[last].count--
	bins = slices.DeleteFunc(bins, func(x bin) bool { return x.count == 0 })
	head := append(s.appendHeader(nil, 0), formatRice)
	for _, escape := range []int{0, 1, 2, 500, 501, 502, 503} {
		rice := plainBits{escape: escape}
		rice.writeRice(bins, s.count-2, low, high-low)
		b := append(bytes.Clone(head), rice.bytes()...)
		switch same := bytes.Equal(b, body(s)); {
		case escape == 0 && !same:
			t.Fatalf("without an escape: %x, want %x", b, body(s))
		case escape > 0 && !same:
			f("an escape for a short number", b)
		}
	}
}

// TestCheck_RefusesTooManyBins has more than a sketch may, in one part and in both.
func TestCheck_RefusesTooManyBins(t *testing.T) {
	f := func(positives, negatives int32) {
		t.Helper()
		for _, times := range []uint64{1, 20} {
			s := New(8)
			for _, side := range []struct {
				n    int32
				bins *[]bin
			}{{positives, &s.positive}, {negatives, &s.negative}} {
				for i := range side.n {
					v := int64(lowerInt(20<<maxScale+i, 0)) + 1
					if side.bins == &s.negative {
						v = -v
					}
					i, _ := Int(v).index()
					*side.bins = append(*side.bins, bin{i, times})
					s.min, s.max = minNumber(s.min, Int(v)), maxNumber(s.max, Int(v))
					if s.count == 0 {
						s.min, s.max = Int(v), Int(v)
					}
					s.count += times
					s.sum = s.sum.add(product(v, times))
				}
			}
			b := encode(s)
			if s.NumBins() <= MaxBins {
				mustDecode(t, b)
				continue
			}
			refused(t, "too many bins", b)
			if positives > MaxBins && times > 1 { // what is merged as values is not counted
				if err := NewAccumulator(8).MergeBinary(b); !errors.Is(err, ErrCorrupt) {
					t.Errorf("MergeBinary of %d bins = %v, want ErrCorrupt", s.NumBins(), err)
				}
			}
		}
	}
	f(MaxBins, 0)
	f(MaxBins+1, 0)
	f(MaxBins+3, 0)
	f(MaxBins/2, MaxBins/2)
	f(MaxBins/2, MaxBins/2+1)
}

// TestMergeBinary_RefusesAGapThatWraps has a gap that would lead back below the
// lowest cell, and out of the counters.
func TestMergeBinary_RefusesAGapThatWraps(t *testing.T) {
	s := sketchOf(7, []int64{10_000, 20_000, 30_000})
	c := cellsOf(s.shift, s.floats)
	span := c.cellOf(s.max) - c.cellOf(s.min)
	m := newRiceModel(1, span)
	for _, gap := range []uint64{uint64(span) + 1, 1 << 31, 1<<32 + 5, 1<<63 + 5, 1<<64 - 1, 1<<64 - 1000} {
		var rice plainBits
		rice.rice(gap, m.gap.k())
		rice.rice(0, m.extra.k())
		b := seal(append(append(s.appendHeader(nil, 0), formatRice), rice.bytes()...), 0)
		refused(t, "a gap that wraps", b)
		if err := NewAccumulator(7).MergeBinary(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("gap %d: MergeBinary = %v, want ErrCorrupt", gap, err)
		}
	}
}

// TestCheck_SumsAtTheirBounds has many values in a bin that is narrower, for being
// rounded to integers, than bins are: no bound on the sum may be too wide there.
func TestCheck_SumsAtTheirBounds(t *testing.T) {
	f := func(s *Sketch, sum int128, want bool) {
		t.Helper()
		s.sum = sum
		if _, err := Check(encode(s)); (err == nil) != want {
			t.Errorf("sum %v of %v: Check = %v, want accepted %v", sum, s, err, want)
		}
	}
	for v := int64(100); v < 3000; v += 3 {
		s := New(7)
		for _, sign := range []int64{1, -1} {
			s.AddInt(sign)
			s.AddIntN(sign*v, 5000)
			s.AddInt(sign * 1_000_000)
			least, greatest := referenceSums(s)
			f(s, least, true)
			f(s, greatest, true)
			f(s, least.sub(int128{0, 1}), false)
			f(s, greatest.add(int128{0, 1}), false)
		}
	}
}

func minNumber(a, b Number) Number {
	if b.less(a) {
		return b
	}
	return a
}

func maxNumber(a, b Number) Number {
	if a.less(b) {
		return b
	}
	return a
}

func TestRiceLimit(t *testing.T) {
	for n := range 1000 {
		if r := riceLimit(n); r*9/8 < n || r > 0 && (r-1)*9/8 >= n {
			t.Errorf("riceLimit(%d) = %d, not the least r with r*9/8 ≥ n", n, r)
		}
	}
}

func TestCheck_AllocatesNothingOnceWarm(t *testing.T) {
	all := encoded(7, 8, 1000)
	all = append(all, encoded(7, 2, 10000)...)
	var buf buffers // what Check has from a pool, which may forget
	round := func() {
		for _, b := range all {
			if err := buf.readAndCheck(b, &buf.tmp); err != nil {
				t.Fatal(err)
			}
		}
	}
	round()
	if n := testing.AllocsPerRun(10, round); n != 0 {
		t.Errorf("%v allocations for %d checks, want none", n, len(all))
	}
}
