package server_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestRefuse_Ingest(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 1)
	c := dial(t, cluster.Addr(0))
	tracker := c.tracker()
	seq := uint64(0)
	send := func(change func(b *dmtv1.Batch, e *dmtv1.Entry)) refusal {
		t.Helper()
		seq++
		good, bad := entry(t, "m", "a", 1, 2, 3), entry(t, "m", "b", 4)
		b := batchOf(1, seq, good, bad)
		change(b, bad)
		_, err := tracker.Ingest(context.Background(), ingest(batchOf(2, seq, entry(t, "m", "c", 5)), b))
		return refusalOf(err)
	}
	f := func(what string, change func(b *dmtv1.Batch, e *dmtv1.Entry), want string) {
		t.Helper()
		if got := send(change).String(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if n := counted(t, cluster.Server(0)); n != 0 {
			t.Fatalf("%s: %d values counted, want none", what, n)
		}
	}
	const bad, at = "invalid_argument ", " batches[1].entries[1]."
	whole := sketchOf(t, sketch.DefaultPrecision, 1, 5, 5, 70, 10_000, -12)
	f("no metric", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Metric = "" }, bad+"empty"+at+"metric")
	f("bad metric", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Metric = "a b" }, bad+"bad_metric"+at+"metric")
	f("no node", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Node = "" }, bad+"empty"+at+"node")
	f("long node", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Node = strings.Repeat("n", 257) }, bad+"too_long"+at+"node")
	f("control in node", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Node = "a\x1b[2J" }, bad+"bad_node"+at+"node")
	f("no sketch", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = nil }, bad+"corrupt_sketch"+at+"sketch")
	f("empty sketch", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = sketchOf(t, sketch.DefaultPrecision) }, bad+"empty"+at+"sketch")
	f("oversized sketch", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = make([]byte, sketch.MaxEncodedSize+1) }, bad+"too_large"+at+"sketch")
	f("bytes behind the sketch", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = append(slices.Clone(whole), 0) }, bad+"corrupt_sketch"+at+"sketch")
	for n := range whole {
		f(fmt.Sprintf("sketch cut at %d", n), func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = whole[:n] }, bad+"corrupt_sketch"+at+"sketch")
	}
	for i := range 8 * len(whole) {
		flipped := slices.Clone(whole)
		flipped[i/8] ^= 1 << (i % 8)
		f(fmt.Sprintf("sketch with bit %d flipped", i), func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = flipped }, bad+"corrupt_sketch"+at+"sketch")
	}
	f("other precision", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = sketchOf(t, 6, 1) }, "failed_precondition precision"+at+"sketch")
	f("too many values", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Sketch = manyTimes(t, sketch.MaxCount+1) }, bad+"range"+at+"sketch")
	f("start inside a bucket", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Start++ }, bad+"range"+at+"start")
	f("start in nanoseconds", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Start *= 1e9 }, bad+"range"+at+"start")
	f("start at the end of time", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Start = math.MaxInt64 }, bad+"range"+at+"start")
	f("start at its beginning", func(_ *dmtv1.Batch, e *dmtv1.Entry) { e.Start = math.MinInt64 }, bad+"range"+at+"start")
	f("short producer", func(b *dmtv1.Batch, _ *dmtv1.Entry) { b.Producer = b.Producer[1:] }, bad+"range batches[1].producer")
	f("no sequence", func(b *dmtv1.Batch, _ *dmtv1.Entry) { b.Seq = 0 }, bad+"range batches[1].seq")
	f("other cluster", func(b *dmtv1.Batch, _ *dmtv1.Entry) { b.ClusterId = "other" }, "failed_precondition cluster_id batches[1].cluster_id")
	f("many entries", func(b *dmtv1.Batch, e *dmtv1.Entry) {
		b.Entries = slices.Repeat([]*dmtv1.Entry{e}, api.MaxBatchEntries+1)
	}, bad+"too_many_entries batches[1].entries")
	_, err := tracker.Ingest(context.Background(), ingest())
	if got, want := refusalOf(err).String(), bad+"empty batches"; got != want {
		t.Errorf("no batch: %s, want %s", got, want)
	}
	_, err = tracker.Ingest(context.Background(), ingest(slices.Repeat([]*dmtv1.Batch{batchOf(1, 1)}, api.MaxBatchesPerRequest+1)...))
	if got, want := refusalOf(err).String(), bad+"too_many_entries batches"; got != want {
		t.Errorf("65 batches: %s, want %s", got, want)
	}
	if n := c.dials.Load(); n != 1 {
		t.Errorf("%d connections were needed, want 1: a refusal closed one", n)
	}
}

