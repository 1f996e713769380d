package sketch

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

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
