package sketch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// Version 1 of the encoding. Numbers are uvarints in their shortest form unless
// said otherwise; nothing that follows from the rest is written.
//
//	0         1         2
//	+---------+---------+- - - - - -+-------+ - - - - - - - - - - - - -
//	| version | flags   | cap, scale| count | … see below
//	|   = 1   |         |  i8 each  |       |
//	+---------+---------+- - - - - -+-------+ - - - - - - - - - - - - -
//
// flags: bits 0-1 are 8 less the precision; bit 2: some value is no integer;
// bit 3: min and max are bounds; bit 4: cap and scale follow, being other than
// the precision; bits 5-7 are zero. An empty sketch ends after count.
//
// Then the extremes, which tell the signs that occur and the bins at both ends:
//
//	integers   zigzag(min), max-min
//	others     u8 kinds: bit 0 min and bit 1 max are float64, bit 2 max = min
//	           min, max: zigzag, or a float64 of 8 bytes, little endian; no max
//	           if it equals min
//
//	sum        integers only, none if two values or fewer, or equal ones, tell
//	           it: the sum less what it is at least, 128 bits, as a uvarint
//	zeros      if min ≤ 0 ≤ max and not both are 0
//	negatives  how many, if min < 0 < max
//
// Then a part for the negatives and a part for the positives, see part.go, each
// if there are any. The last 4 bytes are the CRC-32C of all before, little endian.
const (
	version = 1

	flagCoarseness = 3
	flagFloats     = 1 << 2
	flagBounds     = 1 << 3
	flagScaled     = 1 << 4
	flagsKnown     = flagCoarseness | flagFloats | flagBounds | flagScaled

	kindMinFloat = 1 << 0
	kindMaxFloat = 1 << 1
	kindEqual    = 1 << 2

	checksumSize = 4

	// maxTotal is the most values that any sketch may say it holds: the bound
	// that keeps sums within 128 bits and counts from overflowing.
	maxTotal = 1 << 62
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is what an encoded sketch tells without its bins being decoded.
type Header struct {
	Precision, Cap, Scale int

	Count, Zeros  uint64
	Min, Max      Number
	Integers      bool // every value is an integer, and the sum is known
	ExactExtremes bool // Min and Max are values, not bounds
}

// ReadHeader checks version, checksum and header of an encoded sketch, and
// returns the header. It does not look at the bins.
func ReadHeader(b []byte) (Header, error) {
	var s Sketch
	if _, _, err := s.readHeader(b); err != nil {
		return Header{}, err
	}
	return s.header(), nil
}

func (s *Sketch) header() Header {
	return Header{
		Precision: s.Precision(), Cap: s.Cap(), Scale: s.Scale(),
		Count: s.count, Zeros: s.zeros, Min: s.min, Max: s.max,
		Integers: !s.floats, ExactExtremes: !s.bounds,
	}
}

// appendHeader appends all that comes before the parts, given how many of the
// values are negative.
func (s *Sketch) appendHeader(b []byte, negatives uint64) []byte {
	flags := s.coarseness
	if s.floats {
		flags |= flagFloats
	}
	if s.bounds {
		flags |= flagBounds
	}
	scaled := s.ceiling != s.coarseness || s.shift != s.coarseness
	if scaled {
		flags |= flagScaled
	}
	b = append(b, version, flags)
	if scaled {
		b = append(b, byte(int8(s.Cap())), byte(int8(s.Scale())))
	}
	b = binary.AppendUvarint(b, s.count)
	if s.count == 0 {
		return b
	}
	if s.floats {
		b = s.appendExtremes(b)
	} else {
		b = binary.AppendVarint(b, int64(s.min.bits))
		b = binary.AppendUvarint(b, s.max.bits-s.min.bits)
		if !s.sumFollows() {
			b = appendUvarint128(b, s.sum.sub(s.leastSum()))
		}
	}
	if s.zerosWritten() {
		b = binary.AppendUvarint(b, s.zeros)
	}
	if s.min.sign() < 0 && s.max.sign() > 0 {
		b = binary.AppendUvarint(b, negatives)
	}
	return b
}

func (s *Sketch) appendExtremes(b []byte) []byte {
	kinds := byte(0)
	if s.min.float {
		kinds |= kindMinFloat
	}
	if s.max.float {
		kinds |= kindMaxFloat
	}
	if s.min == s.max {
		return appendNumber(append(b, kinds|kindEqual), s.min)
	}
	return appendNumber(appendNumber(append(b, kinds), s.min), s.max)
}

func appendNumber(b []byte, n Number) []byte {
	if n.float {
		return binary.LittleEndian.AppendUint64(b, n.bits)
	}
	return binary.AppendVarint(b, int64(n.bits))
}

// zerosWritten tells whether the extremes leave the number of zeros open.
func (s *Sketch) zerosWritten() bool {
	return s.min.sign() <= 0 && s.max.sign() >= 0 && s.min != s.max
}

// sumFollows tells whether the extremes are all there is to the sum.
func (s *Sketch) sumFollows() bool { return !s.bounds && (s.count <= 2 || s.min == s.max) }

// leastSum returns the least sum of integers that the extremes allow.
func (s *Sketch) leastSum() int128 {
	if s.bounds {
		return product(int64(s.min.bits), s.count)
	}
	return product(int64(s.min.bits), s.count-1).add(product(int64(s.max.bits), 1))
}

// greatestSum returns the greatest sum of integers that the extremes allow.
func (s *Sketch) greatestSum() int128 {
	if s.bounds {
		return product(int64(s.max.bits), s.count)
	}
	return product(int64(s.max.bits), s.count-1).add(product(int64(s.min.bits), 1))
}

func appendUvarint128(b []byte, v int128) []byte {
	for v.high != 0 || v.low >= 0x80 {
		b = append(b, byte(v.low)|0x80)
		v = int128{v.high >> 7, v.low>>7 | v.high<<57}
	}
	return append(b, byte(v.low))
}

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

// readHeader sets everything but the bins from an encoded sketch. It returns the
// parts, and how many of the values are negative.
func (s *Sketch) readHeader(b []byte) (parts []byte, negatives uint64, err error) {
	switch {
	case len(b) > MaxEncodedSize:
		return nil, 0, corrupt("too long")
	case len(b) < 3+checksumSize:
		return nil, 0, corrupt("too short")
	case b[0] != version:
		return nil, 0, fmt.Errorf("%w: unknown version %d", ErrCorrupt, b[0])
	}
	end := len(b) - checksumSize
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, 0, corrupt("wrong checksum")
	}
	r := reader{b: b[1:end]}
	s.readFlags(&r)
	s.count = r.uvarint()
	if s.count > maxTotal {
		return nil, 0, corrupt("count too large")
	}
	if s.count > 0 {
		s.readExtremes(&r)
		if !s.floats {
			s.readSum(&r)
		}
		negatives = s.readSigns(&r)
	}
	if r.bad != "" {
		return nil, 0, corrupt(r.bad)
	}
	return r.b, negatives, nil
}

