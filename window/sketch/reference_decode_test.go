package sketch

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

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
