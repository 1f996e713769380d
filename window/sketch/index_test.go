package sketch

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// power returns base^n.
func power(base uint64, n int64) *big.Int {
	z := new(big.Int).SetUint64(base)
	return z.Exp(z, big.NewInt(n), nil)
}

// twoTo returns 2^n for n ≥ 0.
func twoTo(n int64) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(n)) }

// TestThresholds proves the table with integers alone: t = floor(2^63·2^(k/n))
// exactly if t^n ≤ 2^(63n+k) < (t+1)^n.
func TestThresholds(t *testing.T) {
	for scale := 0; scale <= maxScale; scale++ {
		n := int64(1) << scale
		for k := range n {
			threshold := thresholds[k<<(maxScale-scale)]
			exact := twoTo(63*n + k)
			if power(threshold, n).Cmp(exact) > 0 || power(threshold+1, n).Cmp(exact) <= 0 {
				t.Errorf("scale %d: threshold %d = %#x is not floor(2^63·2^(%d/%d))", scale, k, threshold, k, n)
			}
		}
	}
}

// inBin tells by integers alone whether 2^(i/256) < m·2^e ≤ 2^((i+1)/256).
func inBin(m uint64, e, i int64) bool {
	x := power(m, 256)
	i -= 256 * e
	return i < 0 || x.Cmp(twoTo(i)) > 0 && x.Cmp(twoTo(i+1)) <= 0
}

func TestIndexOf_Exact(t *testing.T) {
	f := func(u uint64) {
		t.Helper()
		if i := indexOf(u); !inBin(u, 0, int64(i)) && !(u == 1 && i == -1) {
			t.Errorf("indexOf(%d) = %d, but the bin does not hold it", u, i)
		}
	}
	for u := range uint64(2000) {
		f(u + 1)
	}
	for bit := range 64 {
		f(1 << bit)
		f(1<<bit | 1)
		f(1<<bit - 1 | 1)
	}
	f(math.MaxUint64)
	r := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		f(r.Uint64()>>r.IntN(64) | 1)
	}
}

// TestIndexOf_Bounds walks over every bound of every octave: the greatest
// integer at or below it belongs to the bin below, the next one to the bin above.
func TestIndexOf_Bounds(t *testing.T) {
	for i := int32(0); i < 64<<maxScale; i++ {
		u := lowerInt(i, 0)
		if got := indexOf(u); got >= i {
			t.Fatalf("indexOf(%d) = %d, want below %d", u, got, i)
		}
		if got := indexOf(u + 1); got < i {
			t.Fatalf("indexOf(%d) = %d, want %d or above", u+1, got, i)
		}
	}
}

func TestIndexOfFloat_Exact(t *testing.T) {
	f := func(x float64) {
		t.Helper()
		b := math.Float64bits(x)
		m, e := b&(1<<52-1), int64(b>>52)
		if e > 0 {
			m, e = m|1<<52, e-1
		}
		i := int64(indexOfFloat(x))
		// The mantissa is brought to full width so that i less 256e is positive.
		for m>>63 == 0 {
			m, e = m<<1, e-1
		}
		if !inBin(m, e-1074, i) {
			t.Errorf("indexOfFloat(%g) = %d, but the bin does not hold it", x, i)
		}
	}
	for _, x := range []float64{math.SmallestNonzeroFloat64, 1e-323, 0x1p-1022, 0x1p-1023, math.MaxFloat64, 1, 2, 0.5, math.Pi} {
		f(x)
		f(math.Nextafter(x, 2))
		if x > math.SmallestNonzeroFloat64 {
			f(math.Nextafter(x, 0))
		}
	}
	r := rand.New(rand.NewPCG(2, 1))
	for range 3000 {
		if x := math.Abs(math.Float64frombits(r.Uint64())); finite(x) && x > 0 {
			f(x)
		}
		f(math.Float64frombits(r.Uint64()>>(12+r.IntN(52)) | 1)) // subnormal
	}
}

func TestIndexOfFloat_EqualsIndexOfOnIntegers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for range 100000 {
		u := r.Uint64()>>11>>r.IntN(53) | 1
		if a, b := indexOf(u), indexOfFloat(float64(u)); a != b {
			t.Fatalf("indexOf(%d) = %d, indexOfFloat = %d", u, a, b)
		}
	}
}

// TestBinRange checks that both ends of a bin's range are in the bin and that
// the next numbers outside are not.
func TestBinRange(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	for range 200000 {
		n := randomNumber(r)
		if n == (Number{}) {
			continue
		}
		shift := uint8(r.IntN(maxScale - minScale + 1))
		floats := n.float || r.IntN(2) == 0
		index, negative := n.index()
		index >>= shift
		lower, upper := binRange(index, shift, negative, floats)
		if n.less(lower) || upper.less(n) {
			t.Fatalf("binRange at shift %d = [%v, %v], which lacks %v", shift, lower, upper, n)
		}
		for _, end := range []Number{lower, upper} {
			if i, sign := end.index(); i>>shift != index || sign != negative {
				t.Fatalf("binRange of %v at shift %d: end %v is outside", n, shift, end)
			}
		}
		for _, out := range []Number{next(lower, floats, -1), next(upper, floats, +1)} {
			if out == (Number{}) || out == lower || out == upper {
				continue // zero has no bin; the ends of the domain have no next
			}
			if i, sign := out.index(); i>>shift == index && sign == negative {
				t.Fatalf("binRange of %v at shift %d = [%v, %v], but %v is inside", n, shift, lower, upper, out)
			}
		}
	}
}

// next returns the next number in a direction, an integer unless floats are
// among the numbers.
func next(n Number, floats bool, direction int) Number {
	v, isInt := n.Int64()
	f := math.Nextafter(n.Float64(), math.Inf(direction))
	edge := isInt && (direction > 0 && v == math.MaxInt64 || direction < 0 && v == math.MinInt64)
	if !floats {
		if edge {
			return n
		}
		return Int(v + int64(direction))
	}
	if isInt && !edge && magnitude(v) >= 1<<53 {
		return Int(v + int64(direction))
	}
	if !finite(f) {
		return n
	}
	return number(f)
}

func TestCells_OnePerBinThatHoldsAnInteger(t *testing.T) {
	for shift := range uint8(maxScale + 1) {
		c := cellsOf(shift, false)
		want := uint32(1)
		for i := int32(-1); i < 63<<maxScale>>shift; i++ {
			if lower, upper := binRange(i, shift, false, false); upper.less(lower) {
				continue
			}
			if got := c.cell(i); got != want {
				t.Fatalf("shift %d: cell(%d) = %d, want %d", shift, i, got, want)
			}
			if got := c.bin(want); got != i {
				t.Fatalf("shift %d: bin(%d) = %d, want %d", shift, want, got, i)
			}
			want++
		}
	}
}
