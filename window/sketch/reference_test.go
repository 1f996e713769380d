package sketch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"slices"
)

// This is the encoding as plainly as it can be written, bit by bit and value by
// value. The decoder takes whatever can be read; what is canonical is told by
// encoding again. The tests hold the fast code against it.

// referenceCheck tells whether b is canonical.
func referenceCheck(b []byte) bool {
	s, ok := referenceDecode(b)
	return ok && referencePlausible(s) && bytes.Equal(referenceEncode(s), b)
}

func referenceEncode(s *Sketch) []byte {
	b := s.appendHeader(nil, total(s.negative))
	b = referencePart(s, b, true, s.negative)
	b = referencePart(s, b, false, s.positive)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func referencePart(s *Sketch, b []byte, negative bool, source []bin) []byte {
	count := total(source)
	if count <= 1 {
		return b
	}
	c := cellsOf(s.shift, s.floats)
	var bins []bin
	for _, x := range source {
		bins = append(bins, bin{int32(c.cell(x.index)), x.count})
	}
	last := len(bins) - 1
	low, high := uint32(bins[0].index), uint32(bins[last].index)
	if _, _, known := s.ends(negative); !known {
		b = binary.AppendUvarint(b, uint64(high-low))
	}
	if count == 2 || low == high {
		return b
	}
	bins[0].count--
	bins[last].count--
	bins = slices.DeleteFunc(bins, func(x bin) bool { return x.count == 0 })

	var rice plainBits
	rice.writeRice(bins, count-2, low, high-low)
	if count-2 <= maxEliasFano {
		var values []uint32
		for _, x := range bins {
			for range x.count {
				values = append(values, uint32(x.index))
			}
		}
		eliasFano := referenceEliasFano(values, low, high-low)
		if len(eliasFano) <= len(rice.bytes())*9/8 {
			return append(append(b, formatEliasFano), eliasFano...)
		}
	}
	return append(append(b, formatRice), rice.bytes()...)
}

// plainBits are bits, one to a byte.
type plainBits struct {
	bits []byte
	at   int  // of the next one to read
	bad  bool // read past the end

	escape int // which of the codes to come is written with an escape it does not need, from 1 on
}

func (p *plainBits) put(v uint64, n uint) {
	for k := range n {
		p.bits = append(p.bits, byte(v>>k&1))
	}
}

func (p *plainBits) rice(v uint64, k uint) {
	q := v >> k
	p.escape--
	if q >= riceEscape || p.escape == 0 && v > 0 {
		p.put(1<<riceEscape-1, riceEscape)
		p.put(uint64(bits.Len64(v)-1), 6)
		p.put(v, uint(bits.Len64(v)))
		return
	}
	p.put(1<<q-1, uint(q)+1)
	p.put(v, k)
}

func (p *plainBits) bytes() []byte {
	b := make([]byte, (len(p.bits)+7)/8)
	for k, bit := range p.bits {
		b[k/8] |= bit << (k % 8)
	}
	return b
}

func plainBitsOf(b []byte) plainBits {
	var p plainBits
	for _, x := range b {
		p.put(uint64(x), 8)
	}
	return p
}

func (p *plainBits) take(n uint) (v uint64) {
	for k := range n {
		if p.at >= len(p.bits) {
			p.bad = true
			return 0
		}
		v |= uint64(p.bits[p.at]) << k
		p.at++
	}
	return v
}

func (p *plainBits) readRice(k uint) uint64 {
	q := uint64(0)
	for q < riceEscape && p.take(1) == 1 {
		q++
	}
	if q == riceEscape {
		return p.take(uint(p.take(6)) + 1)
	}
	return q<<k | p.take(k)
}

func (p *plainBits) writeRice(bins []bin, count uint64, low, span uint32) {
	m := newRiceModel(count, span)
	at := int32(low)
	for len(bins) > 0 {
		x := bins[0]
		if m.density >= denseFrom {
			n := uint64(0)
			if x.index == at {
				n, bins = x.count, bins[1:]
			}
			folded := fold(n, m.density)
			p.rice(folded, m.spread.k())
			m.density, m.spread = m.density.next(n), m.spread.next(folded)
			at++
			continue
		}
		bins = bins[1:]
		gap := uint64(x.index - at)
		p.rice(gap, m.gap.k())
		p.rice(x.count-1, m.extra.k())
		m.gap, m.extra = m.gap.next(gap), m.extra.next(x.count-1)
		m.density = m.density.next(x.count >> bits.Len64(gap))
		at = x.index + 1
	}
}

func (p *plainBits) readBins(count uint64, low, span uint32) (bins []bin, ok bool) {
	m := newRiceModel(count, span)
	at := uint64(low)
	for count > 0 {
		var n uint64
		if m.density >= denseFrom {
			folded := p.readRice(m.spread.k())
			n = unfold(folded, m.density)
			m.density, m.spread = m.density.next(n), m.spread.next(folded)
		} else {
			gap := p.readRice(m.gap.k())
			n = p.readRice(m.extra.k()) + 1
			if gap > uint64(span) || n == 0 {
				return nil, false
			}
			m.gap, m.extra = m.gap.next(gap), m.extra.next(n-1)
			m.density = m.density.next(n >> bits.Len64(gap))
			at += gap
		}
		if at > uint64(low)+uint64(span) || n > count || p.bad {
			return nil, false
		}
		if n > 0 {
			bins = append(bins, bin{int32(at), n})
		}
		count -= n
		at++
	}
	return bins, true
}

// referenceLowBits takes one bit more as long as that makes fewer bytes.
func referenceLowBits(n int, span uint32) (l uint, low, high int) {
	size := func(l uint) int { return (n*int(l)+7)/8 + (n+int(span>>l)+7)/8 }
	for size(l+1) < size(l) {
		l++
	}
	return l, (n*int(l) + 7) / 8, (n + int(span>>l) + 7) / 8
}

func referenceEliasFano(x []uint32, low, span uint32) []byte {
	var gaps, lower, upper plainBits
	t, high, start := tailsOf(len(x)), low+span, tailGap(span)
	gap := start
	for _, v := range x[:t] {
		gaps.rice(uint64(v-low), gap.k())
		gap = gap.next(uint64(v - low))
		low = v
	}
	gap = start
	for k := range t {
		v := x[len(x)-1-k]
		gaps.rice(uint64(high-v), gap.k())
		gap = gap.next(uint64(high - v))
		high = v
	}
	x = x[t : len(x)-t]
	l, _, bitmap := referenceLowBits(len(x), high-low)
	upper.bits = make([]byte, bitmap*8)
	for k, v := range x {
		lower.put(uint64(v-low), l)
		upper.bits[int((v-low)>>l)+k] = 1
	}
	return slices.Concat(gaps.bytes(), lower.bytes(), upper.bytes())
}

func (p *plainBits) toByte() { p.at = (p.at + 7) / 8 * 8 }

func (p *plainBits) readEliasFano(n int, low, span uint32) (bins []bin, ok bool) {
	t, high, start := tailsOf(n), uint64(low)+uint64(span), tailGap(span)
	first := uint64(low)
	x := make([]uint64, n)
	gap := start
	for k := range t {
		v := p.readRice(gap.k())
		gap = gap.next(v)
		if first += v; v > uint64(span) {
			return nil, false
		}
		x[k] = first
	}
	gap = start
	for k := range t {
		v := p.readRice(gap.k())
		gap = gap.next(v)
		if v > high-first {
			return nil, false
		}
		high -= v
		x[n-1-k] = high
	}
	p.toByte()
	if first > high || p.bad {
		return nil, false
	}
	middle := x[t : n-t]
	l, lower, bitmap := referenceLowBits(len(middle), uint32(high-first))
	lows, set := *p, *p
	set.at += lower * 8
	p.at = set.at + bitmap*8
	for k, bit := 0, 0; k < len(middle); bit++ {
		if bit >= bitmap*8 || set.bad {
			return nil, false
		}
		if set.take(1) == 1 {
			middle[k] = first + uint64(bit-k)<<l + lows.take(l)
			k++
		}
	}
	if !slices.IsSorted(x) || x[n-1] > uint64(low)+uint64(span) {
		return nil, false
	}
	for _, v := range x {
		bins = addBin(bins, bin{int32(v), 1})
	}
	return bins, true
}

func referenceDecode(b []byte) (*Sketch, bool) {
	s := new(Sketch)
	if len(b) > MaxEncodedSize || len(b) < 3+checksumSize || b[0] != version {
		return nil, false
	}
	end := len(b) - checksumSize
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, false
	}
	r := reader{b: b[1:end]}
	if !s.referenceFlags(&r) {
		return nil, false
	}
	s.count = r.uvarint()
	if s.count > maxTotal {
		return nil, false
	}
	negatives := uint64(0)
	if s.count > 0 {
		if !s.referenceExtremes(&r) {
			return nil, false
		}
		if !s.floats {
			s.readSum(&r)
		}
		negatives = s.readSigns(&r)
	}
	ok := s.referenceRead(&r, true, negatives) && s.referenceRead(&r, false, s.count-s.zeros-negatives)
	return s, ok && r.bad == "" && len(r.b) == 0
}

