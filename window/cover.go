package window

// Run is a row of stored buckets of one width, without gaps.
type Run struct {
	Width Width
	Span  Span // whole buckets
}

// Buckets returns how many buckets the run has.
func (r Run) Buckets() int64 { return r.Span.Seconds() / int64(r.Width) }

// Cover returns the fewest stored buckets that tile s, as runs in time order,
// no two neighbours of one width: at most 2*len(t)-1 runs. s is resolved and
// aligned to the base width; what is not is widened outward.
//
// sealed[i] is a time: tier i has stored its buckets that end at or before it,
// and no later ones. sealed[0] does not matter, the base tier has everything;
// a tier without an entry has nothing.
func (t Tiers) Cover(s Span, sealed []int64) []Run {
	if s.Empty() {
		return nil
	}
	usable := min(len(t), max(len(sealed), 1))
	return t.cover(nil, s.Outward(t.Base()), sealed, usable-1)
}

// cover tiles s with tier i where it can and with finer ones at both ends.
// Widths nest, so of two stored buckets either one holds the other or they are
// apart. Hence the widest stored buckets inside s are disjoint, and as every
// other tiling cuts them up, the fewest.
func (t Tiers) cover(runs []Run, s Span, sealed []int64, i int) []Run {
	if s.From >= s.To {
		return runs
	}
	w := t[i].Width
	if i == 0 {
		return append(runs, Run{w, s})
	}
	inner := Span{From: w.Ceil(s.From), To: w.Floor(min(s.To, sealed[i]))}
	if inner.From >= inner.To {
		return t.cover(runs, s, sealed, i-1)
	}
	runs = t.cover(runs, Span{From: s.From, To: inner.From}, sealed, i-1)
	runs = append(runs, Run{w, inner})
	return t.cover(runs, Span{From: inner.To, To: s.To}, sealed, i-1)
}
