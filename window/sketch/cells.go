package sketch

// Inside an encoding, bins are numbered by cells. In a sketch of integers the
// small bins are narrower than 1 and most hold no integer at all; only those
// that do have a cell, so that the gaps cost nothing. In any other sketch, and
// at scales below 0, cells run on with the index.

// cells numbers the bins of one scale: bin index+k is cell rank+k for k ≥ 0, and
// below that each integer is its own cell.
type cells struct {
	index int32
	rank  uint32
	shift uint8
}

// integerCells are the cells of integers by shift, for scales 0 to 8.
var integerCells = makeIntegerCells()

func makeIntegerCells() (t [maxScale + 1]cells) {
	for shift := range uint8(len(t)) {
		// The first bin that holds two integers is wider than 1, and so is every
		// bin above: each holds one at least. Those below hold one at most.
		i := int32(0)
		for lowerInt(i+1, shift)-lowerInt(i, shift) < 2 {
			i++
		}
		t[shift] = cells{i, uint32(lowerInt(i, shift)) + 1, shift}
	}
	return t
}

func cellsOf(shift uint8, floats bool) cells {
	switch {
	case floats:
		return cells{-1075 << maxScale >> shift, 0, shift}
	case shift > maxScale:
		return cells{-1, 0, shift}
	}
	return integerCells[shift]
}

// cell returns the cell of a bin.
func (c *cells) cell(i int32) uint32 {
	if i >= c.index {
		return c.rank + uint32(i-c.index)
	}
	return uint32(lowerInt(i+1, c.shift))
}

// bin returns the index of the bin of a cell.
func (c *cells) bin(cell uint32) int32 {
	if cell >= c.rank {
		return c.index + int32(cell-c.rank)
	}
	return indexOf(uint64(cell)) >> c.shift
}

// number sets out to the bins of in, by cell.
func (c *cells) number(out, in []bin) {
	out = out[:len(in)]
	k := 0
	for ; k < len(in) && in[k].index < c.index; k++ {
		out[k] = bin{int32(c.cell(in[k].index)), in[k].count}
	}
	// From here on cells run on with the index.
	move(out[k:], in[k:], int32(c.rank)-c.index)
}

// bins sets out to the bins of in, by index.
func (c *cells) bins(out, in []bin) {
	out = out[:len(in)]
	k := 0
	for ; k < len(in) && uint32(in[k].index) < c.rank; k++ {
		out[k] = bin{c.bin(uint32(in[k].index)), in[k].count}
	}
	move(out[k:], in[k:], c.index-int32(c.rank))
}

// move sets out to in with an offset.
func move(out, in []bin, offset int32) {
	out = out[:len(in)]
	for k := range in {
		x, y := &in[k], &out[k]
		y.index, y.count = x.index+offset, x.count
	}
}

// cellOf returns the cell that a number other than zero falls into.
func (c *cells) cellOf(v Number) uint32 {
	i, _ := v.index()
	return c.cell(i >> c.shift)
}
