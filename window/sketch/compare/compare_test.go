package compare

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
	"google.golang.org/protobuf/proto"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// accuracy is what the documentation of sketches-go begins with: half the width
// of an interval, which is 1.08 % here at precision 5 and 0.27 % at 7.
const accuracy = 0.01

const ring = 1 << 16 // values that a benchmark goes round

func lognormal(seed uint64, n int) []int64 {
	r := rand.New(rand.NewPCG(seed, 1))
	vs := make([]int64, n)
	for i := range vs {
		vs[i] = int64(math.Exp(math.Log(20000) + 1.5*r.NormFloat64()))
	}
	return vs
}

func shapes(n int) map[string][]int64 {
	r := rand.New(rand.NewPCG(1, 2))
	small, full := make([]int64, n), make([]int64, n)
	for i := range small {
		small[i] = 1 + r.Int64N(1000)
		full[i] = int64(r.Uint64())
	}
	return map[string][]int64{"lognormal": lognormal(1, n), "1..1000": small, "full": full}
}

// logarithmic is the sketches-go sketch that its documentation begins with.
func logarithmic(tb testing.TB) *ddsketch.DDSketch {
	s, err := ddsketch.NewDefaultDDSketch(accuracy)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// cubic is the fastest that it offers.
func cubic(tb testing.TB) *ddsketch.DDSketch {
	m, err := mapping.NewCubicallyInterpolatedMapping(accuracy)
	if err != nil {
		tb.Fatal(err)
	}
	return ddsketch.NewDDSketchFromStoreProvider(m, store.DenseStoreConstructor)
}

var rivals = map[string]func(testing.TB) *ddsketch.DDSketch{"ddsketch-log": logarithmic, "ddsketch-cubic": cubic}

func rivalOf(tb testing.TB, s *ddsketch.DDSketch, vs []int64) *ddsketch.DDSketch {
	for _, v := range vs {
		if err := s.Add(float64(v)); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

func oursOf(precision int, vs []int64) *sketch.Sketch {
	var r sketch.Recorder
	r.AddInts(vs)
	s := r.Drain()
	s.Coarsen(precision)
	return s
}

func BenchmarkAdd(b *testing.B) {
	for shape, vs := range shapes(ring) {
		b.Run("values="+shape+"/dmt", func(b *testing.B) {
			var r sketch.Recorder
			r.AddInts(vs)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.AddInt(vs[i&(ring-1)])
			}
		})
		b.Run("values="+shape+"/dmt-slice", func(b *testing.B) {
			var r sketch.Recorder
			r.AddInts(vs)
			n := 0
			for i := 0; b.Loop(); i++ {
				if i&1023 == 0 { // once in 1024 values, 1024 of them
					r.AddInts(vs[n&(ring-1):][:1024])
					n += 1024
				}
			}
		})
		for name, rival := range rivals {
			b.Run("values="+shape+"/"+name, func(b *testing.B) {
				s := rivalOf(b, rival(b), vs)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := s.Add(float64(vs[i&(ring-1)])); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

const nodes = 64

func encodedOurs(tb testing.TB, precision, values int) (all [][]byte) {
	for i := range nodes {
		b, err := oursOf(precision, lognormal(uint64(i), values)).MarshalBinary()
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

func encodedRivals(tb testing.TB, values int) (all [][]byte) {
	for i := range nodes {
		var b []byte
		rivalOf(tb, logarithmic(tb), lognormal(uint64(i), values)).Encode(&b, false)
		all = append(all, b)
	}
	return all
}

func meanLength(all [][]byte) float64 {
	n := 0
	for _, b := range all {
		n += len(b)
	}
	return float64(n) / float64(len(all))
}

// BenchmarkDecodeMerge merges encoded sketches of nodes into one.
func BenchmarkDecodeMerge(b *testing.B) {
	const values = 1000
	for _, precision := range []int{5, 6, 7, 8} {
		b.Run(fmt.Sprintf("dmt/precision=%d", precision), func(b *testing.B) {
			all := encodedOurs(b, precision, values)
			a := sketch.NewAccumulator(precision)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := a.MergeBinary(all[i%nodes]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(meanLength(all), "B/sketch")
		})
	}
	b.Run("ddsketch-log", func(b *testing.B) {
		all := encodedRivals(b, values)
		s := logarithmic(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := s.DecodeAndMergeWith(all[i%nodes]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(meanLength(all), "B/sketch")
	})
}

// BenchmarkMerge merges sketches that are in memory already.
func BenchmarkMerge(b *testing.B) {
	const values = 1000
	b.Run("dmt/precision=7", func(b *testing.B) {
		var all []*sketch.Sketch
		for i := range nodes {
			all = append(all, oursOf(7, lognormal(uint64(i), values)))
		}
		a := sketch.NewAccumulator(7)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			a.Merge(all[i%nodes])
		}
	})
	b.Run("ddsketch-log", func(b *testing.B) {
		var all []*ddsketch.DDSketch
		for i := range nodes {
			all = append(all, rivalOf(b, logarithmic(b), lognormal(uint64(i), values)))
		}
		s := logarithmic(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := s.MergeWith(all[i%nodes]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkEncode encodes, and reports the size, of sketches of 10 to 1M values.
func BenchmarkEncode(b *testing.B) {
	for _, values := range []int{10, 100, 1000, 10_000, 100_000, 1_000_000} {
		vs := lognormal(1, values)
		for _, precision := range []int{5, 6, 7, 8} {
			b.Run(fmt.Sprintf("values=%d/dmt/precision=%d", values, precision), func(b *testing.B) {
				s := oursOf(precision, vs)
				var buf []byte
				var err error
				for b.Loop() {
					if buf, err = s.AppendBinary(buf[:0]); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(buf)), "B/sketch")
			})
		}
		b.Run(fmt.Sprintf("values=%d/ddsketch-log", values), func(b *testing.B) {
			s := rivalOf(b, logarithmic(b), vs)
			var buf []byte
			for b.Loop() {
				buf = buf[:0]
				s.Encode(&buf, false)
			}
			b.ReportMetric(float64(len(buf)), "B/sketch")
		})
		b.Run(fmt.Sprintf("values=%d/ddsketch-log-proto", values), func(b *testing.B) {
			s := rivalOf(b, logarithmic(b), vs)
			size := 0
			for b.Loop() {
				out, err := proto.Marshal(s.ToProto())
				if err != nil {
					b.Fatal(err)
				}
				size = len(out)
			}
			b.ReportMetric(float64(size), "B/sketch")
		})
	}
}
