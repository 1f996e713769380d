package sketch

import (
	"encoding/binary"
	"math/bits"
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

// maxEliasFano is the most values that the payload is used for: it takes more
// than a bit for each, so that beyond a few thousand the Rice payload wins.
const maxEliasFano = 1 << 16

// tailsOf returns how many of n values on either side go ahead as gaps.
func tailsOf(n int) int { return min(n/32, 16) }

// tailGap is what the first gap of a tail is expected to be.
func tailGap(span uint32) average { return average(span) >> 2 }

// lowBits returns the number of low bits that takes the fewest bytes for n values
// within span, and the lengths of low bits and bitmap in bytes.
func lowBits(n int, span uint32) (l uint, low, high int) {
	for {
		low, high = (n*int(l)+7)/8, (n+int(span>>l)+7)/8
		if more := (n*int(l+1)+7)/8 + (n+int(span>>(l+1))+7)/8; more >= low+high {
			return l, low, high
		}
		l++
	}
}

func appendEliasFano(b []byte, x []uint32, low, span uint32) []byte {
	w := bitWriter{b: b}
	x, low, high := writeTails(&w, x, low, span)
	b = w.flush()
	l, _, bitmap := lowBits(len(x), high-low)
	if l > 0 {
		w = bitWriter{b: b}
		for _, v := range x {
			w.put(uint64(v-low)&(1<<l-1), l)
		}
		b = w.flush()
	}
	b = append(b, make([]byte, bitmap)...)
	set := b[len(b)-bitmap:]
	for k, v := range x {
		bit := int((v-low)>>l) + k
		set[bit>>3] |= 1 << (bit & 7)
	}
	return b
}

// eliasFanoSize returns the number of bytes that appendEliasFano appends.
func eliasFanoSize(x []uint32, low, span uint32) int {
	w := bitWriter{measuring: true}
	x, low, high := writeTails(&w, x, low, span)
	_, lows, bitmap := lowBits(len(x), high-low)
	return w.size() + lows + bitmap
}

// writeTails writes the outermost values. It returns the others and the bounds
// that they lie in.
func writeTails(w *bitWriter, x []uint32, low, span uint32) (rest []uint32, first, last uint32) {
	t := tailsOf(len(x))
	high := low + span
	gap := tailGap(span)
	for _, v := range x[:t] {
		w.rice(uint64(v-low), gap.k())
		gap = gap.next(uint64(v - low))
		low = v
	}
	gap = tailGap(span)
	for k := range t {
		v := x[len(x)-1-k]
		w.rice(uint64(high-v), gap.k())
		gap = gap.next(uint64(high - v))
		high = v
	}
	return x[t : len(x)-t], low, high
}

// readEliasFano fills x with what appendEliasFano wrote and returns the rest of
// b. What it returns with true is sorted and lies within low and low+span.
func readEliasFano(x []uint32, b []byte, low, span uint32) ([]byte, bool) {
	high := low + span
	if t := tailsOf(len(x)); t > 0 {
		var ok bool
		if low, high, b, ok = readTails(x, t, b, low, high); !ok {
			return nil, false
		}
		x = x[t : len(x)-t]
	}
	l, lows, bitmap := lowBits(len(x), high-low)
	if lows+bitmap > len(b) {
		return nil, false
	}
	rest := b[lows+bitmap:]
	set := b[lows : lows+bitmap]
	if l == 0 {
		// The bitmap alone, as in most sketches of a thousand values: positions
		// less k never fall, so x is sorted as it is.
		return rest, readBitmap(x, set, low) && x[len(x)-1] <= high
	}
	return rest, readBitmap(x, set, 0) && addLowBits(x, b, l, low, high)
}

// readTails fills in the outermost t values on either side. It returns the bounds
// that the others lie in.
func readTails(x []uint32, t int, b []byte, low, high uint32) (first, last uint32, rest []byte, ok bool) {
	r := bitReader{b: b}
	start := tailGap(high - low)
	gap := start
	for k := range t {
		v := r.rice(gap.k())
		gap = gap.next(v)
		if v > uint64(high-low) {
			return 0, 0, nil, false
		}
		low += uint32(v)
		x[k] = low
	}
	gap = start
	for k := range t {
		v := r.rice(gap.k())
		gap = gap.next(v)
		if v > uint64(high-low) {
			return 0, 0, nil, false
		}
		high -= uint32(v)
		x[len(x)-1-k] = high
	}
	rest, ok = r.rest()
	return low, high, rest, ok
}

// readBitmap sets x[k] to low and the position of the k-th bit that is set, less
// k. It returns false if other than len(x) are set.
func readBitmap(x []uint32, bitmap []byte, low uint32) bool {
	for ; len(bitmap) >= 8; bitmap = bitmap[8:] {
		word := binary.LittleEndian.Uint64(bitmap)
		n := bits.OnesCount64(word)
		if n > len(x) {
			return false
		}
		// Each bit moves what follows one down, so low runs back as x fills.
		for j := range x[:n] {
			x[j] = low + uint32(bits.TrailingZeros64(word)) - uint32(j)
			word &= word - 1
		}
		x = x[n:]
		low += 64 - uint32(n)
	}
	if len(bitmap) > 0 {
		var last [8]byte
		copy(last[:], bitmap)
		return readBitmap(x, last[:], low)
	}
	return len(x) == 0
}

// addLowBits puts l low bits behind each x, and adds low. It returns false if
// the result is not sorted or goes beyond high.
func addLowBits(x []uint32, b []byte, l uint, low, high uint32) bool {
	mask := uint64(1)<<l - 1
	previous, bit := low, uint(0)
	unsorted := uint32(0)
	for k, v := range x {
		v = low + v<<(l&31) + uint32(loadBits(b, bit)&mask)
		bit += l
		unsorted |= v - previous
		previous = v
		x[k] = v
	}
	return unsorted>>31 == 0 && previous <= high
}

// loadBits returns at least 32 bits of b from a bit on, zeros past the end.
func loadBits(b []byte, bit uint) uint64 {
	at := bit >> 3
	if at+8 <= uint(len(b)) {
		return binary.LittleEndian.Uint64(b[at:]) >> (bit & 7)
	}
	var v uint64
	for j, x := range b[min(at, uint(len(b))):] {
		v |= uint64(x) << (8 * j)
	}
	return v >> (bit & 7)
}
