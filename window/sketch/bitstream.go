package sketch

import (
	"encoding/binary"
	"math/bits"
)

// bitWriter appends bits, the lowest first, to a byte slice.
type bitWriter struct {
	b   []byte
	acc uint64
	n   uint // bits in acc, below 8 between calls
}

// put appends the n lowest bits of v, n ≤ 56; the others must be zero.
func (w *bitWriter) put(v uint64, n uint) {
	w.acc |= v << (w.n & 63)
	w.n += n
	whole := w.n >> 3
	w.b = binary.LittleEndian.AppendUint64(w.b, w.acc)[:len(w.b)+int(whole)]
	w.acc >>= whole << 3 & 63
	w.n &= 7
}

// flush ends on a whole byte, filled up with zeros.
func (w *bitWriter) flush() []byte {
	if w.n > 0 {
		w.b = append(w.b, byte(w.acc))
		w.acc, w.n = 0, 0
	}
	return w.b
}

// riceEscape is the unary part that stands for "what follows is the length and
// the number itself", so that no code is longer than 85 bits.
const riceEscape = 15

// rice appends v as v>>k in unary, ended by a zero, and the k lowest bits.
func (w *bitWriter) rice(v uint64, k uint) {
	if q := uint(v >> k); q < riceEscape && k <= 32 {
		w.put(1<<q-1|v&(1<<k-1)<<(q+1), q+1+k)
		return
	}
	w.riceLong(v, k)
}

// riceLength returns the bits that rice takes.
func riceLength(v uint64, k uint) uint {
	if q := uint(v >> (k & 63)); q < riceEscape {
		return q + 1 + k
	}
	return riceEscape + 6 + uint(bits.Len64(v))
}

func (w *bitWriter) riceLong(v uint64, k uint) {
	if q := uint(v >> k); q < riceEscape {
		w.put(1<<q-1, q+1)
	} else {
		k = uint(bits.Len64(v))
		w.put(1<<riceEscape-1, riceEscape)
		w.put(uint64(k-1), 6)
	}
	low := min(k, 32)
	w.put(v&(1<<low-1), low)
	w.put(v>>low&(1<<(k-low)-1), k-low)
}

// bitReader reads what a bitWriter wrote. Past the end it reads zeros.
type bitReader struct {
	b   []byte
	pos int // of the next byte to load
	acc uint64
	n   uint // bits in acc
	bad bool // read past the end, or a code that the writer does not use
}

// fill leaves at least 56 bits in acc, or all that are left.
func (r *bitReader) fill() {
	if r.pos+8 <= len(r.b) {
		r.acc |= binary.LittleEndian.Uint64(r.b[r.pos:]) << (r.n & 63)
		r.pos += int(63-r.n) >> 3
		r.n |= 56
		return
	}
	for ; r.n <= 56 && r.pos < len(r.b); r.n += 8 {
		r.acc |= uint64(r.b[r.pos]) << (r.n & 63)
		r.pos++
	}
}

// refill is fill where eight bytes are left, for loops that hold acc and n.
func (r *bitReader) refill(acc uint64, n uint) (uint64, uint) {
	acc |= binary.LittleEndian.Uint64(r.b[r.pos:]) << (n & 63)
	r.pos += int(63-n) >> 3
	return acc, n | 56
}

// ones returns how many ones acc begins with, riceEscape or more for more.
func ones(acc uint64) uint {
	const enough = 1<<64 - 1<<31 // spares the compiler the case of ones only
	return uint(bits.TrailingZeros64(^acc | enough))
}

// take reads n ≤ 32 bits.
func (r *bitReader) take(n uint) uint64 {
	if r.n < n {
		r.fill()
	}
	v := r.acc & (1<<n - 1)
	r.drop(n)
	return v
}

// takeLong reads n ≤ 64 bits.
func (r *bitReader) takeLong(n uint) uint64 {
	low := r.take(min(n, 32))
	return r.take(n-min(n, 32))<<32 | low
}

func (r *bitReader) drop(n uint) {
	if n > r.n {
		r.bad = true
		r.acc, r.n = 0, 0
		return
	}
	r.acc >>= n
	r.n -= n
}

// rice reads a number that was written with the same k.
func (r *bitReader) rice(k uint) uint64 {
	r.fill()
	q := uint(bits.TrailingZeros64(^r.acc))
	if used := q + 1 + k; q < riceEscape && used <= r.n {
		v := r.acc >> (q + 1) & (1<<k - 1)
		r.acc >>= used
		r.n -= used
		return uint64(q)<<k | v
	}
	return r.riceLong(q, k)
}

// riceLong reads escapes, and codes that do not fit into acc at once.
func (r *bitReader) riceLong(q, k uint) uint64 {
	if q < riceEscape {
		r.drop(q + 1)
		return uint64(q)<<k | r.takeLong(k)
	}
	r.drop(riceEscape)
	length := uint(r.take(6)) + 1
	v := r.takeLong(length)
	if uint(bits.Len64(v)) != length || v>>k < riceEscape {
		r.bad = true // a number that needs no escape, or not that length
	}
	return v
}

// rest returns the bytes behind the last one that was read from, false if that
// was not there, had bits set that were not read, or a code was bad.
func (r *bitReader) rest() ([]byte, bool) {
	whole := r.n / 8
	padding := r.acc & (1<<(r.n%8) - 1)
	return r.b[r.pos-int(whole):], !r.bad && padding == 0
}