func (s *Sketch) readFlags(r *reader) {
	flags := r.byte()
	if flags&^flagsKnown != 0 {
		r.fail("unknown flag")
	}
	s.coarseness = flags & flagCoarseness
	s.floats = flags&flagFloats != 0
	s.bounds = flags&flagBounds != 0
	s.ceiling, s.shift = s.coarseness, s.coarseness
	if flags&flagScaled == 0 {
		return
	}
	highest, scale := int(int8(r.byte())), int(int8(r.byte()))
	if scale < minScale || scale > highest || highest > s.Precision() {
		r.fail("scale out of range")
		return
	}
	s.ceiling, s.shift = uint8(maxScale-highest), uint8(maxScale-scale)
	if s.shift == s.coarseness {
		r.fail("scale of the precision written")
	}
}

func (s *Sketch) readExtremes(r *reader) {
	if !s.floats {
		least := r.varint()
		span := r.uvarint()
		s.min, s.max = Int(least), Int(int64(uint64(least)+span))
		if span > uint64(math.MaxInt64)-uint64(least) {
			r.fail("max out of range")
		}
	} else {
		kinds := r.byte()
		if kinds > kindMinFloat|kindMaxFloat|kindEqual || kinds == kindEqual|kindMinFloat || kinds == kindEqual|kindMaxFloat {
			r.fail("unknown kinds of numbers")
		}
		s.min = r.number(kinds&kindMinFloat != 0)
		s.max = s.min
		if kinds&kindEqual == 0 {
			if s.max = r.number(kinds&kindMaxFloat != 0); s.max == s.min {
				r.fail("equal min and max both written")
			}
		}
	}
	if s.max.less(s.min) || !s.bounds && s.count == 1 && s.min != s.max {
		r.fail("min and max do not fit")
	}
}

func (s *Sketch) readSum(r *reader) {
	s.sum = s.leastSum()
	if s.sumFollows() {
		return
	}
	s.sum = s.sum.add(r.uvarint128())
	if s.greatestSum().cmp(s.sum) < 0 {
		r.fail("sum out of range")
	}
}

// readSigns sets the number of zeros and returns that of negatives.
func (s *Sketch) readSigns(r *reader) (negatives uint64) {
	low, high := s.min.sign(), s.max.sign()
	s.zeros = 0
	if s.zerosWritten() {
		s.zeros = r.uvarint()
	} else if low == 0 {
		s.zeros = s.count
	}
	if low == 0 && s.zeros == 0 || high == 0 && s.zeros == 0 || s.zeros > s.count {
		r.fail("zeros out of range")
		return 0
	}
	rest := s.count - s.zeros
	switch {
	case low < 0 && high > 0:
		negatives = r.uvarint()
		if negatives == 0 || negatives >= rest {
			r.fail("negatives out of range")
		}
	case low < 0:
		negatives = rest
	}
	if (low != 0 || high != 0) && rest == 0 {
		r.fail("zeros out of range")
	}
	return negatives
}