func manyTimes(t *testing.T, n uint64) []byte {
	t.Helper()
	s := sketch.New(sketch.DefaultPrecision)
	s.AddIntN(7, n)
	b, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRefuse_SameNameOtherContent(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 1)
	tracker := dial(t, cluster.Addr(0)).tracker()
	f := func(b *dmtv1.Batch, want string) {
		t.Helper()
		res, err := tracker.Ingest(context.Background(), ingest(b))
		got := refusalOf(err).String()
		if err == nil {
			r := res.Msg.Results[0]
			got = fmt.Sprint(r.Status, " ", r.Accepted)
		}
		if got != want {
			t.Errorf("Ingest(%d) = %s, want %s", b.Seq, got, want)
		}
	}
	f(batchOf(1, 1, entry(t, "m", "a", 1, 2)), "APPLIED 1")
	f(batchOf(1, 1, entry(t, "m", "a", 1, 2)), "DUPLICATE 1")
	f(batchOf(1, 1, entry(t, "m", "a", 1, 3)), "already_exists conflict batches[0]")
	f(batchOf(1, 1, entry(t, "m", "b", 1, 2)), "already_exists conflict batches[0]")
	f(batchOf(1, 1), "already_exists conflict batches[0]")
	f(batchOf(2, 1, entry(t, "m", "a", 1, 3)), "APPLIED 1")
	f(batchOf(1, 66, entry(t, "m", "a", 9)), "failed_precondition window batches[0]")
	f(batchOf(1, 65, entry(t, "m", "a", 9)), "APPLIED 1")
	f(batchOf(1, 2), "APPLIED 0") // settles its number
	old := batchOf(3, 1, entry(t, "m", "a", 9))
	old.SeenMs -= (8 * 24 * time.Hour).Milliseconds()
	f(old, "failed_precondition too_old_to_deduplicate batches[0]")
	if n := counted(t, cluster.Server(0)); n != 5 {
		t.Errorf("%d values counted, want 5", n)
	}
}

func TestRefuse_TimesOneByOne(t *testing.T) {
	t.Parallel()
	clock := newClock()
	options := clock.options()
	options.Raft.Tiers = window.StandardTiers()
	cluster := clustertest.Start(t, 1, options)
	tracker := dial(t, cluster.Addr(0)).tracker()
	now := clock.now().Unix() / 10 * 10
	at := func(start int64) *dmtv1.Entry {
		e := entry(t, "m", "a", 1)
		e.Start = start
		return e
	}
	const year = 365 * 24 * 3600
	b := batchOf(1, 1, at(now), at(now+700), at(now-3*year), at(now+500), at(now-year), at(now*1000))
	b.Entries = b.Entries[:5]
	send := func() *dmtv1.BatchResult {
		t.Helper()
		res, err := tracker.Ingest(context.Background(), ingest(b))
		if err != nil {
			t.Fatalf("Ingest: %v", err)
		}
		return res.Msg.Results[0]
	}
	r := send()
	var got []string
	for _, e := range r.Refused {
		got = append(got, fmt.Sprint(e.Entry, " ", e.Reason))
	}
	if want := []string{"1 too_new", "2 too_old"}; !slices.Equal(got, want) || r.Accepted != 3 || r.RefusedCount != 2 {
		t.Errorf("accepted %d, refused %d: %v; want 3, 2: %v", r.Accepted, r.RefusedCount, got, want)
	}
	clock.advance(5 * time.Minute)
	if r := send(); r.Status != dmtv1.BatchResult_DUPLICATE || r.Accepted != 3 || r.RefusedCount != 2 {
		t.Errorf("retry: %v, want DUPLICATE of 3 accepted and 2 refused", r)
	}
	if n := counted(t, cluster.Server(0)); n != 3 {
		t.Errorf("%d values counted, want 3", n)
	}
}

func TestRefuse_ThroughAFollower(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3, clustertest.Options{Raft: raftfsm.Options{Precision: 6}})
	c := dial(t, cluster.Addr(cluster.Follower()))
	e := entry(t, "m", "a", 1)
	_, err := c.tracker().Ingest(context.Background(), ingest(batchOf(1, 1, e)))
	if got, want := refusalOf(err).String(), "failed_precondition precision batches[0].entries[0].sketch"; got != want {
		t.Errorf("Ingest = %s, want %s", got, want)
	}
	if d, ok := api.FromError(err); !ok || d.GetLimit() != "6" {
		t.Errorf("Ingest says %v, want limit 6", d)
	}
	e.Sketch = sketchOf(t, 6, 1)
	if _, err := c.tracker().Ingest(context.Background(), ingest(batchOf(1, 1, e))); err != nil {
		t.Errorf("Ingest of the right precision: %v", err)
	}
}
