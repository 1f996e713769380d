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
func (a average) k() uint { return uint(bits.Len64(uint64(a) * 9 >> 8)) }

// riceModel is what writer and reader know alike at every step.
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

// dense tells whether the next step is a cell: from 1½ values to a cell on.
func (m *riceModel) dense() bool { return m.density >= 24 }

// fold maps a count to how far it is from the mean, above and below in turn, and
// from twice the mean on, where there is no below left, to itself.
func (m *riceModel) fold(n uint64) uint64 {
	mean := uint64(m.density+8) >> 4
	if n >= 2*mean {
		return n
	}
	d := int64(n - mean)
	return uint64(d<<1 ^ d>>63)
}

func (m *riceModel) unfold(v uint64) uint64 {
	mean := uint64(m.density+8) >> 4
	if v >= 2*mean {
		return v
	}
	return mean + (v>>1 ^ -(v & 1))
}

// stepCell takes in a cell of a dense stretch.
func (m *riceModel) stepCell(n, folded uint64) {
	m.density = m.density.next(n)
	m.spread = m.spread.next(folded)
}

// stepBin takes in a bin of a sparse stretch.
func (m *riceModel) stepBin(gap, n uint64) {
	m.gap = m.gap.next(gap)
	m.extra = m.extra.next(n - 1)
	m.density = m.density.next(n >> bits.Len64(gap)) // about n/(gap+1)
}

// appendRice appends count values in the cells from low to low+span.
func appendRice(b []byte, bins []bin, count uint64, low, span uint32) []byte {
	w := bitWriter{b: b}
	writeRice(&w, bins, count, low, span)
	return w.flush()
}

// riceSize returns the number of bytes that appendRice appends.
func riceSize(bins []bin, count uint64, low, span uint32) int {
	w := bitWriter{measuring: true}
	writeRice(&w, bins, count, low, span)
	return w.size()
}

func writeRice(w *bitWriter, bins []bin, count uint64, low, span uint32) {
	m := newRiceModel(count, span)
	at := int32(low)
	for k := 0; k < len(bins); {
		next := bins[k]
		if m.dense() {
			n := uint64(0)
			if next.index == at {
				n = next.count
				k++
			}
			folded := m.fold(n)
			w.rice(folded, m.spread.k())
			m.stepCell(n, folded)
			at++
			continue
		}
		gap := uint64(next.index - at)
		w.rice(gap, m.gap.k())
		w.rice(next.count-1, m.extra.k())
		m.stepBin(gap, next.count)
		at = next.index + 1
		k++
	}
}

// readRice appends to bins what appendRice wrote, and returns the rest of b.
func readRice(bins []bin, b []byte, count uint64, low, span uint32) ([]bin, []byte, bool) {
	r := bitReader{b: b}
	m := newRiceModel(count, span)
	at, last := uint64(low), uint64(low)+uint64(span)
	for count > 0 {
		n := uint64(0)
		if m.dense() {
			folded := r.rice(m.spread.k())
			n = m.unfold(folded)
			m.stepCell(n, folded)
		} else {
			gap := r.rice(m.gap.k())
			n = r.rice(m.extra.k()) + 1
			if gap > uint64(span) || n == 0 {
				return bins, nil, false
			}
			m.stepBin(gap, n)
			at += gap
		}
		if at > last || n > count || r.overrun || len(bins) > MaxBins {
			return bins, nil, false
		}
		if n > 0 {
			bins = append(bins, bin{int32(at), n})
			count -= n
		}
		at++
	}
	rest, ok := r.rest()
	return bins, rest, ok
}
