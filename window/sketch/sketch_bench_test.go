package sketch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// lognormal returns latencies in microseconds with a heavy tail, as integers.
func lognormal(seed uint64, n int) []int64 {
	r := rand.New(rand.NewPCG(seed, 1))
	vs := make([]int64, n)
	for i := range vs {
		vs[i] = lognormalValue(r)
	}
	return vs
}

func lognormalValue(r *rand.Rand) int64 {
	return int64(math.Exp(math.Log(20000) + 1.5*r.NormFloat64()))
}

func sketchOf(precision int, vs []int64) *Sketch {
	s := New(precision)
	for _, v := range vs {
		s.AddInt(v)
	}
	return s
}

func encode(s *Sketch) []byte {
	b, err := s.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return b
}

// encoded returns the encoded sketches of many nodes, so that a benchmark does
// not teach the branch predictor one of them.
func encoded(precision, nodes, values int) [][]byte {
	all := make([][]byte, nodes)
	for i := range all {
		all[i] = encode(sketchOf(precision, lognormal(uint64(i), values)))
	}
	return all
}

func BenchmarkAdd(b *testing.B) {
	vs := lognormal(1, 1<<16)
	s := New(DefaultPrecision)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.AddInt(vs[i&(1<<16-1)])
	}
}

func BenchmarkMerge(b *testing.B) {
	for _, precision := range []int{5, 7, 8} {
		b.Run(fmt.Sprintf("precision=%d/values=1000", precision), func(b *testing.B) {
			var nodes []*Sketch
			for i := range 64 {
				nodes = append(nodes, sketchOf(precision, lognormal(uint64(i), 1000)))
			}
			s := New(precision)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Merge(nodes[i&63])
			}
		})
	}
}

func BenchmarkMergeBinary(b *testing.B) {
	for _, precision := range []int{5, 6, 7, 8} {
		for _, values := range []int{10, 100, 1000, 10000} {
			b.Run(fmt.Sprintf("precision=%d/values=%d", precision, values), func(b *testing.B) {
				nodes := encoded(precision, 64, values)
				a := NewAccumulator(precision)
				for _, n := range nodes {
					mergeBinary(b, a, n)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					mergeBinary(b, a, nodes[i&63])
				}
				b.ReportMetric(meanLength(nodes), "B/sketch")
			})
		}
	}
}

func mergeBinary(tb testing.TB, a *Accumulator, encoded []byte) {
	if err := a.MergeBinary(encoded); err != nil {
		tb.Fatal(err)
	}
}

func meanLength(all [][]byte) float64 {
	n := 0
	for _, b := range all {
		n += len(b)
	}
	return float64(n) / float64(len(all))
}

func BenchmarkAppendBinary(b *testing.B) {
	for _, precision := range []int{5, 7, 8} {
		b.Run(fmt.Sprintf("precision=%d/values=1000", precision), func(b *testing.B) {
			var nodes []*Sketch
			for i := range 64 {
				nodes = append(nodes, sketchOf(precision, lognormal(uint64(i), 1000)))
			}
			var buf []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				buf, _ = nodes[i&63].AppendBinary(buf[:0]) // the error is always nil
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, precision := range []int{5, 7, 8} {
		for _, values := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("precision=%d/values=%d", precision, values), func(b *testing.B) {
				nodes := encoded(precision, 64, values)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, err := Check(nodes[i&63]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkAnswer is what a query costs after its merges: a median from the
// sketch that is made of them, or from the counters, or their encoding.
func BenchmarkAnswer(b *testing.B) {
	a := NewAccumulator(DefaultPrecision)
	for _, n := range encoded(DefaultPrecision, 64, 1000) {
		mergeBinary(b, a, n)
	}
	b.Run("by=sketch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Sketch().Median()
		}
	})
	b.Run("by=counters", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a.Median()
		}
	})
	b.Run("by=bytes", func(b *testing.B) {
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = a.AppendBinary(buf[:0]) // the error is always nil
		}
	})
}

func BenchmarkMedian(b *testing.B) {
	s := sketchOf(DefaultPrecision, lognormal(1, 1000))
	b.ReportAllocs()
	for b.Loop() {
		s.Median()
	}
}
