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
