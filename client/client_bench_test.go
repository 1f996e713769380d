package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"google.golang.org/protobuf/proto"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// lognormal returns n latencies in microseconds as a service might have them.
func lognormal(n int, seed uint64) []int64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	vs := make([]int64, n)
	for i := range vs {
		vs[i] = int64(math.Exp(7 + rng.NormFloat64()))
	}
	return vs
}

// quiet returns a recorder and a tracker that no clock collects from, so that
// a benchmark measures the adding alone.
func quiet(b *testing.B) (*Recorder, *MedianTracker) {
	b.Helper()
	c, _, _ := newTest(b, Options{})
	r := &Recorder{node: "n", handles: make(map[string]*Handle)}
	r.account = account{client: c, source: r}
	t := newTracker("m")
	t.account = account{client: c, source: t}
	return r, t
}

func BenchmarkHandle_AddInt(b *testing.B) {
	for _, procs := range []int{1, 2} {
		b.Run(fmt.Sprintf("goroutines=%d/handles=1", procs), func(b *testing.B) {
			rec, _ := quiet(b)
			h := rec.Metric("m")
			addParallel(b, procs, func(int) *Handle { return h })
		})
	}
	b.Run("goroutines=2/handles=2", func(b *testing.B) {
		one, _ := quiet(b)
		two, _ := quiet(b)
		hs := []*Handle{one.Metric("m"), two.Metric("m")}
		addParallel(b, 2, func(i int) *Handle { return hs[i] })
	})
}

// BenchmarkLocal_AddInt is the hot loop: a Local for each goroutine.
func BenchmarkLocal_AddInt(b *testing.B) {
	vs := lognormal(1<<14, 1)
	for _, procs := range []int{1, 2} {
		b.Run(fmt.Sprintf("goroutines=%d", procs), func(b *testing.B) {
			var locals []*Local
			rec, _ := quiet(b)
			for range procs {
				l := rec.Metric("m").Local()
				for _, v := range vs { // warm
					l.AddInt(v)
				}
				locals = append(locals, l)
			}
			b.ReportAllocs()
			b.ResetTimer()
			done := make(chan struct{})
			for _, l := range locals {
				go func() {
					for i := 0; i < b.N/procs; i++ {
						l.AddInt(vs[i&(1<<14-1)])
					}
					l.Close()
					done <- struct{}{}
				}()
			}
			for range procs {
				<-done
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "values/s")
		})
	}
}

func addParallel(b *testing.B, procs int, handle func(int) *Handle) {
	vs := lognormal(1<<14, 1)
	for i := range procs {
		handle(i).AddInts(vs) // warm
	}
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan struct{})
	for p := range procs {
		go func() {
			h := handle(p)
			for i := 0; i < b.N/procs; i++ {
				h.AddInt(vs[i&(1<<14-1)])
			}
			done <- struct{}{}
		}()
	}
	for range procs {
		<-done
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "values/s")
}

func BenchmarkHandle_AddInts(b *testing.B) {
	rec, _ := quiet(b)
	h := rec.Metric("m")
	vs := lognormal(1024, 1)
	b.ReportAllocs()
	for b.Loop() {
		h.AddInts(vs)
	}
	b.ReportMetric(1024*float64(b.N)/b.Elapsed().Seconds(), "values/s")
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/1024, "ns/value")
}

func BenchmarkMedianTracker_AddValue(b *testing.B) {
	for _, nodes := range []int{1, 1000, 100_000} {
		for _, procs := range []int{1, 2} {
			b.Run(fmt.Sprintf("nodes=%d/goroutines=%d", nodes, procs), func(b *testing.B) {
				_, tr := quiet(b)
				ids := make([]string, nodes)
				for i := range ids {
					ids[i] = fmt.Sprintf("host-%06d.rack-%02d.example", i, i%40)
				}
				vs := lognormal(1<<14, 1)
				for i := range max(len(vs), 4*nodes) {
					tr.AddValue(ids[i%nodes], vs[i&(1<<14-1)])
				}
				b.ReportAllocs()
				b.ResetTimer()
				done := make(chan struct{})
				for p := range procs {
					go func() {
						at := p * nodes / procs
						for i := 0; i < b.N/procs; i++ {
							tr.AddValue(ids[at], vs[i&(1<<14-1)])
							if at += 7919; at >= nodes {
								at %= nodes
							}
						}
						done <- struct{}{}
					}()
				}
				for range procs {
					<-done
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "values/s")
			})
		}
	}
}

