package sketch

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
)

// shapes are what the recorder is measured on.
func shapes(n int) map[string][]int64 {
	r := rand.New(rand.NewPCG(1, 2))
	small, full := make([]int64, n), make([]int64, n)
	for i := range small {
		small[i] = 1 + r.Int64N(1000)
		full[i] = int64(r.Uint64())
	}
	return map[string][]int64{"lognormal": lognormal(1, n), "1..1000": small, "full": full}
}

const ring = 1 << 16 // values that a benchmark goes round

func BenchmarkRecorderAddInt(b *testing.B) {
	for name, vs := range shapes(ring) {
		b.Run("values="+name, func(b *testing.B) {
			var r Recorder
			r.AddInts(vs)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.AddInt(vs[i&(ring-1)])
			}
		})
	}
}

func BenchmarkRecorderAdd(b *testing.B) {
	vs := make([]float64, ring)
	for i, v := range lognormal(1, ring) {
		vs[i] = float64(v) / 1000
	}
	var r Recorder
	for _, v := range vs {
		if err := r.Add(v); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := r.Add(vs[i&(ring-1)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecorderAddInts(b *testing.B) {
	for name, vs := range shapes(ring) {
		b.Run("values="+name, func(b *testing.B) {
			var r Recorder
			r.AddInts(vs)
			b.ReportAllocs()
			for b.Loop() {
				r.AddInts(vs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/ring, "ns/value")
		})
	}
}

func BenchmarkRecorderDrain(b *testing.B) {
	vs := lognormal(1, 1000)
	var r Recorder
	b.ReportAllocs()
	for b.Loop() {
		r.AddInts(vs)
		r.Drain()
	}
}

// BenchmarkRecorderMemory reports what a recorder of one of 10,000 nodes in a
// process takes, with the values of one interval in it.
func BenchmarkRecorderMemory(b *testing.B) {
	for _, values := range []int{0, 1, 4, 16, 64, 100, 1000} {
		b.Run(fmt.Sprintf("nodes=10000/values=%d", values), func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(bytesPerRecorder(10000, values), "B/node")
			}
		})
	}
}

func bytesPerRecorder(nodes, values int) float64 {
	all := make([]*Recorder, nodes)
	vs := make([]int64, values)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range all {
		all[i] = new(Recorder)
		r := rand.New(rand.NewPCG(uint64(i), 1))
		for k := range vs {
			vs[k] = lognormalValue(r)
		}
		all[i].AddInts(vs)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(all)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(nodes)
}