func (s *Sketch) referenceFlags(r *reader) bool {
	flags := r.byte()
	s.coarseness = flags & flagCoarseness
	s.floats = flags&flagFloats != 0
	s.bounds = flags&flagBounds != 0
	s.ceiling, s.shift = s.coarseness, s.coarseness
	if flags&flagScaled != 0 {
		highest, scale := int(int8(r.byte())), int(int8(r.byte()))
		if scale < minScale || scale > highest || highest > s.Precision() {
			return false
		}
		s.ceiling, s.shift = uint8(maxScale-highest), uint8(maxScale-scale)
	}
	return flags&^flagsKnown == 0
}

func (s *Sketch) referenceExtremes(r *reader) bool {
	if !s.floats {
		s.readExtremes(r)
		return r.bad == ""
	}
	kinds := r.byte()
	s.min = r.number(kinds&kindMinFloat != 0)
	s.max = s.min
	if kinds&kindEqual == 0 {
		s.max = r.number(kinds&kindMaxFloat != 0)
	}
	return r.bad == "" && !s.max.less(s.min) && (s.bounds || s.count > 1 || s.min == s.max)
}

// referenceRead reads the part of one sign.
func (s *Sketch) referenceRead(r *reader, negative bool, count uint64) bool {
	if count == 0 || r.bad != "" {
		return r.bad == ""
	}
	c := cellsOf(s.shift, s.floats)
	outer, inner, known := s.ends(negative)
	high := c.cellOf(outer)
	low := high
	if known {
		low = c.cellOf(inner)
	} else if count > 1 {
		span := r.uvarint()
		if span > uint64(high-c.cellOf(leastMagnitude(s.floats))) {
			return false
		}
		low = high - uint32(span)
	}
	bins := []bin{{int32(low), count}}
	if low != high {
		if count == 1 {
			return false
		}
		var between []bin
		if count > 2 {
			format := r.byte()
			p := plainBitsOf(r.b)
			ok := false
			if format == formatEliasFano && count-2 <= maxEliasFano {
				between, ok = p.readEliasFano(int(count-2), low, high-low)
			} else if format == formatRice {
				between, ok = p.readBins(count-2, low, high-low)
			}
			if p.toByte(); !ok || p.bad || p.at > len(p.bits) {
				return false
			}
			r.b = r.b[p.at/8:]
		}
		bins = []bin{{int32(low), 1}}
		for _, x := range append(between, bin{int32(high), 1}) {
			bins = addBin(bins, x)
		}
	}
	for k := range bins {
		bins[k].index = c.bin(uint32(bins[k].index))
	}
	if negative {
		s.negative = bins
	} else {
		s.positive = bins
	}
	return true
}

