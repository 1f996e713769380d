package sketch

import "math/bits"

// check refuses sketches that no values lead to.
func (d *decoded) check() error {
	s, n := &d.head, d.numBins()
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
	case s.floats && !(d.parts[negativeSide].possible() && d.parts[positiveSide].possible()):
		return corrupt("value in an empty bin")
	case !s.floats && !s.sumFollows() && !d.sumFits():
		// A sum that follows from the extremes is what the bins allow, too.
		return corrupt("sum does not fit the bins")
	}
	return nil
}

func (d *decoded) numBins() (n int) {
	for side := range d.parts {
		if p := &d.parts[side]; p.count > 0 {
			_, between, high := p.split()
			n += 1 + len(between)
			if high > 0 {
				n++
			}
		}
	}
	return n
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

// possible tells whether each bin of a sketch of any numbers holds some: among
// the subnormal magnitudes there are bins that hold no float64 at all.
func (p *part) possible() bool {
	if p.count == 0 {
		return true
	}
	some := func(cell uint32) (found, more bool) {
		i := p.cells.bin(cell)
		if i >= -1022<<maxScale>>p.cells.shift {
			return true, false
		}
		lower, upper := binRange(i, p.cells.shift, false, true)
		return !upper.less(lower), true
	}
	found, more := some(p.low)
	for _, x := range p.bins {
		if !found || !more {
			return found
		}
		found, more = some(uint32(x.index))
	}
	if !found || !more {
		return found
	}
	found, _ = some(p.low + p.span)
	return found
}

// sumFits tells whether the bins of a sketch of integers and its extremes allow
// the sum. Every sum between the least and the greatest is that of some values.
//
// A bound that is quicker to find settles it for all sums but those close to the
// greatest; only then the greatest is computed.
func (d *decoded) sumFits() bool { return d.sumWithin(false) || d.sumWithin(true) }

// sumWithin tells whether the sum lies between the least and the greatest that
// the bins allow, or if not exact, in a range within.
func (d *decoded) sumWithin(exact bool) bool {
	var least, greatest int128
	if p := &d.parts[positiveSide]; p.count > 0 {
		least, greatest = d.head.magnitudes(p, exact)
	}
	if p := &d.parts[negativeSide]; p.count > 0 {
		l, g := d.head.magnitudes(p, exact)
		least, greatest = least.sub(g), greatest.sub(l)
	}
	return least.cmp(d.head.sum) <= 0 && d.head.sum.cmp(greatest) <= 0
}

// magnitudes returns the least and the greatest sum of the magnitudes of a part,
// or if not exact, some number up to the greatest.
func (s *Sketch) magnitudes(p *part, exact bool) (least, greatest int128) {
	low, between, high := p.split()
	least, greatest = p.cells.sums(between, exact)

	// The extremes cut off the outermost bins, and are values unless they are
	// bounds: one value is outer and one is inner, wherever the others lie.
	outer, inner, known := s.ends(p.negative)
	most, fewest := magnitude(int64(outer.bits)), uint64(0)
	if known {
		fewest = magnitude(int64(inner.bits))
	}
	isOuter, isInner := uint64(0), uint64(0)
	if !s.bounds {
		isOuter = 1
		if known {
			isInner = 1
		}
	}
	from, to := p.cells.integers(p.low)
	from, to = max(from, fewest), min(to, most)
	greatest = greatest.add(times(to, low-isInner)).add(times(fewest, isInner))
	if high > 0 {
		least = least.add(times(from, low))
		low = high
		from, to = p.cells.integers(p.low + p.span)
		from, to = max(from, fewest), min(to, most)
		greatest = greatest.add(times(to, high))
	}
	return least.add(times(from, low-isOuter)).add(times(most, isOuter)), greatest
}

// integers returns the least and the greatest magnitude in a cell of integers.
func (c *cells) integers(cell uint32) (from, to uint64) {
	if cell < c.rank {
		return uint64(cell), uint64(cell)
	}
	i := c.index + int32(cell-c.rank)
	return lowerInt(i, c.shift) + 1, lowerInt(i+1, c.shift)
}

// sums returns the least and the greatest sum of the magnitudes of the integers
// in bins that are numbered by cell, or if not exact, some number up to the
// greatest.
func (c *cells) sums(bins []bin, exact bool) (least, greatest int128) {
	for ; len(bins) > 0 && (uint32(bins[0].index) < c.rank || c.shift > maxScale); bins = bins[1:] {
		from, to := c.integers(uint32(bins[0].index))
		least = least.add(times(from, bins[0].count))
		greatest = greatest.add(times(to, bins[0].count))
	}
	// Beyond the rank every bound lies between 1 and 2^63.
	offset := uint32(c.index) - c.rank
	lower, count := c.boundSum(bins, offset)
	least = least.add(lower).add(int128{0, count})
	if exact {
		upper, _ := c.boundSum(bins, offset+1)
		return least, greatest.add(upper)
	}
	// The upper bound of a bin is more than 1 + 177/256 / 2^scale times the lower
	// one, ln 2 being that, and rounding both down takes less than 1 from it.
	shift := maxScale + maxScale - c.shift&31
	upper := times(lower.low, 177)
	if lower.high > 0 {
		return least, greatest
	}
	upper = int128{upper.high >> (shift & 63), upper.high<<(64-shift&63) | upper.low>>(shift&63)}
	return least, greatest.add(lower).add(upper).sub(int128{0, count})
}

// boundSum returns the sum of the lower bounds, rounded down, of the bins whose
// index is their cell and offset more, and the number of values.
func (c *cells) boundSum(bins []bin, offset uint32) (sum int128, count uint64) {
	shift := c.shift & 31
	for k := range bins {
		x := &bins[k]
		i := (offset + uint32(x.index)) << shift
		high, low := bits.Mul64(thresholds[uint8(i)]>>((63-i>>maxScale)&63), x.count)
		var carry uint64
		sum.low, carry = bits.Add64(sum.low, low, 0)
		sum.high += high + carry
		count += x.count
	}
	return sum, count
}

// times returns u·n.
func times(u, n uint64) int128 {
	high, low := bits.Mul64(u, n)
	return int128{high, low}
}
