package sketch

import (
	"encoding/binary"
	"math"
	"slices"
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
// low+span, or all of them if span is 0, and the others in bins.
type part struct {
	cells     cells
	negative  bool
	count     uint64
	low, span uint32
	bins      []bin // numbered by cell, ascending

	// In parts to be merged only, those beside the bins: cells, sorted, or a bitmap
	// as Elias-Fano has it where the cells are its bits from first on.
	values []uint32
	bitmap []byte
	first  uint32

	format  byte
	payload int // bytes, without the format
}

// scratch is memory that encoding and decoding use again.
type scratch struct {
	values []uint32
	bins   []bin
	words  []uint64
}

// sizedBins returns n bins, whatever is in them.
func (tmp *scratch) sizedBins(n int) []bin {
	if cap(tmp.bins) < n {
		tmp.bins = make([]bin, n)
	}
	return tmp.bins[:n]
}

// sized returns a slice of n values in memory that is used again.
func sized(values *[]uint32, n int) []uint32 {
	if cap(*values) < n {
		*values = make([]uint32, n)
	}
	return (*values)[:n]
}

// ends returns the number of greatest magnitude of one sign, and that of least
// magnitude if the extremes of the sketch tell it.
func (s *Sketch) ends(negative bool) (outer, inner Number, known bool) {
	if negative {
		return s.min, s.max, s.max.sign() < 0
	}
	return s.max, s.min, s.min.sign() > 0
}

// appendPart appends the part of the bins of one sign, of which there are some,
// count values in all. They may be in tmp.
func (s *Sketch) appendPart(b []byte, negative bool, source []bin, count uint64, tmp *scratch) []byte {
	if count <= 1 {
		return b
	}
	c := cellsOf(s.shift, s.floats)
	bins := tmp.sizedBins(len(source))
	c.number(bins, source)
	last := len(bins) - 1
	low, high := uint32(bins[0].index), uint32(bins[last].index)
	if _, _, known := s.ends(negative); !known {
		b = binary.AppendUvarint(b, uint64(high-low))
	}
	if count == 2 || low == high {
		return b
	}
	if bins[last].count--; bins[last].count == 0 {
		bins = bins[:last]
	}
	if bins[0].count--; bins[0].count == 0 {
		bins = bins[1:]
	}
	return appendPayload(b, bins, count-2, low, high-low, tmp)
}

// appendPayload appends format and payload of count values. It uses up the bins.
func appendPayload(b []byte, bins []bin, count uint64, low, span uint32, tmp *scratch) []byte {
	if count > maxEliasFano {
		b, _ = appendRice(append(b, formatRice), bins, count, low, span, math.MaxInt)
		return b
	}
	plan := planEliasFano(bins, int(count), low, span)
	limit := riceLimit(plan.size)
	// With two values to a cell it is Rice most likely, and written at once.
	likely := count >= 2*(uint64(span)+1)
	if !likely && riceSize(bins, count, low, span, limit) >= limit {
		return plan.append(append(b, formatEliasFano), bins, tmp)
	}
	out, ok := appendRice(append(b, formatRice), bins, count, low, span, limit)
	if !ok {
		return plan.append(append(b, formatEliasFano), bins, tmp)
	}
	return out
}

// riceLimit returns the least size of the Rice payload with which an Elias-Fano
// payload of n bytes is preferred: n is no more than 9/8 of it, rounded down.
func riceLimit(n int) int { return (8*n + 8) / 9 }

// chosen tells whether the format is the one that appendPayload takes.
func (p *part) chosen() bool {
	count := p.count - 2
	if p.format == formatEliasFano {
		limit := riceLimit(p.payload)
		return riceSize(p.bins, count, p.low, p.span, limit) >= limit
	}
	if count > maxEliasFano {
		return true
	}
	plan := planEliasFano(p.bins, int(count), p.low, p.span)
	return p.payload < riceLimit(plan.size)
}

// readPart reads the part of count values of one sign, and returns the rest.
func (s *Sketch) readPart(p *part, b []byte, negative bool, count uint64, tmp *scratch, merging bool) ([]byte, error) {
	*p = part{cells: cellsOf(s.shift, s.floats), negative: negative, count: count}
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
		p.readPayload(&r, tmp, merging)
	}
	return r.b, r.err()
}

// readPayload reads format and payload.
func (p *part) readPayload(r *reader, tmp *scratch, merging bool) {
	count := p.count - 2
	p.format = r.byte()
	p.payload = len(r.b)
	var ok bool
	switch {
	case r.bad != "":
		return
	case p.format == formatEliasFano && count <= maxEliasFano:
		r.b, ok = p.readEliasFano(tmp, r.b, merging)
	case p.format == formatRice:
		p.bins, r.b, ok = readRice(tmp, r.b, count, p.low, p.span)
	}
	p.payload -= len(r.b)
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

// total returns the number of values in bins.
func total(bins []bin) (n uint64) {
	for _, b := range bins {
		n += b.count
	}
	return n
}

// split returns the bins between the outermost two cells, and how many values
// are in those. All are in the lowest if there is one cell only.
func (p *part) split() (low uint64, between []bin, high uint64) {
	if p.span == 0 {
		return p.count, nil, 0
	}
	low, between, high = 1, p.bins, 1
	if len(between) > 0 && uint32(between[0].index) == p.low {
		low += between[0].count
		between = between[1:]
	}
	if last := len(between) - 1; last >= 0 && uint32(between[last].index) == p.low+p.span {
		high += between[last].count
		between = between[:last]
	}
	return low, between, high
}

// appendTo appends the bins of the part, by index.
func (p *part) appendTo(bins []bin) []bin {
	if p.count == 0 {
		return bins
	}
	low, between, high := p.split()
	bins = append(bins, bin{p.cells.bin(p.low), low})
	at := len(bins)
	bins = slices.Grow(bins, len(between)+1)[:at+len(between)]
	p.cells.bins(bins[at:], between)
	if high > 0 {
		bins = append(bins, bin{p.cells.bin(p.low + p.span), high})
	}
	return bins
}