// BenchmarkCollect is what the clock pays at the end of a bucket: to drain and
// encode every node, with 1000 values each.
func BenchmarkCollect(b *testing.B) {
	for _, nodes := range []int{1, 1000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			_, tr := quiet(b)
			tr.client.cluster.precision = 7
			vs := lognormal(1000, 1)
			total := 0
			for b.Loop() {
				b.StopTimer()
				for n := range nodes {
					for _, v := range vs {
						tr.AddValue(fmt.Sprint("n", n), v)
					}
				}
				b.StartTimer()
				out := newDeltas(&tr.account)
				tr.drain(0, out.emit)
				for _, d := range out.list {
					total += len(d.data)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(nodes), "ns/sketch")
			b.ReportMetric(float64(total)/float64(b.N)/float64(nodes), "B/sketch")
		})
	}
}

// BenchmarkFlush is a whole round trip of one sketch, without a network.
func BenchmarkFlush(b *testing.B) {
	c, _, _ := newTest(b, Options{})
	defer closeNow(b, c)
	h := c.Recorder("n", RecorderOptions{}).Metric("m")
	vs := lognormal(1000, 1)
	b.ReportAllocs()
	for b.Loop() {
		h.AddInts(vs)
		if err := c.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdleMemory reports what a client keeps for a (metric, node): while
// it counts, with so many values in each bucket, and when nothing has come for
// a bucket.
func BenchmarkIdleMemory(b *testing.B) {
	const nodes = 10_000
	for _, values := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("tracker/values=%d", values), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				_, tr := quiet(b)
				vs := lognormal(values, 1)
				for i := range nodes {
					id := fmt.Sprintf("host-%06d", i)
					for _, v := range vs {
						tr.AddValue(id, v)
					}
				}
				b.ReportMetric(float64(heap()-before)/nodes, "B/active")
				drop := func(start int64) {
					out := newDeltas(&tr.account)
					tr.drain(start, out.emit)
				}
				drop(0)
				b.ReportMetric(float64(heap()-before)/nodes, "B/drained")
				drop(10)
				b.ReportMetric(float64(heap()-before)/nodes, "B/idle")
				drop(10 + 2*forgetAfter)
				b.ReportMetric(float64(heap()-before)/nodes, "B/forgotten")
				runtime.KeepAlive(tr)
			}
		})
	}
	b.Run("recorder", func(b *testing.B) {
		for b.Loop() {
			c, _, _ := newTest(b, Options{})
			before := heap()
			hs := make([]*Handle, nodes)
			for i := range hs {
				hs[i] = c.Recorder(fmt.Sprintf("host-%06d", i), RecorderOptions{}).Metric("m")
			}
			b.ReportMetric(float64(heap()-before)/nodes, "B/idle")
			closeNow(b, c)
			runtime.KeepAlive(hs)
		}
	})
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkCompress measures gzip on batches as they go out: sketches are
// dense already, but names repeat.
func BenchmarkCompress(b *testing.B) {
	for _, nodes := range []int{1, 10, 1000} {
		for _, values := range []int{10, 100, 1000} {
			for _, metrics := range []int{1, 10} {
				b.Run(fmt.Sprintf("nodes=%d/metrics=%d/values=%d", nodes, metrics, values), func(b *testing.B) {
					message := proto.Message(batchOf(nodes, metrics, values))
					raw, err := proto.Marshal(message)
					if err != nil {
						b.Fatal(err)
					}
					var out bytes.Buffer
					z := gzip.NewWriter(&out)
					for b.Loop() {
						out.Reset()
						z.Reset(&out)
						z.Write(raw)
						z.Close()
					}
					b.SetBytes(int64(len(raw)))
					b.ReportMetric(float64(len(raw))/float64(nodes*metrics), "B/plain")
					b.ReportMetric(float64(out.Len())/float64(nodes*metrics), "B/gzip")
				})
			}
		}
	}
}

func batchOf(nodes, metrics, values int) *dmtv1.IngestRequest {
	m := &dmtv1.Batch{Producer: make([]byte, 16), Seq: 1000, SeenMs: 1_790_000_000_000, ClusterId: "0123456789abcdef"}
	for i := range nodes {
		for k := range metrics {
			var s sketch.Sketch
			for _, v := range lognormal(values, uint64(i*metrics+k)) {
				s.AddInt(v)
			}
			s.Coarsen(7)
			data, _ := s.MarshalBinary()
			m.Entries = append(m.Entries, &dmtv1.Entry{
				Metric: fmt.Sprintf(`http_request_latency_us{route="/api/v%d"}`, k),
				Node:   fmt.Sprintf("web-%04d.eu-west-1.example.com", i), Start: 1_790_000_000, Sketch: data,
			})
		}
	}
	return &dmtv1.IngestRequest{Batches: []*dmtv1.Batch{m}}
}
