package sketch

import (
	"math/big"
	"math/bits"
)

// int128 is a two's complement integer. 2^62 values of an int64 stay below 2^125.
type int128 struct{ high, low uint64 }

// product returns v·n.
func product(v int64, n uint64) int128 {
	high, low := bits.Mul64(uint64(v), n)
	if v < 0 {
		high -= n // v was read as v + 2^64
	}
	return int128{high, low}
}

func (a int128) add(b int128) int128 {
	low, carry := bits.Add64(a.low, b.low, 0)
	high, _ := bits.Add64(a.high, b.high, carry)
	return int128{high, low}
}

func (a int128) sub(b int128) int128 {
	low, borrow := bits.Sub64(a.low, b.low, 0)
	high, _ := bits.Sub64(a.high, b.high, borrow)
	return int128{high, low}
}

// cmp compares as signed integers.
func (a int128) cmp(b int128) int {
	switch {
	case a == b:
		return 0
	case a.sub(b).high>>63 != 0: // both lie within ±2^125
		return -1
	}
	return 1
}

func (a int128) big() *big.Int {
	z := new(big.Int).SetInt64(int64(a.high))
	z.Lsh(z, 64)
	return z.Add(z, new(big.Int).SetUint64(a.low))
}
