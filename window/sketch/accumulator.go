package sketch

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// Accumulator merges many sketches, straight from their bytes, into counters
// that lie side by side. It allocates nothing once it has seen the range of the
// values. What it holds equals the merge of the same sketches by Sketch.Merge,
// byte for byte. It is not safe for concurrent use.
type Accumulator struct {
	head  Sketch // all but the bins
	sides [2]counters
	in    decoded    // what MergeBinary reads
	tmp   [2]scratch // by side: both parts are read before either is added
}

// counters counts the bins base, base+1 … of one sign.
type counters struct {
	base   int32
	counts []uint64

	from, to int32 // the bins that may be other than zero, half open
}

// NewAccumulator returns an empty accumulator for sketches of the given
// precision. It panics if the precision is none of 5 to 8.
func NewAccumulator(precision int) *Accumulator {
	a := new(Accumulator)
	a.Reset(precision)
	return a
}

// Reset empties the accumulator and sets its precision. It keeps the memory.
func (a *Accumulator) Reset(precision int) {
	a.head = *New(precision)
	for i := range a.sides {
		a.sides[i].clear()
	}
}

// Count returns how many values were merged.
func (a *Accumulator) Count() uint64 { return a.head.count }

// MergeBinary merges an encoded sketch of the accumulator's precision, and
// returns ErrPrecision for one of another. It verifies checksum and structure and
// returns ErrCorrupt where they are wrong, but does not look whether the payload
// is the one preferred and the sum one that the bins allow, as UnmarshalBinary
// does. The accumulator is unchanged on error, and keeps no reference to b.
func (a *Accumulator) MergeBinary(b []byte) error {
	err := a.mergeBinary(b)
	for side := range a.in.parts {
		a.in.parts[side].bitmap = nil // it is in b
	}
	return err
}

func (a *Accumulator) mergeBinary(b []byte) error {
	in := &a.in
	if err := in.read(b, &a.tmp, true); err != nil {
		return err
	}
	if in.head.coarseness != a.head.coarseness {
		return fmt.Errorf("%w: %d, want %d", ErrPrecision, in.head.Precision(), a.head.Precision())
	}
	a.absorb(&in.head)
	for side := range in.parts {
		if in.parts[side].count > 0 {
			a.sides[side].addPart(&in.parts[side], a.head.shift-in.head.shift)
		}
	}
	return nil
}

// Merge merges a sketch. The precision becomes the smaller of both.
func (a *Accumulator) Merge(s *Sketch) {
	a.absorb(s)
	d := a.head.shift - min(a.head.shift, s.shift)
	a.sides[negativeSide].addBins(s.negative, d)
	a.sides[positiveSide].addBins(s.positive, d)
}

// absorb merges all but the bins, and brings the counters to the scale that the
// merged bins will have at most.
func (a *Accumulator) absorb(s *Sketch) {
	shift := a.head.absorb(s)
	if d := shift - a.head.shift; d > 0 {
		for i := range a.sides {
			a.sides[i].shrink(d)
		}
		a.head.shift = shift
	}
}

// Sketch returns what was merged as a sketch of its own.
func (a *Accumulator) Sketch() *Sketch {
	s := new(Sketch) // on the caller's stack if it stays there
	a.fill(s)
	return s
}

func (a *Accumulator) fill(s *Sketch) {
	*s = a.head
	s.negative = a.sides[negativeSide].appendTo(nil)
	s.positive = a.sides[positiveSide].appendTo(nil)
	s.fit()
}

// AppendBinary appends what was merged as an encoded sketch. The error is always
// nil.
func (a *Accumulator) AppendBinary(b []byte) ([]byte, error) {
	s, start := a.head, len(b)
	s.negative = a.sides[negativeSide].appendTo(a.tmp[negativeSide].bins[:0])
	s.positive = a.sides[positiveSide].appendTo(a.tmp[positiveSide].bins[:0])
	a.tmp[negativeSide].bins, a.tmp[positiveSide].bins = s.negative, s.positive
	s.fit()
	negatives := total(s.negative)
	b = s.appendHeader(b, negatives)
	b = s.appendPart(b, true, s.negative, negatives, &a.tmp[negativeSide])
	b = s.appendPart(b, false, s.positive, s.count-s.zeros-negatives, &a.tmp[positiveSide])
	return seal(b, start), nil
}