// referencePlausible tells whether some values may lead to the sketch.
func referencePlausible(s *Sketch) bool {
	n := s.NumBins()
	switch {
	case n > MaxBins, s.shift > s.ceiling && (2*n <= MaxBins || s.count <= MaxBins):
		return false
	case s.count == 0:
		return !s.floats && !s.bounds && s.shift == s.coarseness
	case s.floats && s.onlyIntegers():
		return false
	case !s.floats:
		least, greatest := referenceSums(s)
		return s.sum.cmp(least) >= 0 && s.sum.cmp(greatest) <= 0
	}
	for _, b := range slices.Concat(s.negative, s.positive) {
		if lower, upper := binRange(b.index, s.shift, false, true); upper.less(lower) {
			return false
		}
	}
	return true
}

// referenceSums returns the least and the greatest sum of integers that the bins
// and the extremes allow.
func referenceSums(s *Sketch) (least, greatest int128) {
	for _, negative := range [2]bool{true, false} {
		bins := s.positive
		if negative {
			bins = s.negative
		}
		for _, b := range bins {
			lower, upper := s.span(b.index, negative)
			least = least.add(product(int64(lower.bits), b.count))
			greatest = greatest.add(product(int64(upper.bits), b.count))
		}
	}
	if s.bounds || s.count == 0 {
		return least, greatest
	}
	// One value is max and one is min, wherever the others of their bins lie.
	if i, negative := s.max.index(); s.max.sign() != 0 {
		lower, _ := s.span(i>>s.shift, negative)
		least = least.add(int128{0, s.max.bits - lower.bits})
	}
	if i, negative := s.min.index(); s.min.sign() != 0 && s.min != s.max {
		_, upper := s.span(i>>s.shift, negative)
		greatest = greatest.sub(int128{0, upper.bits - s.min.bits})
	}
	return least, greatest
}
