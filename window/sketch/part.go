package sketch

import (
	"encoding/binary"
	"math"
)

// A part holds the bins of one sign, numbered as cells (see cells.go) by
// magnitude. The extremes of the sketch name the highest cell, and the lowest
// too if all values have one sign; those two cells hold a value each, and the
// payload the others.
//
//	+---------------+- - - - - -+- - - - -
//	| highest cell  | u8 format | payload
//	| less lowest   |           |
//	+---------------+- - - - - -+- - - - -
//
// The first field is missing where the extremes tell it, or if there is one
// value only. Format and payload are missing if there are two values or fewer,
// or all are in one cell. The format is Elias-Fano if that takes no more than
// 9/8 of the bytes of Rice, because it is read three times as fast.
const (
	formatEliasFano = 0
	formatRice      = 1
)

// part is what is known of a part: count values, one each in the cells low and
// low+span, or all of them if span is 0, and the others in values or in bins.
type part struct {
	cells     cells
	negative  bool
	count     uint64
	low, span uint32
	values    []uint32 // sorted, repeats and all
	bins      []bin    // numbered by cell
}

// scratch is memory that encoding and decoding use again.
type scratch struct {
	values []uint32
	bins   []bin
}

// ends returns the number of greatest magnitude of one sign, and that of least
// magnitude if the extremes of the sketch tell it.
func (s *Sketch) ends(negative bool) (outer, inner Number, known bool) {
	if negative {
		return s.min, s.max, s.max.sign() < 0
	}
	return s.max, s.min, s.min.sign() > 0
}

func (s *Sketch) appendPart(b []byte, negative bool, tmp *scratch) []byte {
	source := s.positive
	if negative {
		source = s.negative
	}
	count := total(source)
	if count <= 1 {
		return b
	}
	c := cellsOf(s.shift, s.floats)
	low, high := c.cell(source[0].index), c.cell(source[len(source)-1].index)
	if _, _, known := s.ends(negative); !known {
		b = binary.AppendUvarint(b, uint64(high-low))
	}
	if count == 2 || low == high {
		return b
	}
	bins := tmp.bins[:0]
	for k, x := range source {
		if k == 0 || k == len(source)-1 {
			if x.count--; x.count == 0 {
				continue
			}
		}
		bins = append(bins, bin{int32(c.cell(x.index)), x.count})
	}
	tmp.bins = bins
	return appendPayload(b, bins, count-2, low, high-low, tmp)
}

// appendPayload appends format and payload of count values.
func appendPayload(b []byte, bins []bin, count uint64, low, span uint32, tmp *scratch) []byte {
	rice := riceSize(bins, count, low, span)
	limit := rice * 9 / 8
	// Elias-Fano takes a bit for each value at least.
	if count <= maxEliasFano && int(count/8) <= limit {
		values := sized(&tmp.values, int(count))
		k := 0
		for _, x := range bins {
			for end := k + int(x.count); k < end; k++ {
				values[k] = uint32(x.index)
			}
		}
		if eliasFanoSize(values, low, span) <= limit {
			return appendEliasFano(append(b, formatEliasFano), values, low, span)
		}
	}
	return appendRice(append(b, formatRice), bins, count, low, span)
}

// readPart reads the part of count values of one sign, and returns the rest.
func (s *Sketch) readPart(b []byte, negative bool, count uint64, tmp *scratch) (part, []byte, error) {
	p := part{cells: cellsOf(s.shift, s.floats), negative: negative, count: count}
	outer, inner, known := s.ends(negative)
	high := p.cells.cellOf(outer)
	r := reader{b: b}
	switch {
	case known:
		p.low = p.cells.cellOf(inner)
		p.span = high - p.low
	case count > 1:
		span := r.uvarint()
		if span > uint64(high-p.cells.cellOf(leastMagnitude(s.floats))) {
			r.fail("lowest bin out of range")
		}
		p.span = uint32(span)
		p.low = high - p.span
	default:
		p.low = high
	}
	if count == 1 && p.span > 0 {
		r.fail("one value in two bins")
	}
	if count > 2 && p.span > 0 {
		p.readPayload(&r, tmp)
	}
	return p, r.b, r.err()
}

// readPayload reads format and payload.
func (p *part) readPayload(r *reader, tmp *scratch) {
	count := p.count - 2
	var ok bool
	switch format := r.byte(); {
	case r.bad != "":
		return
	case format == formatEliasFano && count <= maxEliasFano:
		p.values = sized(&tmp.values, int(count))
		r.b, ok = readEliasFano(p.values, r.b, p.low, p.span)
	case format == formatRice:
		p.bins, r.b, ok = readRice(tmp.bins[:0], r.b, count, p.low, p.span)
		tmp.bins = p.bins
	}
	if !ok {
		r.fail("malformed or unknown payload")
	}
}

// leastMagnitude returns the number nearest to zero.
func leastMagnitude(floats bool) Number {
	if floats {
		return number(math.SmallestNonzeroFloat64)
	}
	return Int(1)
}

// sized returns a slice of n values in memory that is used again.
func sized(values *[]uint32, n int) []uint32 {
	if cap(*values) < n {
		*values = make([]uint32, n)
	}
	return (*values)[:n]
}

// total returns the number of values in bins.
func total(bins []bin) (n uint64) {
	for _, b := range bins {
		n += b.count
	}
	return n
}

// appendTo appends the bins of the part, by index.
func (p *part) appendTo(bins []bin) []bin {
	add := func(cell uint32, n uint64) { bins = addBin(bins, bin{p.cells.bin(cell), n}) }
	if p.span == 0 {
		add(p.low, p.count)
		return bins
	}
	add(p.low, 1)
	for _, x := range p.values {
		add(x, 1)
	}
	for _, x := range p.bins {
		add(uint32(x.index), x.count)
	}
	add(p.low+p.span, 1)
	return bins
}
