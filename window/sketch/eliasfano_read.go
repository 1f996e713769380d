package sketch

import (
	"encoding/binary"
	"math/bits"
)

// readEliasFano reads the payload and returns the rest of b. What it returns with
// true is sorted, lies within the outermost cells, and is written in no other
// way. As bins it is MaxBins at most. If they are to be merged only, those
// between the tails are values, or left in their bitmap, which takes less time.
func (p *part) readEliasFano(tmp *scratch, b []byte, merging bool) (rest []byte, ok bool) {
	count, low, high := int(p.count-2), p.low, p.low+p.span
	bins := tmp.sizedBins(min(count, MaxBins))
	t := tailsOf(count)
	n := count - 2*t
	var highs tail
	used := 0 // bins
	if t > 0 {
		var lows tail
		if b, ok = readTails(lows[:t], highs[:t], b, low, high); !ok {
			return nil, false
		}
		low, high = lows[t-1], highs[t-1]
		used = len(appendValues(bins[:0], lows[:t]))
	}
	l, lower, bitmap := lowBits(n, high-low)
	if lower+bitmap > len(b) {
		return nil, false
	}
	rest = b[lower+bitmap:]
	set := b[lower : lower+bitmap]
	switch {
	case !cleanPadding(b[:lower], uint(n)*l):
		return nil, false
	case l == 0 && !merging:
		// The bitmap alone, as in most sketches of a thousand values.
		used, ok = readRuns(bins, used, set, n, low, high)
	case l == 0:
		p.bitmap, p.first = set, low
		ok = fits(set, n, high-low)
	default:
		values := sized(&tmp.values, n)
		if ok = readBitmap(values, set); ok && merging {
			p.values, ok = values, addLowBits(values, b, l, low, high)
		} else if ok {
			used, ok = readLowBits(bins, used, values, b, l, low, high)
		}
	}
	if !ok {
		return nil, false
	}
	for k := t - 1; k >= 0; k-- {
		if bins[used-1].index != int32(highs[k]) {
			if used == len(bins) {
				return nil, false
			}
			bins[used] = bin{int32(highs[k]), 0}
			used++
		}
		bins[used-1].count++
	}
	p.bins = bins[:used]
	return rest, true
}

// fits tells whether a bitmap holds n values up to span.
func fits(bitmap []byte, n int, span uint32) bool {
	end := len(bitmap)
	for end > 0 && bitmap[end-1] == 0 {
		end--
	}
	if end == 0 {
		return false
	}
	greatest := end*8 - bits.LeadingZeros8(bitmap[end-1]) - n // its bit less the n-1 before
	for ; len(bitmap) >= 8; bitmap = bitmap[8:] {
		n -= bits.OnesCount64(binary.LittleEndian.Uint64(bitmap))
	}
	return n == bits.OnesCount64(lastWord(bitmap)) && greatest <= int(span)
}

// appendValues appends sorted values as bins.
func appendValues(bins []bin, values []uint32) []bin {
	for _, v := range values {
		bins = addBin(bins, bin{int32(v), 1})
	}
	return bins
}

// readTails fills in the outermost values of both sides, and returns the rest.
func readTails(lows, highs []uint32, b []byte, low, high uint32) (rest []byte, ok bool) {
	r := bitReader{b: b}
	start := tailGap(high - low)
	gap := start
	for k := range lows {
		v := r.rice(gap.k())
		gap = gap.next(v)
		if v > uint64(high-low) {
			return nil, false
		}
		low += uint32(v)
		lows[k] = low
	}
	gap = start
	for k := range highs {
		v := r.rice(gap.k())
		gap = gap.next(v)
		if v > uint64(high-low) {
			return nil, false
		}
		high -= uint32(v)
		highs[k] = high
	}
	return r.rest()
}

