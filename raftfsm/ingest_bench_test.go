package raftfsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// benchSketch is the size of a busy node's bucket: 1000 lognormal values.
func benchSketch(b *testing.B) []byte {
	s := sketch.New(7)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		s.AddInt(int64(1000 + 300*rnd.NormFloat64()*rnd.NormFloat64()))
	}
	data, err := s.AppendBinary(nil)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// BenchmarkIngest is what clients see: calls from many goroutines, each waiting
// for its acknowledgement, durable on a quorum of members that share this
// machine.
func BenchmarkIngest(b *testing.B) {
	for _, members := range []int{1, 3} {
		for _, size := range []int{1, 250} {
			for _, callers := range []int{1, 64, 512} {
				if size > 1 && callers > 64 {
					continue
				}
				b.Run(fmt.Sprintf("members=%d/sketches=%d/callers=%d", members, size, callers), func(b *testing.B) {
					benchIngest(b, members, size, callers, lingerBytes)
				})
			}
		}
	}
}

// BenchmarkIngestAlone is BenchmarkIngest with an entry for every call: what
// sharing entries brings is the difference.
func BenchmarkIngestAlone(b *testing.B) {
	for _, callers := range []int{64, 512} {
		b.Run(fmt.Sprintf("members=3/sketches=1/callers=%d", callers), func(b *testing.B) {
			benchIngest(b, 3, 1, callers, 0)
		})
	}
}

// BenchmarkFailover is the time from the death of the leader to the next
// acknowledged write, at the default timeouts.
func BenchmarkFailover(b *testing.B) {
	c := newCluster(b, 3, nil)
	c.startAll()
	var worst time.Duration
	var sum time.Duration
	for i := range b.N {
		dead := c.leader()
		b.StopTimer()
		dead.kill()
		b.StartTimer()
		start := time.Now()
		c.ingest(testBatch(b, 1, uint64(i+1), "n", 1))
		took := time.Since(start)
		sum, worst = sum+took, max(worst, took)
		b.StopTimer()
		dead.start()
		c.ready()
		b.StartTimer()
	}
	b.ReportMetric(sum.Seconds()*1000/float64(b.N), "ms/failover")
	b.ReportMetric(worst.Seconds()*1000, "ms-worst")
}

func benchIngest(b *testing.B, members, size, callers, share int) {
	c := newCluster(b, members, func(o *Options) { o.Storage.FlushEvery = 0 })
	c.startAll()
	n := c.leader().running()
	n.prop.shareBytes = share
	data := benchSketch(b)
	before := n.raft.LastIndex()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for caller := range callers {
		wg.Go(func() {
			for seq := uint64(1); left.Add(-1) >= 0; seq++ {
				batch := storage.Batch{Seq: seq, SeenMs: 1 << 50, Hash: seq, Deltas: make([]storage.Delta, size)}
				binary.BigEndian.PutUint64(batch.Producer[:], uint64(caller))
				for i := range batch.Deltas {
					batch.Deltas[i] = storage.Delta{
						Metric: "latency_us", Node: fmt.Sprintf("node-%d-%d", caller, i),
						Start: testStart + 10*int64(seq), Sketch: data, Count: 1000,
					}
				}
				_, err := n.Ingest(context.Background(), []storage.Batch{batch})
				for errors.Is(err, ErrOverloaded) { // as a client does
					<-time.After(5 * time.Millisecond)
					_, err = n.Ingest(context.Background(), []storage.Batch{batch})
				}
				if err != nil {
					b.Errorf("ingest: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "sketches/s")
	b.ReportMetric(float64(b.N)/float64(n.raft.LastIndex()-before), "calls/entry")
	b.ReportMetric(float64(len(data)), "B/sketch")
}

// BenchmarkEntry is the cost of the log entry itself on a member.
func BenchmarkEntry(b *testing.B) {
	batch := storage.Batch{Seq: 1, Deltas: make([]storage.Delta, 500)}
	data := benchSketch(b)
	for i := range batch.Deltas {
		batch.Deltas[i] = storage.Delta{Metric: "latency_us", Node: fmt.Sprintf("node-%d", i), Start: testStart, Sketch: data, Count: 1000}
	}
	entry := encodeAll(b, 1, []storage.Batch{batch})
	b.Run("encode/sketches=500", func(b *testing.B) {
		b.SetBytes(int64(len(entry)))
		for b.Loop() {
			encodeAll(b, 1, []storage.Batch{batch})
		}
	})
	b.Run("decode/sketches=500", func(b *testing.B) {
		var names interner
		b.SetBytes(int64(len(entry)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeEntry(entry, &names); err != nil {
				b.Fatal(err)
			}
		}
	})
	overhead := float64(len(entry)-len(data)*500) / 500
	b.Logf("beside its sketch of %d bytes, a delta takes %.1f bytes", len(data), overhead)
}