// reserve makes room for the bins from first to last.
func (c *counters) reserve(first, last int32) {
	if c.from == c.to {
		c.from, c.to = first, first
	}
	c.from, c.to = min(c.from, first), max(c.to, last+1)
	if c.from >= c.base && int(c.to-c.base) <= len(c.counts) {
		return
	}
	// Two octaves more on each side, so that growing is rare.
	const slack = 2 << maxScale
	base, end := c.from, c.to
	if len(c.counts) > 0 {
		base, end = min(base, c.base), max(end, c.base+int32(len(c.counts)))
	}
	counts := make([]uint64, int(end-base)+2*slack)
	if len(c.counts) > 0 {
		copy(counts[c.base-base+slack:], c.counts)
	}
	c.base, c.counts = base-slack, counts
}

// addPart adds the bins of a part, whose indexes lose d bits on the way.
func (c *counters) addPart(p *part, d uint8) {
	low, high := p.cells.bin(p.low)>>d, p.cells.bin(p.low+p.span)>>d
	c.reserve(low, high)
	counts := c.counts
	if p.span == 0 {
		counts[low-c.base] += p.count
		return
	}
	counts[low-c.base]++
	counts[high-c.base]++
	bins, values := p.bins, p.values
	for len(bins) > 0 && (d > 0 || uint32(bins[0].index) < p.cells.rank) {
		counts[p.cells.bin(uint32(bins[0].index))>>d-c.base] += bins[0].count
		bins = bins[1:]
	}
	for len(values) > 0 && (d > 0 || values[0] < p.cells.rank) {
		counts[p.cells.bin(values[0])>>d-c.base]++
		values = values[1:]
	}
	// From here on cells run on with the index.
	offset := uint32(p.cells.index-c.base) - p.cells.rank
	for k := range bins {
		counts[uint32(bins[k].index)+offset] += bins[k].count
	}
	for _, x := range values {
		counts[x+offset]++
	}
	c.addBitmap(p, d)
}

// addBitmap adds the values of a part that are left in a bitmap: the k-th bit
// that is set, less k, is a cell.
func (c *counters) addBitmap(p *part, d uint8) {
	offset := uint32(p.cells.index-c.base) - p.cells.rank
	counts, bitmap := c.counts, p.bitmap
	for at := p.first; len(bitmap) > 0; at += 64 {
		word := uint64(0)
		if len(bitmap) >= 8 {
			word = binary.LittleEndian.Uint64(bitmap)
			bitmap = bitmap[8:]
		} else {
			word = lastWord(bitmap)
			bitmap = nil
		}
		// No cell of the word is below at, which each bit moves one down.
		if d > 0 || at < p.cells.rank {
			for ; word != 0; word &= word - 1 {
				counts[p.cells.bin(at+uint32(bits.TrailingZeros64(word)))>>d-c.base]++
				at--
			}
			continue
		}
		for ; word != 0; word &= word - 1 {
			counts[at+offset+uint32(bits.TrailingZeros64(word))]++
			at--
		}
	}
}

func (c *counters) addBins(bins []bin, d uint8) {
	if len(bins) == 0 {
		return
	}
	c.reserve(bins[0].index>>d, bins[len(bins)-1].index>>d)
	for _, b := range bins {
		c.counts[b.index>>d-c.base] += b.count
	}
}

// shrink coarsens the scale by d.
func (c *counters) shrink(d uint8) {
	bins := c.appendTo(nil)
	c.clear()
	c.addBins(bins, d)
}

func (c *counters) clear() {
	clear(c.used())
	c.from, c.to = 0, 0
}

func (c *counters) used() []uint64 {
	if c.from == c.to {
		return nil
	}
	return c.counts[c.from-c.base : c.to-c.base]
}

// numBins returns how many counters are not zero.
func (c *counters) numBins() (n int) {
	for _, count := range c.used() {
		if count > 0 {
			n++
		}
	}
	return n
}

func (c *counters) appendTo(bins []bin) []bin {
	used, n := c.used(), c.numBins()
	if n == 0 {
		return bins
	}
	bins = slices.Grow(bins, n)
	for k, count := range used {
		if count > 0 {
			bins = append(bins, bin{c.from + int32(k), count})
		}
	}
	return bins
}
