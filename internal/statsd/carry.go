package statsd

import "math"

// Carry turns sample rates into whole weights: 1/rate, rounded, and what was
// rounded away is owed to the next value. So n values at one rate weigh n/rate
// together, to within a half. The zero value owes nothing.
type Carry struct{ owed float64 }

// Weight returns for how many values one sampled at rate stands, at least 1. A
// rate is one that Line.Parse accepted.
func (c *Carry) Weight(rate float64) uint64 {
	if rate == 1 {
		return 1
	}
	exact := 1/rate + c.owed
	n := max(math.Round(exact), 1)
	c.owed = exact - n
	return uint64(n)
}
