package storage

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// benchSketches are sketches of 1000 lognormal values each (median 20,000,
// sigma 1), in microseconds.
var benchSketches = sync.OnceValue(func() [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([][]byte, 200)
	for i := range out {
		s := sketch.New(testPrecision)
		for range 1000 {
			s.AddInt(int64(20_000 * math.Exp(random.NormFloat64())))
		}
		out[i], _ = s.MarshalBinary()
	}
	return out
})

// benchFeed builds the entries of whole buckets: one entry per batch.
type benchFeed struct {
	nodes []string
	index uint64
	size  int // sketches per batch
}

func newFeed(nodes int) *benchFeed {
	f := &benchFeed{index: 1, size: 250}
	for n := range nodes {
		f.nodes = append(f.nodes, fmt.Sprintf("node-%06d", n))
	}
	return f
}

// bucket returns one sketch per node for the bucket at start.
func (f *benchFeed) bucket(start int64) []*Entry {
	sketches := benchSketches()
	var out []*Entry
	for at := 0; at < len(f.nodes); at += f.size {
		f.index++
		b := Batch{Producer: producerID(at), Seq: uint64(start/10) + 1, Hash: f.index}
		for n := at; n < min(at+f.size, len(f.nodes)); n++ {
			b.Deltas = append(b.Deltas, Delta{Metric: "latency_us", Node: f.nodes[n], Start: start, Sketch: sketches[(n+int(start))%len(sketches)], Count: 1000})
		}
		out = append(out, batches(f.index, 0, b))
	}
	return out
}

// benchDB returns a flushed DB of nodes x buckets.
func benchDB(b *testing.B, nodes, buckets int) (*DB, *benchFeed) {
	b.Helper()
	db := newDB(b)
	f := newFeed(nodes)
	for i := range buckets {
		for _, e := range f.bucket(int64(i) * 10) {
			mustApply(b, db, e)
		}
		if current, _ := db.HeadBytes(); current > 32<<20 {
			mustFlush(b, db)
		}
	}
	mustFlush(b, db)
	return db, f
}

func BenchmarkApply(b *testing.B) {
	for _, nodes := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			db := newDB(b)
			f := newFeed(nodes)
			n, start := 0, int64(0)
			for b.Loop() {
				b.StopTimer()
				entries := f.bucket(start)
				start += 10
				if current, _ := db.HeadBytes(); current > 128<<20 {
					b.Logf("head dropped: %d bytes", current)
					db.current = newHead()
				}
				b.StartTimer()
				for _, e := range entries {
					mustApply(b, db, e)
				}
				n += nodes
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "sketches/s")
		})
	}
}

func BenchmarkFlush(b *testing.B) {
	for _, nodes := range []int{1000, 10_000} {
		for _, buckets := range []int{1, 6} {
			b.Run(fmt.Sprintf("nodes=%d/buckets=%d", nodes, buckets), func(b *testing.B) {
				db, f := benchDB(b, nodes, 1)
				n, start := 0, int64(10)
				size := db.used(b)
				for b.Loop() {
					b.StopTimer()
					for range buckets {
						for _, e := range f.bucket(start) {
							mustApply(b, db, e)
						}
						start += 10
					}
					b.StartTimer()
					mustFlush(b, db)
					n += nodes * buckets
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "sketches/s")
				b.ReportMetric(float64(db.used(b)-size)/float64(n), "B/sketch")
			})
		}
	}
}

// used returns the bytes of the file that hold something.
func (db *DB) used(b *testing.B) int64 {
	b.Helper()
	_, _, size, err := db.OpenStream(ctx)
	if err != nil {
		b.Fatal(err)
	}
	for s := range db.streams {
		_ = s.Close()
		break
	}
	return size - db.FreeBytes()
}

