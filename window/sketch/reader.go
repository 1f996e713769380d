package sketch

import (
	"encoding/binary"
	"math"
)

// reader reads fields from the front of b. The first that is wrong is named in
// bad; those that follow read as zero.
type reader struct {
	b   []byte
	bad string
}

func (r *reader) fail(what string) {
	if r.bad == "" {
		r.bad = what
	}
	r.b = nil
}

// err returns what is wrong, if anything.
func (r *reader) err() error {
	if r.bad == "" {
		return nil
	}
	return corrupt(r.bad)
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("truncated")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.fail("malformed number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) uvarint128() (v int128) {
	for shift := uint(0); shift < 126; shift += 7 {
		c := r.byte()
		low := uint64(c & 0x7f)
		// Shifts by 64 and more give zero, so each group lands where it belongs.
		v.low |= low << shift
		if shift < 64 {
			v.high |= low >> (64 - shift)
		} else {
			v.high |= low << (shift - 64)
		}
		if c < 0x80 {
			if c == 0 && shift > 0 {
				break
			}
			return v
		}
	}
	r.fail("malformed number")
	return int128{}
}

func (r *reader) number(float bool) Number {
	if !float {
		return Int(r.varint())
	}
	if len(r.b) < 8 {
		r.fail("truncated")
		return Number{}
	}
	f := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	if !finite(f) || !number(f).float {
		r.fail("float64 is not finite, or is an integer")
	}
	return number(f)
}
