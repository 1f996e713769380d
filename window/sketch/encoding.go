package sketch

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"
)

// buffers is what encoding and decoding work in, kept between calls.
type buffers struct {
	scratch
	sketch Sketch
	bytes  []byte
}

var pool = sync.Pool{New: func() any { return new(buffers) }}

// AppendBinary appends the encoded sketch to b. The bytes are a function of the
// values and the precision alone; they end in a checksum. The error is always nil.
func (s *Sketch) AppendBinary(b []byte) ([]byte, error) {
	tmp := pool.Get().(*buffers)
	defer pool.Put(tmp)
	return s.appendBinary(b, &tmp.scratch), nil
}

// MarshalBinary returns the encoded sketch. The error is always nil.
func (s *Sketch) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

func (s *Sketch) appendBinary(b []byte, tmp *scratch) []byte {
	start := len(b)
	b = s.appendHeader(b)
	b = s.appendPart(b, true, tmp)
	b = s.appendPart(b, false, tmp)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// UnmarshalBinary replaces the sketch with the encoded one. It accepts exactly
// the bytes that AppendBinary gives, and returns ErrCorrupt for any other; the
// sketch is unchanged then. It keeps no reference to b.
func (s *Sketch) UnmarshalBinary(b []byte) error {
	tmp := pool.Get().(*buffers)
	defer pool.Put(tmp)
	if err := tmp.decode(b); err != nil {
		return err
	}
	negative := append(s.negative[:0], tmp.sketch.negative...)
	positive := append(s.positive[:0], tmp.sketch.positive...)
	*s = tmp.sketch
	s.negative, s.positive = negative, positive
	return nil
}

// Check returns the header of an encoded sketch that UnmarshalBinary accepts, and
// ErrCorrupt for any other.
func Check(b []byte) (Header, error) {
	tmp := pool.Get().(*buffers)
	defer pool.Put(tmp)
	if err := tmp.decode(b); err != nil {
		return Header{}, err
	}
	return tmp.sketch.header(), nil
}

// decode reads b into tmp.sketch.
func (tmp *buffers) decode(b []byte) error {
	s := &tmp.sketch
	s.Reset()
	parts, negatives, err := s.readHeader(b)
	if err != nil {
		return err
	}
	for _, negative := range [2]bool{true, false} {
		n := s.count - s.zeros - negatives
		bins := &s.positive
		if negative {
			n, bins = negatives, &s.negative
		}
		if n == 0 {
			continue
		}
		var p part
		if p, parts, err = s.readPart(parts, negative, n, &tmp.scratch); err != nil {
			return err
		}
		*bins = p.appendTo((*bins)[:0])
	}
	if len(parts) > 0 {
		return corrupt("trailing bytes")
	}
	if err := s.check(); err != nil {
		return err
	}
	// What reads well may still be written in another way than ours, with other
	// padding or in the longer format. One encoding, one sketch.
	tmp.bytes = s.appendBinary(tmp.bytes[:0], &tmp.scratch)
	if !bytes.Equal(tmp.bytes, b) {
		return corrupt("not canonical")
	}
	return nil
}

// check refuses sketches that no values lead to.
func (s *Sketch) check() error {
	n := s.NumBins()
	switch {
	case n > MaxBins:
		return corrupt("too many bins")
	case s.shift > s.ceiling && (2*n <= MaxBins || s.count <= MaxBins):
		// A bin splits into two at most, so the next finer scale would have done.
		return corrupt("scale too coarse")
	case s.count == 0 && (s.floats || s.bounds || s.shift != s.coarseness):
		return corrupt("empty sketch with properties")
	case s.floats && s.onlyIntegers():
		return corrupt("integers marked as others")
	case !s.floats:
		if least, greatest := s.sumRange(); s.sum.cmp(least) < 0 || greatest.cmp(s.sum) < 0 {
			return corrupt("sum does not fit the bins")
		}
		return nil
	}
	// Some bins of subnormal magnitude hold no float64 at all.
	for _, bins := range [2][]bin{s.negative, s.positive} {
		for _, b := range bins {
			if b.index >= -1022<<maxScale>>s.shift {
				break
			}
			if lower, upper := binRange(b.index, s.shift, false, true); upper.less(lower) {
				return corrupt("value in an empty bin")
			}
		}
	}
	return nil
}

// onlyIntegers tells whether the extremes and zeros show that there is nothing
// but integers.
func (s *Sketch) onlyIntegers() bool {
	if s.bounds || s.min.float || s.max.float {
		return false
	}
	others := s.count - s.zeros
	if s.min.sign() != 0 {
		others--
	}
	if s.max.sign() != 0 && others > 0 {
		others--
	}
	return others == 0 || s.min == s.max
}

// sumRange returns the least and the greatest sum that the bins of a sketch of
// integers and its extremes allow. Every sum between is that of some values.
func (s *Sketch) sumRange() (least, greatest int128) {
	for _, negative := range [2]bool{true, false} {
		bins := s.positive
		if negative {
			bins = s.negative
		}
		for k, b := range bins {
			lower, upper := binRange(b.index, s.shift, negative, false)
			if k == 0 || k == len(bins)-1 {
				lower, upper = s.span(b.index, negative)
			}
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
