package sketch

// readRice reads count values. It returns them as bins, in the memory of tmp,
// and the rest of b. What it returns with true lies within low and low+span and
// is written in no other way; there are MaxBins at most.
func readRice(tmp *scratch, b []byte, count uint64, low, span uint32) (bins []bin, rest []byte, ok bool) {
	// One more than there may be, for an empty cell.
	bins = tmp.sizedBins(int(min(count, uint64(span)+1, MaxBins)) + 1)
	m := newRiceModel(count, span)
	to := riceReader{
		bitReader: bitReader{b: b}, riceModel: m, bins: bins,
		left: count, at: uint64(low), last: uint64(low) + uint64(span), span: uint64(span),
	}
	for to.left > 0 {
		if to.density < denseFrom {
			ok = to.readBins()
		} else {
			ok = to.readCells()
		}
		if !ok {
			return nil, nil, false
		}
	}
	rest, ok = to.rest()
	return bins[:to.used], rest, ok && to.used <= MaxBins
}

// riceReader is what reading a Rice payload comes to.
type riceReader struct {
	bitReader
	riceModel
	bins []bin
	used int

	left           uint64 // values to come
	at, last, span uint64 // the next cell, the last one, and the most between two
}

// readBins reads a sparse stretch, up to where it turns dense. It returns false if
// what it reads cannot be.
func (r *riceReader) readBins() bool {
	density, gaps, extras := r.density, r.gap, r.extra
	acc, held := r.acc, r.n
	for r.left > 0 && density < denseFrom {
		ofGap, ofMore := gaps.k()&63, extras.k()&63
		if r.pos+8 <= len(r.b) {
			acc, held = r.refill(acc, held)
		}
		// Both codes at once, unless they are long or the end is near.
		q := ones(acc)
		rest := acc >> ((q + 1) & 63)
		gap := uint64(q)<<ofGap | rest&(1<<ofGap-1)
		rest >>= ofGap
		p := ones(rest)
		rest >>= (p + 1) & 63
		more := uint64(p)<<ofMore | rest&(1<<ofMore-1)
		if used := q + p + 2 + ofGap + ofMore; max(q, p) < riceEscape && used <= held {
			acc = rest >> ofMore
			held -= used
		} else {
			r.acc, r.n = acc, held
			gap, more = r.rice(ofGap), r.rice(ofMore)
			acc, held = r.acc, r.n
		}
		n := more + 1
		r.at += min(gap, r.span+1)
		if r.at > r.last || more >= r.left || r.bad || r.used >= len(r.bins) {
			return false
		}
		gaps, extras = gaps.next(gap), extras.next(more)
		density = density.next(densityOf(n, gap))
		r.bins[r.used] = bin{int32(r.at), n}
		r.used++
		r.left -= n
		r.at++
	}
	r.density, r.gap, r.extra = density, gaps, extras
	r.acc, r.n = acc, held
	return true
}

// readCells reads a dense stretch, up to where it turns sparse. It returns false
// if what it reads cannot be.
func (r *riceReader) readCells() bool {
	density, spread := r.density, r.spread
	acc, held := r.acc, r.n
	for r.left > 0 && density >= denseFrom {
		ofSpread := spread.k() & 63
		if r.pos+8 <= len(r.b) {
			acc, held = r.refill(acc, held)
		}
		q := ones(acc)
		rest := acc >> ((q + 1) & 63)
		folded := uint64(q)<<ofSpread | rest&(1<<ofSpread-1)
		if used := q + 1 + ofSpread; q < riceEscape && used <= held {
			acc = rest >> ofSpread
			held -= used
		} else {
			r.acc, r.n = acc, held
			folded = r.rice(ofSpread)
			acc, held = r.acc, r.n
		}
		n := unfold(folded, density)
		if r.at > r.last || n > r.left || r.bad || r.used >= len(r.bins) {
			return false
		}
		density, spread = density.next(n), spread.next(folded)
		// An empty cell is stored too, and overwritten.
		r.bins[r.used] = bin{int32(r.at), n}
		if n > 0 {
			r.used++
		}
		r.left -= n
		r.at++
	}
	r.density, r.spread = density, spread
	r.acc, r.n = acc, held
	return true
}
