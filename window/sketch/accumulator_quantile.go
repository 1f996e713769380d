package sketch

// Answers straight from the counters: what a query asks of the sketches that it
// merged, without making a sketch of them first.

// Min returns the least value, 0 if there is none. See Sketch.Min.
func (a *Accumulator) Min() Number { return a.head.min }

// Max returns the greatest value, 0 if there is none. See Sketch.Max.
func (a *Accumulator) Max() Number { return a.head.max }

// Median returns what Sketch().Median() does.
func (a *Accumulator) Median() Estimate { return a.Quantile(0.5) }

// Quantile returns what Sketch().Quantile(q) does, without making the sketch. It
// panics for q outside [0, 1].
func (a *Accumulator) Quantile(q float64) Estimate {
	if a.tooWide() {
		// The sketch has a coarser scale than the counters then.
		return a.Sketch().Quantile(q)
	}
	return quantile(a, a.head.count, q)
}

// tooWide tells whether there are more bins than a sketch may have.
func (a *Accumulator) tooWide() bool {
	negative, positive := &a.sides[negativeSide], &a.sides[positiveSide]
	if len(negative.used())+len(positive.used()) <= MaxBins {
		return false
	}
	return negative.numBins()+positive.numBins() > MaxBins
}

// order is Sketch.order for the counters.
func (a *Accumulator) order(r uint64) order {
	s := &a.head
	if !s.bounds && r == 1 {
		return exactly(s.min)
	}
	if !s.bounds && r == s.count {
		return exactly(s.max)
	}
	counts := a.sides[negativeSide].used()
	for k := len(counts) - 1; k >= 0; k-- {
		if r <= counts[k] {
			return a.inBin(negativeSide, k, r)
		}
		r -= counts[k]
	}
	if r <= s.zeros {
		return exactly(Number{})
	}
	r -= s.zeros
	for k, c := range a.sides[positiveSide].used() {
		if r <= c {
			return a.inBin(positiveSide, k, r)
		}
		r -= c
	}
	panic("sketch: rank beyond count")
}

// inBin returns the j-th smallest value of the k-th of the used counters.
func (a *Accumulator) inBin(side, k int, j uint64) order {
	c := &a.sides[side]
	counts := c.used()
	var before, after uint64
	if k > 0 {
		before = counts[k-1]
	}
	if k+1 < len(counts) {
		after = counts[k+1]
	}
	return a.head.inBin(bin{c.from + int32(k), counts[k]}, side == negativeSide, j, before, after)
}
