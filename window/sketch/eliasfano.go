package sketch

import (
	"encoding/binary"
	"slices"
)

// The Elias-Fano payload holds sorted cells x[0] ≤ … ≤ x[n-1], repeats and all,
// between low and low+span. The outermost values of a heavy tail lie far apart,
// and would make the bitmap below long for all others, so up to 16 of them on
// either side go ahead as gaps, from the outside in.
//
//	+----------------+------------------+----------------------+
//	| gaps of the t  | low l bits of    | bitmap: bit          |
//	| lowest, then   | each of the      | (y>>l)+k is set for  |
//	| the t highest, | n-2t others, y = | the k-th of them     |
//	| Rice codes     | x - x[t-1]       |                      |
//	+----------------+------------------+----------------------+
//
// Each of the three ends on a whole byte; t and l follow from n and the bounds.

const (
	// maxEliasFano is the most values that the payload is used for: it takes more
	// than a bit for each, so that beyond a few thousand the Rice payload wins.
	maxEliasFano = 1 << 16

	// maxTail is the most values on either side that go ahead as gaps.
	maxTail = 16
)

// tail holds the outermost values of one side, from the outside in.
type tail [maxTail]uint32

// tailsOf returns how many of n values on either side go ahead as gaps.
func tailsOf(n int) int { return min(n/32, maxTail) }

// tailGap is what the first gap of a tail is expected to be.
func tailGap(span uint32) average { return average(span) >> 2 }

// lowBits returns the number of low bits for n values within span, and the
// lengths of low bits and bitmap in bytes. It is the first number that one bit
// more does not make shorter.
func lowBits(n int, span uint32) (l uint, low, high int) {
	low, high = 0, (n+int(span)+7)/8
	for {
		lower, higher := (n*int(l+1)+7)/8, (n+int(span>>(l+1))+7)/8
		if lower+higher >= low+high {
			return l, low, high
		}
		l, low, high = l+1, lower, higher
	}
}

// eliasFano is how bins are written in Elias-Fano.
type eliasFano struct {
	n             int  // values between the tails
	t             int  // values in each tail
	lows, highs   tail // the tails
	low, high     uint32
	first, last   uint32 // bounds of the values between the tails
	l             uint
	lower, bitmap int // bytes of the low bits and of the bitmap
	size          int // bytes of all
}

// planEliasFano tells how count values are written, and with it the size.
func planEliasFano(bins []bin, count int, low, span uint32) (p eliasFano) {
	p.t = tailsOf(count)
	p.n = count - 2*p.t
	p.low, p.high = low, low+span
	p.first, p.last = p.low, p.high
	if p.t > 0 {
		gapBits := uint(0)
		gap := tailGap(span)
		for k, at := 0, 0; k < p.t; at++ {
			for end := k + int(min(bins[at].count, uint64(p.t-k))); k < end; k++ {
				v := uint32(bins[at].index)
				gapBits += riceLength(uint64(v-p.first), gap.k())
				gap = gap.next(uint64(v - p.first))
				p.first, p.lows[k] = v, v
			}
		}
		gap = tailGap(span)
		for k, at := 0, len(bins)-1; k < p.t; at-- {
			for end := k + int(min(bins[at].count, uint64(p.t-k))); k < end; k++ {
				v := uint32(bins[at].index)
				gapBits += riceLength(uint64(p.last-v), gap.k())
				gap = gap.next(uint64(p.last - v))
				p.last, p.highs[k] = v, v
			}
		}
		p.size = int(gapBits+7) / 8
	}
	p.l, p.lower, p.bitmap = lowBits(p.n, p.last-p.first)
	p.size += p.lower + p.bitmap
	return p
}

// append appends the bins that were planned for, and uses them up.
func (p *eliasFano) append(b []byte, bins []bin, tmp *scratch) []byte {
	b = slices.Grow(b, p.size+8) // words are stored whole
	if p.t > 0 {
		w := bitWriter{b: b}
		writeTail(&w, p.lows[:p.t], p.low, p.high)
		// What is written is a distance, so the way down is the way up mirrored.
		for k := range p.highs[:p.t] {
			p.highs[k] = ^p.highs[k]
		}
		writeTail(&w, p.highs[:p.t], ^p.high, ^p.low)
		b = w.flush()
		bins = trimmed(bins, uint64(p.t))
	}
	if p.l > 0 {
		b = appendLowBits(b, bins, p.first, p.l)
	}
	return appendBitmap(b, bins, p.first, p.l, p.bitmap, tmp)
}

// writeTail writes the gaps between values that rise from low on.
func writeTail(w *bitWriter, values []uint32, low, high uint32) {
	gap := tailGap(high - low)
	for _, v := range values {
		w.rice(uint64(v-low), gap.k())
		gap = gap.next(uint64(v - low))
		low = v
	}
}

// trimmed takes the t lowest and the t highest values out of bins.
func trimmed(bins []bin, t uint64) []bin {
	n := t
	for ; n >= bins[0].count; bins = bins[1:] {
		n -= bins[0].count
	}
	bins[0].count -= n
	last := len(bins) - 1
	for n = t; n >= bins[last].count; last-- {
		n -= bins[last].count
	}
	bins[last].count -= n
	return bins[:last+1]
}

// appendLowBits appends the l low bits of each value above low.
func appendLowBits(b []byte, bins []bin, low uint32, l uint) []byte {
	mask := uint64(1)<<(l&63) - 1
	acc, n := uint64(0), uint(0)
	for _, x := range bins {
		v := uint64(uint32(x.index)-low) & mask
		for range x.count {
			acc |= v << (n & 63)
			if n += l; n >= 32 {
				b = binary.LittleEndian.AppendUint32(b, uint32(acc))
				acc >>= 32
				n -= 32
			}
		}
	}
	for ; n > 0; n -= min(n, 8) {
		b = append(b, byte(acc))
		acc >>= 8
	}
	return b
}

// appendBitmap appends the bitmap of the values above low.
func appendBitmap(b []byte, bins []bin, low uint32, l uint, size int, tmp *scratch) []byte {
	n := size/8 + 2 // the word behind the last is stored too
	if cap(tmp.words) < n {
		tmp.words = make([]uint64, n)
	}
	words := tmp.words[:n]
	clear(words)
	setRuns(words, bins, low, l)
	b = slices.Grow(b, size+8)
	end := len(b) + size
	for _, word := range words[:(size+7)/8] {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b[:end]
}

// setRuns sets the bits of the values above low, of each bin a run. The word that
// a run ends in is stored for each, so that no branch depends on whether the
// next run begins in another.
func setRuns(words []uint64, bins []bin, low uint32, l uint) {
	word, k, at := uint64(0), uint64(0), uint64(0) // word is that of number at
	for i := range bins {
		bit, n := uint64((uint32(bins[i].index)-low)>>(l&31))+k, bins[i].count
		k += n
		if bit>>6 != at {
			word = 0
		}
		at = bit >> 6
		bit &= 63
		if bit+n >= 64 {
			words[at] = word | ^uint64(0)<<bit
			n -= 64 - bit
			for at++; n >= 64; at++ {
				words[at] = ^uint64(0)
				n -= 64
			}
			word, bit = 0, 0
		}
		word |= (1<<(n&63) - 1) << (bit & 63)
		words[at] = word
	}
}