// readRuns reads a bitmap of n values between low and high as bins, of which
// there are some already, the last in cell low. Each run of set bits is a bin,
// and the bits that are not set before it are the cells. Bins of a word are
// found by two lists of bits, where runs start and where they end, so that
// none waits for the one before it.
func readRuns(bins []bin, used int, bitmap []byte, n int, low, high uint32) (int, bool) {
	left := uint64(n)
	joins := uint64(0) // whether a run that starts a word belongs to the last bin
	if used > 0 {
		joins = 1
	}
	for at := low; len(bitmap) > 0; at += 64 {
		word := uint64(0)
		if len(bitmap) >= 8 {
			word = binary.LittleEndian.Uint64(bitmap)
			bitmap = bitmap[8:]
		} else {
			word = lastWord(bitmap)
			bitmap = nil
		}
		starts, ends := word&^(word<<1), word&^(word>>1)
		joins &= word
		from, before := used-int(joins), uint64(0)
		if joins > 0 {
			before = bins[from].count
		}
		used = from + bits.OnesCount64(starts)
		if used > len(bins) {
			return 0, false
		}
		runs := bins[from:used]
		cell := at - (uint32(n) - uint32(left))
		for k := range runs {
			if starts == 0 || ends == 0 {
				break // never, but then the compiler need not allow for it
			}
			start := uint32(bits.TrailingZeros64(starts))
			length := uint32(bits.TrailingZeros64(ends)) - start + 1
			starts &= starts - 1
			ends &= ends - 1
			runs[k] = bin{int32(cell + start), uint64(length)}
			cell -= length
		}
		left -= uint64(bits.OnesCount64(word))
		if joins > 0 {
			runs[0].count += before
		}
		joins = word >> 63
	}
	return used, left == 0 && used > 0 && uint32(bins[used-1].index) <= high
}

// lastWord returns fewer than eight bytes as a word.
func lastWord(b []byte) (word uint64) {
	for k, x := range b {
		word |= uint64(x) << (8 * k & 63)
	}
	return word
}

// readBitmap sets values[k] to the position of the k-th bit that is set, less k.
// It returns false if other than len(values) are set.
func readBitmap(values []uint32, bitmap []byte) bool {
	for at := uint32(0); len(bitmap) > 0; {
		word := uint64(0)
		if len(bitmap) >= 8 {
			word = binary.LittleEndian.Uint64(bitmap)
			bitmap = bitmap[8:]
		} else {
			word = lastWord(bitmap)
			bitmap = nil
		}
		n := bits.OnesCount64(word)
		if n > len(values) {
			return false
		}
		// Each bit moves what follows one down, so at runs back as values fill.
		for j := range values[:n] {
			values[j] = at + uint32(bits.TrailingZeros64(word)) - uint32(j)
			word &= word - 1
		}
		values = values[n:]
		at += 64 - uint32(n)
	}
	return len(values) == 0
}

// addLowBits puts l low bits behind each of the values and adds low. It returns
// false if they are not sorted, or go beyond high.
func addLowBits(values []uint32, b []byte, l uint, low, high uint32) bool {
	mask := uint64(1)<<(l&31) - 1
	previous, bit, unsorted := low, uint(0), uint32(0)
	for k, v := range values {
		v = low + v<<(l&31) + uint32(loadBits(b, bit)&mask)
		bit += l
		unsorted |= v - previous
		previous = v
		values[k] = v
	}
	return unsorted>>31 == 0 && previous <= high
}

// readLowBits puts l low bits behind each of the values, adds low and makes bins
// of them, behind those that are there already, the last in cell low. It returns
// false if the values are not sorted, go beyond high or are too many bins.
func readLowBits(bins []bin, used int, values []uint32, b []byte, l uint, low, high uint32) (int, bool) {
	mask := uint64(1)<<(l&31) - 1
	last, cell, n := used-1, ^uint32(0), uint64(0)
	if used > 0 {
		cell, n = low, bins[last].count
	}
	bit, unsorted := uint(0), uint32(0)
	for _, v := range values {
		v = low + v<<(l&31) + uint32(loadBits(b, bit)&mask)
		bit += l
		// No cell comes near 2^31, so the difference shows a step back.
		unsorted |= v - cell
		same := (uint64(v-cell) - 1) >> 63 // 1 or 0: repeats cannot be foretold
		last += 1 - int(same)
		n = n&-same + 1
		cell = v
		if uint(last) >= uint(len(bins)) {
			return 0, false
		}
		bins[last] = bin{int32(v), n}
	}
	return last + 1, unsorted>>31 == 0 && cell <= high
}

// cleanPadding tells whether the bits of b from n on are zero.
func cleanPadding(b []byte, n uint) bool { return n%8 == 0 || b[n/8]>>(n%8) == 0 }

// loadBits returns at least 32 bits of b from a bit on, zeros past the end.
func loadBits(b []byte, bit uint) uint64 {
	if at := bit >> 3; at+8 <= uint(len(b)) {
		return binary.LittleEndian.Uint64(b[at:]) >> (bit & 7)
	}
	return lastWord(b[bit>>3:]) >> (bit & 7)
}
