package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// A node set is the numbers of the nodes that a fleet row stands for. It is
// canonical: one set has one encoding, the smaller of two, the list when both
// are of one size.
//
//	0      1
//	+------+---------------------------------------------------+
//	| 0    | list: uvarint least, then for each next number    |
//	|      | uvarint (number - number before - 1)              |
//	+------+---------------------------------------------------+
//	| 1    | bitmap: uvarint least, then bytes: bit i, counted |
//	|      | from the lowest of the first, is least + i        |
//	+------+---------------------------------------------------+
//
// The first bit of a bitmap is set and its last byte is not 0.
const (
	setList   = 0
	setBitmap = 1
)

var errNodeSet = errors.New("bad node set")

// appendNodeSet appends the encoding of a set: not empty, ascending, no number
// twice.
func appendNodeSet(b []byte, set []uint32) []byte {
	least, greatest := set[0], set[len(set)-1]
	list, bitmap := uvarintSize(least), uvarintSize(least)+int(greatest-least)/8+1
	for i := 1; i < len(set) && list <= bitmap; i++ {
		list += uvarintSize(set[i] - set[i-1] - 1)
	}
	if list <= bitmap {
		b = binary.AppendUvarint(append(b, setList), uint64(least))
		for i := 1; i < len(set); i++ {
			b = binary.AppendUvarint(b, uint64(set[i]-set[i-1]-1))
		}
		return b
	}
	b = binary.AppendUvarint(append(b, setBitmap), uint64(least))
	at := len(b)
	b = append(b, make([]byte, int(greatest-least)/8+1)...)
	for _, n := range set {
		b[at+int(n-least)/8] |= 1 << ((n - least) % 8)
	}
	return b
}

func uvarintSize(n uint32) int { return (bits.Len32(n|1) + 6) / 7 }

// appendNumbers appends the numbers of an encoded set to dst, ascending. It
// accepts any well-formed encoding whose numbers are below limit; checkNodeSet
// also asks for the canonical one.
func appendNumbers(dst []uint32, b []byte, limit uint32) ([]uint32, error) {
	if len(b) < 2 {
		return dst, fmt.Errorf("%w: cut off", errNodeSet)
	}
	r := reader{b: b[1:]}
	n := r.number("least", math.MaxUint32)
	switch {
	case r.err != nil:
		return dst, fmt.Errorf("%w: %w", errNodeSet, r.err)
	case n >= uint64(limit):
		return dst, fmt.Errorf("%w: number %d of %d", errNodeSet, n, limit)
	}
	switch b[0] {
	case setList:
		dst = append(dst, uint32(n))
		for len(r.b) > 0 {
			if n += r.number("gap", math.MaxUint32) + 1; n >= uint64(limit) {
				r.fail("number %d of %d", n, limit)
			}
			if r.err != nil {
				return dst, fmt.Errorf("%w: %w", errNodeSet, r.err)
			}
			dst = append(dst, uint32(n))
		}
		return dst, nil
	case setBitmap:
		return appendBitmap(dst, r.b, n, limit)
	}
	return dst, fmt.Errorf("%w: unknown form %d", errNodeSet, b[0])
}

// hasNumber reports whether an encoded set holds n, without the list of them all.
func hasNumber(b []byte, n uint32) (bool, error) {
	if len(b) < 2 || b[0] > setBitmap {
		return false, fmt.Errorf("%w: cut off or of unknown form", errNodeSet)
	}
	r := reader{b: b[1:]}
	at := r.number("least", math.MaxUint32)
	if b[0] == setBitmap {
		i := int64(n) - int64(at)
		return i >= 0 && i/8 < int64(len(r.b)) && r.b[i/8]>>(i%8)&1 == 1, r.err
	}
	for at < uint64(n) && len(r.b) > 0 {
		at += r.number("gap", math.MaxUint32) + 1
	}
	return at == uint64(n), r.err
}

func appendBitmap(dst []uint32, b []byte, least uint64, limit uint32) ([]uint32, error) {
	if len(b) == 0 || b[0]&1 == 0 || b[len(b)-1] == 0 {
		return dst, fmt.Errorf("%w: bitmap with an empty end", errNodeSet)
	}
	if greatest := least + uint64(len(b)*8-bits.LeadingZeros8(b[len(b)-1])) - 1; greatest >= uint64(limit) {
		return dst, fmt.Errorf("%w: number %d of %d", errNodeSet, greatest, limit)
	}
	for i, x := range b {
		for ; x != 0; x &= x - 1 {
			dst = append(dst, uint32(least)+uint32(i*8+bits.TrailingZeros8(x)))
		}
	}
	return dst, nil
}

// checkNodeSet decodes a set and refuses an encoding that is not canonical.
func checkNodeSet(b []byte, limit uint32) ([]uint32, error) {
	set, err := appendNumbers(nil, b, limit)
	if err != nil {
		return nil, err
	}
	if again := appendNodeSet(nil, set); string(again) != string(b) {
		return nil, fmt.Errorf("%w: not the smaller form", errNodeSet)
	}
	return set, nil
}

// nodeBits is a set that grows: a bit per number.
type nodeBits struct {
	words []uint64
	count int
}

func (s *nodeBits) reset() {
	clear(s.words)
	s.count = 0
}

func (s *nodeBits) grow(limit uint32) {
	if n := int(limit)/64 + 2; n > len(s.words) {
		s.words = append(s.words, make([]uint64, n-len(s.words))...)
	}
}

// add adds a number, and reports whether it is new.
func (s *nodeBits) add(n uint32) bool {
	s.grow(n)
	w, bit := &s.words[n/64], uint64(1)<<(n%64)
	if *w&bit != 0 {
		return false
	}
	*w |= bit
	s.count++
	return true
}

// union adds an encoded set whose numbers are below limit.
func (s *nodeBits) union(b []byte, limit uint32) error {
	if len(b) > 0 && b[0] == setBitmap {
		return s.unionBitmap(b, limit)
	}
	var room [64]uint32
	numbers, err := appendNumbers(room[:0], b, limit)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		s.add(n)
	}
	return nil
}

// unionBitmap adds 64 numbers at a time: an answer over a day unites thousands
// of these.
func (s *nodeBits) unionBitmap(b []byte, limit uint32) error {
	r := reader{b: b[1:]}
	least := r.number("least", math.MaxUint32)
	body := r.b
	if len(body) == 0 || least+uint64(len(body)*8-bits.LeadingZeros8(body[len(body)-1])) > uint64(limit) {
		return fmt.Errorf("%w: bitmap out of range", errNodeSet)
	}
	s.grow(limit)
	at, shift := int(least/64), least%64
	for len(body) > 0 {
		var x uint64
		if len(body) >= 8 {
			x, body = binary.LittleEndian.Uint64(body), body[8:]
		} else {
			for i, c := range body {
				x |= uint64(c) << (8 * i)
			}
			body = nil
		}
		s.or(at, x<<shift)
		if high := x >> 1 >> (63 - shift); high != 0 {
			s.or(at+1, high)
		}
		at++
	}
	return nil
}

func (s *nodeBits) or(at int, x uint64) {
	s.count += bits.OnesCount64(x &^ s.words[at])
	s.words[at] |= x
}

// appendTo appends the numbers, ascending.
func (s *nodeBits) appendTo(dst []uint32) []uint32 {
	for i, w := range s.words {
		for ; w != 0; w &= w - 1 {
			dst = append(dst, uint32(i*64+bits.TrailingZeros64(w)))
		}
	}
	return dst
}