func BenchmarkQuery(b *testing.B) {
	nodes := 1000
	hour, day := 360, 8640
	db, _ := benchDB(b, nodes, hour)
	small, _ := benchDB(b, 10, day)
	run := func(name string, db *DB, q window.Query) {
		b.Run(name, func(b *testing.B) {
			q := ask(b, q)
			var a window.Answer
			for b.Loop() {
				var err error
				if a, err = db.Query(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(a.BucketsMerged), "rows")
			b.ReportMetric(float64(len(a.Results)), "results")
		})
	}
	m := window.Metric("latency_us")
	run("fleet/nodes=1000/1h", db, window.Query{Metric: m})
	run("fleet/nodes=1000/1h/step=1m", db, window.Query{Metric: m, Step: 60e9})
	run("node/nodes=1000/1h", db, window.Query{Metric: m, Nodes: []string{"node-000500"}})
	run("glob100/nodes=1000/1h", db, window.Query{Metric: m, Nodes: []string{"node-0005*"}})
	run("bynode/nodes=1000/1h", db, window.Query{Metric: m, ByNode: true})
	run("fleet/nodes=10/24h", small, window.Query{Metric: m})
	run("node/nodes=10/24h", small, window.Query{Metric: m, Nodes: []string{"node-000005"}})
	run("bynode/nodes=10/24h", small, window.Query{Metric: m, ByNode: true})
}

// A fleet query while the bucket of the moment is only in the head.
func BenchmarkQueryHead(b *testing.B) {
	db := newDB(b)
	f := newFeed(10_000)
	for _, e := range f.bucket(0) {
		mustApply(b, db, e)
	}
	q := ask(b, window.Query{Metric: "latency_us"})
	for b.Loop() {
		if _, err := db.Query(ctx, q); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReopen(b *testing.B) {
	db, _ := benchDB(b, 10_000, 30)
	path := db.path
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		again := mustOpen(b, path, manual(b))
		if err := again.Kill(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyFile(b *testing.B) {
	db, _ := benchDB(b, 10_000, 30)
	path := filepath.Join(b.TempDir(), "verify.db")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	n, err := db.Stream(ctx, out)
	if err != nil {
		b.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(n)
	for b.Loop() {
		if _, err := VerifyFile(path); err != nil {
			b.Fatal(err)
		}
	}
}

// What the head saves: the same entries, each in a bbolt transaction of its own,
// node rows only, against applied and flushed with everything.
func BenchmarkDirectAgainstHead(b *testing.B) {
	for _, size := range []int{10, 250} {
		b.Run(fmt.Sprintf("direct/batch=%d", size), func(b *testing.B) { benchDirect(b, size) })
		b.Run(fmt.Sprintf("head/batch=%d", size), func(b *testing.B) { benchHead(b, size) })
	}
}

func benchDirect(b *testing.B, size int) {
	const nodes = 10_000
	gen, err := openGeneration(filepath.Join(b.TempDir(), "direct.db"), os.OpenFile)
	if err != nil {
		b.Fatal(err)
	}
	defer gen.retire()
	f := newFeed(nodes)
	f.size = size
	n, start := 0, int64(0)
	for b.Loop() {
		for _, e := range f.bucket(start) {
			err := gen.bolt.Update(func(tx *bbolt.Tx) error {
				w := writer{tx: tx}
				for _, d := range e.Batches[0].Deltas {
					k := nodeKey{d.Start, 0, uint32(n % nodes)}
					w.putValue("nodes/10s", k.append(nil), d.Sketch)
					n++
				}
				return w.err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		start += 10
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "sketches/s")
}

func benchHead(b *testing.B, size int) {
	const nodes = 10_000
	db := newDB(b)
	f := newFeed(nodes)
	f.size = size
	n, start := 0, int64(0)
	for b.Loop() {
		for _, e := range f.bucket(start) {
			mustApply(b, db, e)
		}
		start += 10
		n += nodes
		if current, limit := db.HeadBytes(); current > limit {
			mustFlush(b, db)
		}
	}
	mustFlush(b, db)
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "sketches/s")
}

// Memory that stays after everything is flushed: names and producers, one
// producer per node.
func BenchmarkMemory(b *testing.B) {
	const nodes = 100_000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		db := newDB(b)
		small := encode(1)
		for seq := range uint64(10) {
			for n := range nodes {
				d := Delta{Metric: "m", Node: fmt.Sprintf("node-%06d", n), Start: int64(seq) * 10, Sketch: small, Count: 1}
				mustApply(b, db, batches(2+seq*nodes+uint64(n), 0, batch(n, seq+1, 0, d)))
			}
			mustFlush(b, db)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/nodes, "B/node")
		b.ReportMetric(float64(len(db.producers.append(nil, 0)))/nodes, "stored-B/producer")
		runtime.KeepAlive(db)
	}
	total := 0
	for _, s := range benchSketches() {
		total += len(s)
	}
	b.ReportMetric(float64(total)/float64(len(benchSketches())), "B/lognormal-sketch")
}
