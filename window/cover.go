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
func (t Tiers) Cover(s Span, sealed []int64) []Run { return t.CoverKept(s, sealed, nil) }

// CoverKept is Cover for tiers that have dropped their oldest buckets: tier i
// has none that starts before kept[i]. s is one that Kept has returned for the
// same times, or for later ones; what no tier can tile is left out. Every
// kept[i] is a whole number of buckets of tier i+1, at or before sealed[i+1];
// nil keeps everything.
func (t Tiers) CoverKept(s Span, sealed, kept []int64) []Run {
	if s.Empty() {
		return nil
	}
	usable := min(len(t), max(len(sealed), 1))
	return t.cover(nil, s.Outward(t.Base()), sealed, kept, usable-1)
}

// cover tiles s with tier i where it can and with finer ones at both ends.
// Widths nest, so of two stored buckets either one holds the other or they are
// apart. Hence the widest stored buckets inside s are disjoint, and as every
// other tiling cuts them up, the fewest.
func (t Tiers) cover(runs []Run, s Span, sealed, kept []int64, i int) []Run {
	if i < len(kept) {
		// Wider buckets before kept were taken by the calls above.
		s.From = max(s.From, t[i].Width.Floor(kept[i]))
	}
	if s.From >= s.To {
		return runs
	}
	w := t[i].Width
	if i == 0 {
		return append(runs, Run{w, s})
	}
	inner := Span{From: w.Ceil(s.From), To: w.Floor(min(s.To, sealed[i]))}
	if inner.From >= inner.To {
		return t.cover(runs, s, sealed, kept, i-1)
	}
	runs = t.cover(runs, Span{From: s.From, To: inner.From}, sealed, kept, i-1)
	runs = append(runs, Run{w, inner})
	return t.cover(runs, Span{From: inner.To, To: s.To}, sealed, kept, i-1)
}

// Finest returns the finest tier that has the time at, where tier i has none
// before kept[i]. It is the last one for a time that none has.
func (t Tiers) Finest(at int64, kept []int64) int {
	for i := range kept {
		if at >= kept[i] {
			return i
		}
	}
	return max(len(kept)-1, 0)
}

// Kept returns the smallest span that holds what is left of s and can be tiled,
// when tier i has no buckets before kept[i]: whole buckets of the finest tier
// that has each end. It is empty when nothing is left. s is resolved.
func (t Tiers) Kept(s Span, kept []int64) Span {
	if len(kept) == 0 {
		return s.Outward(t.Base())
	}
	s.From = max(s.From, kept[len(kept)-1])
	if s.From >= s.To {
		return Span{form: formEmpty}
	}
	return Span{
		From: t[t.Finest(s.From, kept)].Width.Floor(s.From),
		To:   t[t.Finest(s.To, kept)].Width.Ceil(s.To),
	}
}
