package sketch

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
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
