package sketch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The figures of DESIGN.md that are no times. They come as metrics, so that the
// command that prints a table stands beside it.

func sampleOf(shape string, seed uint64, n int) []Number {
	r := rand.New(rand.NewPCG(seed, 1))
	ns := make([]Number, n)
	for i := range ns {
		ns[i] = distributions[shape](r)
	}
	return ns
}

// BenchmarkFigures_Bytes reports the bytes of a sketch at each precision.
func BenchmarkFigures_Bytes(b *testing.B) {
	for _, shape := range []string{"uniform 1..1000", "lognormal", "pareto", "normal", "bimodal", "full int64", "floats", "atoms", "constant"} {
		for _, n := range []int{10, 100, 1000, 10_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("values=%s/n=%d", shape, n), func(b *testing.B) {
				for b.Loop() {
					seeds := max(1, min(20, 10_000/n))
					bytes := make([]float64, MaxPrecision+1)
					for seed := range seeds {
						var r Recorder
						addTo(b, &r, sampleOf(shape, uint64(seed), n)...)
						s := r.Drain()
						for p := MaxPrecision; p >= MinPrecision; p-- {
							s.Coarsen(p)
							bytes[p] += float64(len(encode(s))) / float64(seeds)
						}
					}
					precisions(func(p int) { b.ReportMetric(bytes[p], fmt.Sprintf("B-at-%d", p)) })
				}
			})
		}
	}
}

// BenchmarkFigures_Error reports the error of the median of 1000 values over 60
// seeds: its mean and its worst, and the worst that an answer claimed, in percent.
func BenchmarkFigures_Error(b *testing.B) {
	for _, shape := range []string{"uniform 1..1000", "lognormal", "pareto", "normal", "floats", "rounded floats"} {
		precisions(func(precision int) {
			b.Run(fmt.Sprintf("values=%s/precision=%d", shape, precision), func(b *testing.B) {
				for b.Loop() {
					sum, worst, claimed := 0.0, 0.0, 0.0
					for seed := range uint64(60) {
						ns := sampleOf(shape, seed, 1000)
						s := sketchOfNumbers(b, precision, ns)
						slices.SortFunc(ns, Number.Cmp)
						e := s.Median()
						off := checkEstimate(b, shape, s, ns, 0.5, e)
						sum += off / 60
						worst, claimed = math.Max(worst, off), math.Max(claimed, e.MaxRelativeError)
					}
					b.ReportMetric(100*sum, "mean-%")
					b.ReportMetric(100*worst, "worst-%")
					b.ReportMetric(100*claimed, "claimed-%")
				}
			})
		})
	}
}
