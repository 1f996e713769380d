package sketch

import "math"

// page counts the bins of an octave of one sign in 64 bits each. The high halves
// are there from the first carry on: few counters of a node ever need them.
type page struct {
	low  [1 << maxScale]uint32
	high *[1 << maxScale]uint32
}

func (p *page) increment(slot uint8) {
	if p.low[slot]++; p.low[slot] == 0 {
		p.carry(slot, 1)
	}
}

func (p *page) add(slot uint8, n uint64) {
	sum := uint64(p.low[slot]) + n&math.MaxUint32
	p.low[slot] = uint32(sum)
	if carry := n>>32 + sum>>32; carry > 0 {
		p.carry(slot, uint32(carry))
	}
}

func (p *page) carry(slot uint8, n uint32) {
	if p.high == nil {
		p.high = new([1 << maxScale]uint32)
	}
	p.high[slot] += n
}

func (p *page) count(slot int) uint64 {
	n := uint64(p.low[slot])
	if p.high != nil {
		n |= uint64(p.high[slot]) << 32
	}
	return n
}

// used returns the number of counters that are not zero, none for a nil page.
func (p *page) used() (n int) {
	if p == nil {
		return 0
	}
	for slot := range p.low {
		if p.count(slot) > 0 {
			n++
		}
	}
	return n
}

// clear sets all counters to zero. It returns false if they were.
func (p *page) clear() (used bool) {
	used = p.used() > 0
	*p = page{}
	return used
}

// appendTo appends the counters as bins from index first on.
func (p *page) appendTo(bins []bin, first int32) []bin {
	for slot := range p.low {
		if n := p.count(slot); n > 0 {
			bins = append(bins, bin{first + int32(slot), n})
		}
	}
	return bins
}
