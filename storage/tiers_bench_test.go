package storage

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// tierDB returns a flushed DB of nodes x buckets from time 0 on, with the log
// clock of its data when sealed, so that flushes roll up as they go.
func tierDB(b *testing.B, nodes, buckets int, sealed bool) *DB {
	b.Helper()
	db := newDB(b)
	f := newFeed(nodes)
	tick := func(clockMs int64) {
		f.index++
		mustApply(b, db, &Entry{Index: f.index, Term: 1, ClockMs: clockMs, Kind: KindTick})
	}
	for i := range buckets {
		for _, e := range f.bucket(int64(i) * 10) {
			mustApply(b, db, e)
		}
		if sealed {
			tick(int64(i+1) * 10_000)
		}
		if current, _ := db.HeadBytes(); current > 16<<20 {
			mustFlush(b, db)
		}
	}
	mustFlush(b, db)
	if sealed {
		tick(int64(buckets)*10_000 + 31_000)
		for db.durable.state.clockMs < db.ClockMs() || db.durable.backlog {
			mustFlush(b, db)
		}
	}
	return db
}

// Spans that begin and end in the middle of everything, by the rows of ten seconds
// alone and by tiers.
func BenchmarkQueryTiers(b *testing.B) {
	span := func(from, length time.Duration) window.Span {
		return window.Between(time.Unix(0, 0).Add(from), time.Unix(0, 0).Add(from+length))
	}
	hour := span(3*time.Minute+20*time.Second, time.Hour)
	day := span(33*time.Minute+20*time.Second, 24*time.Hour)
	six := span(33*time.Minute, 6*time.Hour)
	m := window.Metric("latency_us")
	for _, sealed := range []bool{false, true} {
		run := func(db *DB, name string, q window.Query) {
			b.Run(fmt.Sprintf("%s/sealed=%v", name, sealed), func(b *testing.B) {
				q := ask(b, q)
				var a window.Answer
				for b.Loop() {
					var err error
					if a, err = db.Query(ctx, q); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(a.BucketsMerged), "rows")
				b.ReportMetric(float64(len(a.Results)), "results")
			})
		}
		b.Run("", func(b *testing.B) {
			db := tierDB(b, 1000, 2*360, sealed)
			run(db, "fleet/nodes=1000/1h", window.Query{Metric: m, Span: hour})
			run(db, "node/nodes=1000/1h", window.Query{Metric: m, Span: hour, Nodes: []string{"node-000500"}})
			run(db, "glob100/nodes=1000/1h", window.Query{Metric: m, Span: hour, Nodes: []string{"node-0005*"}})
			run(db, "bynode/nodes=1000/1h", window.Query{Metric: m, Span: hour, ByNode: true})
			_ = db.Kill()
			db = tierDB(b, 100, 26*360, sealed)
			run(db, "fleet/nodes=100/24h", window.Query{Metric: m, Span: day})
			run(db, "node/nodes=100/24h", window.Query{Metric: m, Span: day, Nodes: []string{"node-000050"}})
			run(db, "fleet/nodes=100/6h/step=1m", window.Query{Metric: m, Span: six, Step: time.Minute})
			_ = db.Kill()
		})
	}
}

// What rolling up costs: an hour of buckets, flushed every minute, with and
// without the log clock that seals them.
func BenchmarkFlushTiers(b *testing.B) {
	const nodes, buckets = 1000, 360
	for _, sealed := range []bool{false, true} {
		b.Run(fmt.Sprintf("nodes=%d/sealed=%v", nodes, sealed), func(b *testing.B) {
			var longest time.Duration
			var taken time.Duration
			n := 0
			for b.Loop() {
				b.StopTimer()
				db := newDB(b)
				f := newFeed(nodes)
				for i := range buckets {
					for _, e := range f.bucket(int64(i) * 10) {
						if sealed {
							e.ClockMs = int64(i+1) * 10_000
						}
						mustApply(b, db, e)
					}
					if i%6 < 5 {
						continue
					}
					began := time.Now()
					b.StartTimer()
					mustFlush(b, db)
					b.StopTimer()
					took := time.Since(began)
					longest, taken = max(longest, took), taken+took
				}
				n += nodes * buckets
				_ = db.Kill()
				b.StartTimer()
			}
			b.ReportMetric(float64(n)/taken.Seconds(), "sketches/s")
			b.ReportMetric(longest.Seconds()*1000, "longest-ms")
		})
	}
}

// Late data: an hour that is sealed in four tiers gets one more value per bucket
// and node.
func BenchmarkFlushLate(b *testing.B) {
	const nodes, buckets = 100, 360
	db := tierDB(b, nodes, buckets, true)
	f := newFeed(nodes)
	f.index, _ = db.Applied()
	n := 0
	for b.Loop() {
		b.StopTimer()
		for i := range buckets {
			f.index++
			batch := Batch{Producer: producerID(int(f.index)), Seq: 1, SeenMs: db.ClockMs(), Hash: 1}
			for _, node := range f.nodes {
				batch.Deltas = append(batch.Deltas, newDelta("latency_us", node, int64(i)*10, int64(n)))
			}
			mustApply(b, db, batches(f.index, 0, batch))
		}
		b.StartTimer()
		mustFlush(b, db)
		n += nodes * buckets
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "sketches/s")
}
