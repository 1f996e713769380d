package sketch

import "math/bits"

// The Rice payload walks the cells upwards. Where values are sparse, one step is
// the number of empty cells to the next bin and the bin's count less one. Where
// there are more than one to a cell, one step is a cell, empty or not, and
// its count is coded by how far it is from the mean: gaps would cost a bit a bin
// and say nothing. Which of both applies, the mean and the parameters of the
// Rice codes follow from the steps before, so nothing but the codes is written.

// The constants were tuned on real data and on the shapes of the tests; they
// are part of the encoding.

// average is a running mean in sixteenths, over about eight steps.
type average uint64

// averageLimit keeps averages in range; no code depends on larger ones.
const averageLimit = 1 << 54

// next returns the mean after one more value. A value far above the mean counts
// as four times the mean: one spike must not spoil the codes of what follows.
func (a average) next(v uint64) average {
	v = min(v, uint64(a)>>2+4, averageLimit)
	return a - a>>3 + average(v<<1)
}

// k returns the Rice parameter that suits the mean, which is about the logarithm
// of 9/16 of it.
func (a average) k() uint { return length(uint64(a) * 9 >> 8) }

// step is next for values that are far below the limit.
func (a average) step(v uint64) average {
	v = min(v, uint64(a)>>2+4)
	return a - a>>3 + average(v<<1)
}

// length is bits.Len64 of fewer than 64 bits, and one instruction where the
// compiler sees that there is a bit.
func length(v uint64) uint { return uint(bits.Len64(v<<1|1)) - 1 }

// riceModel is what writer and reader know alike at every step. Their loops keep
// it in registers: a method that took a step would keep it in memory.
type riceModel struct {
	density average // values in a cell
	spread  average // folded distance of a cell's count from the density
	gap     average // empty cells before a bin
	extra   average // a bin's count less one
}

// newRiceModel starts from the mean density of count values over span+1 cells,
// but with a sparse stretch: so do the ends of most data.
func newRiceModel(count uint64, span uint32) riceModel {
	cells := uint64(span) + 1
	d := average(min(count, averageLimit) << 4 / cells)
	return riceModel{
		density: min(d, 16),
		spread:  d / 2,
		gap:     average(cells << 4 / (count + 1)),
		extra:   d / 2,
	}
}

// denseFrom is the density from which on a step is a cell: 1½ values to a cell.
const denseFrom average = 24

// fold maps a count to how far it is from the mean, above and below in turn, and
// from twice the mean on, where there is no below left, to itself.
func fold(n uint64, density average) uint64 {
	mean := uint64(density+8) >> 4
	d := int64(n - mean)
	folded := uint64(d<<1 ^ d>>63)
	if n >= 2*mean {
		folded = n
	}
	return folded
}

func unfold(v uint64, density average) uint64 {
	mean := uint64(density+8) >> 4
	n := mean + (v>>1 ^ -(v & 1))
	if v >= 2*mean {
		n = v
	}
	return n
}

// densityOf returns about n/(gap+1), what a bin of a sparse stretch says of the
// density.
func densityOf(n, gap uint64) uint64 { return n >> (length(gap) & 63) }

// riceSize returns the number of bytes that appendRice appends for up to
// maxEliasFano values, or once it is certain that these are enough bytes or more,
// some number that is too.
func riceSize(bins []bin, count uint64, low, span uint32, enough int) int {
	m := newRiceModel(count, span)
	size, at := uint(0), int32(low)
	for len(bins) > 0 {
		// Each bin that is left takes a bit at least.
		if int(size)+len(bins) >= enough*8 {
			return enough
		}
		stretch := bins[:min(len(bins), riceStretch)]
		var used int
		var more uint
		if m.density < denseFrom {
			used, more = m.sizeBins(stretch, at)
			at = stretch[used-1].index + 1
		} else {
			used, at, more = m.sizeCells(stretch, at)
		}
		size += more
		bins = bins[used:]
	}
	return int(size+7) / 8
}

// sizeBins walks a sparse stretch from a cell on, up to where it turns dense. It
// returns how many bins that were and the bits that they take.
func (m *riceModel) sizeBins(bins []bin, at int32) (used int, size uint) {
	density, gaps, extras := m.density, m.gap, m.extra
	for k := range bins {
		gap, more := uint64(uint32(bins[k].index-at)), bins[k].count-1
		at = bins[k].index + 1
		density = density.step(densityOf(more+1, gap))
		ofGap, ofMore := gaps.k(), extras.k()
		gaps, extras = gaps.step(gap), extras.step(more)
		if quotients := gap>>(ofGap&63) | more>>(ofMore&63); quotients < riceEscape {
			size += uint(gap>>(ofGap&63)+more>>(ofMore&63)) + ofGap + ofMore + 2
		} else {
			size += riceLength(gap, ofGap) + riceLength(more, ofMore)
		}
		used = k + 1
		if density >= denseFrom {
			break
		}
	}
	m.density, m.gap, m.extra = density, gaps, extras
	return used, size
}

// sizeCells walks a dense stretch from a cell on, up to where it turns sparse. It
// returns how many bins that were, where it came to, and the bits that it takes.
func (m *riceModel) sizeCells(bins []bin, at int32) (used int, to int32, size uint) {
	density, spread := m.density, m.spread
	for used < len(bins) && density >= denseFrom {
		// Whether the cell is empty cannot be foretold, so nothing branches.
		found := (uint64(uint32(bins[used].index-at)) - 1) >> 63
		n := bins[used].count & -found
		used += int(found)
		at++
		folded := fold(n, density)
		size += riceLength(folded, spread.k())
		density, spread = density.step(n), spread.step(folded)
	}
	m.density, m.spread = density, spread
	return used, at, size
}

// riceStretch is how many bins riceSize takes before it looks whether that is
// enough.
const riceStretch = 32

// appendRice appends count values in the cells from low to low+span, unless that
// takes limit bytes or more: then it returns b and false.
func appendRice(b []byte, bins []bin, count uint64, low, span uint32, limit int) ([]byte, bool) {
	m := newRiceModel(count, span)
	density, spread, gaps, extras := m.density, m.spread, m.gap, m.extra
	start, at := len(b), int32(low)
	w := bitWriter{b: b}
	for k := 0; k < len(bins); {
		x := bins[k]
		if density >= denseFrom {
			n := uint64(0)
			if x.index == at {
				n = x.count
				k++
			}
			at++
			folded := fold(n, density)
			w.rice(folded, spread.k())
			density, spread = density.next(n), spread.next(folded)
			continue
		}
		gap, more := uint64(uint32(x.index-at)), x.count-1
		w.rice(gap, gaps.k())
		w.rice(more, extras.k())
		gaps, extras = gaps.next(gap), extras.next(more)
		density = density.next(densityOf(x.count, gap))
		at = x.index + 1
		k++
		if len(w.b)-start >= limit {
			return b, false
		}
	}
	out := w.flush()
	return out, len(out)-start < limit
}
