package sketch

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
)

// buffers is what encoding and decoding work in, kept between calls.
type buffers struct {
	decoded
	tmp [2]scratch
}

var pool = sync.Pool{New: func() any { return new(buffers) }}

// AppendBinary appends the encoded sketch to b. The bytes are a function of the
// values and the precision alone; they end in a checksum. The error is always nil.
func (s *Sketch) AppendBinary(b []byte) ([]byte, error) {
	buf := pool.Get().(*buffers)
	defer pool.Put(buf)
	start, negatives := len(b), total(s.negative)
	b = s.appendHeader(b, negatives)
	b = s.appendPart(b, true, s.negative, negatives, &buf.tmp[0])
	b = s.appendPart(b, false, s.positive, s.count-s.zeros-negatives, &buf.tmp[0])
	return seal(b, start), nil
}

// seal appends the checksum of what was appended from start on.
func seal(b []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// MarshalBinary returns the encoded sketch. The error is always nil.
func (s *Sketch) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// UnmarshalBinary replaces the sketch with the encoded one. It accepts exactly
// the bytes that AppendBinary gives, and returns ErrCorrupt for any other; the
// sketch is unchanged then. It keeps no reference to b.
func (s *Sketch) UnmarshalBinary(b []byte) error {
	buf := pool.Get().(*buffers)
	defer pool.Put(buf)
	d := &buf.decoded
	if err := d.readAndCheck(b, &buf.tmp); err != nil {
		return err
	}
	negative, positive := s.negative[:0], s.positive[:0]
	*s = d.head
	s.negative, s.positive = d.parts[negativeSide].appendTo(negative), d.parts[positiveSide].appendTo(positive)
	return nil
}

// Check returns the header of an encoded sketch that UnmarshalBinary accepts, and
// ErrCorrupt for any other.
func Check(b []byte) (Header, error) {
	buf := pool.Get().(*buffers)
	defer pool.Put(buf)
	if err := buf.readAndCheck(b, &buf.tmp); err != nil {
		return Header{}, err
	}
	return buf.head.header(), nil
}

// The sides of sketches that are being merged or read.
const (
	negativeSide = iota
	positiveSide
)

// decoded is an encoded sketch that was read.
type decoded struct {
	head  Sketch  // all but the bins
	parts [2]part // by side; count is 0 where there is none
}

// read reads b, with the bins in tmp. Everything in it has but one form then, but
// for the choice between the payloads, and what the bins say must fit is not
// looked at. If it is to be merged only, it may be read as values, see part.
func (d *decoded) read(b []byte, tmp *[2]scratch, merging bool) error {
	d.head = Sketch{}
	rest, negatives, err := d.head.readHeader(b)
	if err != nil {
		return err
	}
	counts := [2]uint64{negatives, d.head.count - d.head.zeros - negatives}
	for side, n := range counts {
		p := &d.parts[side]
		if n == 0 {
			p.count, p.bins = 0, nil
			continue
		}
		if rest, err = d.head.readPart(p, rest, side == negativeSide, n, &tmp[side], merging); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return corrupt("trailing bytes")
	}
	return nil
}

// readAndCheck reads b and refuses it unless AppendBinary gives these bytes for
// some values.
//
// What reads well may still not be canonical. The fields of the header and the
// codes of the payloads have one form each, and every other is refused where it
// is read; an Elias-Fano payload follows from its bins but for the padding. So
// one choice is left, that between the payloads, and the size of the one that
// was not taken tells it. TestCheck_EqualsEncodingAgain compares this with
// encoding again.
func (d *decoded) readAndCheck(b []byte, tmp *[2]scratch) error {
	if err := d.read(b, tmp, false); err != nil {
		return err
	}
	if err := d.check(); err != nil {
		return err
	}
	for side := range d.parts {
		if p := &d.parts[side]; p.count > 2 && p.span > 0 && !p.chosen() {
			return corrupt("not the payload that is preferred")
		}
	}
	return nil
}
