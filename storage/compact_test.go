package storage

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
)

// expired returns a DB whose file is mostly empty: a day of data of 40 nodes, of
// which retention has left the last minutes.
func expired(t *testing.T) *DB {
	t.Helper()
	db := mustOpen(t, t.TempDir()+"/state.db", manual(t))
	t.Cleanup(func() { _ = db.Kill() })
	tiers := window.Tiers{{Width: 10, KeepNode: 600, KeepFleet: 600}, {Width: 3600, KeepNode: 7200, KeepFleet: 7200}}
	mustApply(t, db, &Entry{Index: 1, Term: 1, ClockMs: 1000, Kind: KindInit, Cluster: &Cluster{ID: "test", Precision: testPrecision, Tiers: tiers}})
	index := uint64(1)
	for hour := range 12 {
		for bucket := range 360 {
			index++
			at := int64(hour*3600 + bucket*10)
			var ds []Delta
			for n := range 40 {
				ds = append(ds, newDelta("m", fmt.Sprintf("node-%d", n), at, int64(n), at, at*at))
			}
			mustApply(t, db, batches(index, at*1000+10_000, batch(0, index-1, 0, ds...)))
		}
		mustFlush(t, db)
	}
	return db
}

func TestExpiry_FreedPagesAreUsedAgain(t *testing.T) {
	db := expired(t)
	size, _ := db.gen.bytes()
	if rows := int64(12 * 3600 / 10 * 40); size > rows*30 {
		t.Errorf("%d bytes for %d rows that have come and mostly gone", size, rows)
	}
	if n := countOf(t, db); n != 3*40*360*2 {
		t.Errorf("%d values are left, want the two hours that are kept", n)
	}
	if infos, _, err := db.Metrics(ctx); err != nil || infos[0].Count != 12*360*40*3 || infos[0].Buckets != 12*360 {
		t.Errorf("Metrics = %+v, %v, want everything that was ever counted", infos, err)
	}
}

func TestOpen_CompactsWhatIsMostlyEmpty(t *testing.T) {
	db := expired(t)
	// What retention has left, and then nothing of it.
	mustApply(t, db, &Entry{Index: 1 << 20, Term: 1, ClockMs: 100 * 3600_000, Kind: KindAcceptClock})
	mustFlush(t, db)
	want := hashOf(t, db)
	before, _ := db.gen.bytes()
	path := db.path
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+compactSuffix, []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o := manual(t)
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	again := mustOpen(t, path, o)
	defer again.Kill()
	if size, _ := again.gen.bytes(); size*2 > before || !strings.Contains(log.String(), "msg=compacted") {
		t.Errorf("%d bytes after Open, %d before; log %q", size, before, &log)
	}
	if got := hashOf(t, again); got != want {
		t.Error("the content is another one after compacting")
	}
	if _, err := os.Stat(path + compactSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
	if _, err := Open(path, manual(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("Open of a compacted file that is in use = %v, want ErrLocked", err)
	}
	mustApply(t, again, batches(1<<21, 0, batch(7, 1, 100*3600_000, newDelta("m", "a", 100*3600-10, 1))))
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyFile(path); err != nil {
		t.Errorf("VerifyFile = %v", err)
	}
}

func TestCompact_WhileReadersGoOn(t *testing.T) {
	db := expired(t)
	want := hashOf(t, db)
	v, err := db.begin(nil, nil) // a reader of the old file
	if err != nil {
		t.Fatal(err)
	}
	before, _ := db.gen.bytes()
	if err := db.Compact(ctx); err != nil {
		t.Fatalf("Compact = %v", err)
	}
	if size, _ := db.gen.bytes(); size >= before {
		t.Errorf("%d bytes after Compact, %d before", size, before)
	}
	rows := 0
	if err := v.walk(ctx, func(Row) error { rows++; return nil }); err != nil || rows == 0 {
		t.Errorf("the reader of the old file: %d rows, %v", rows, err)
	}
	v.close()
	if hashOf(t, db) != want {
		t.Error("the content is another one after Compact")
	}
	index, _ := db.Applied()
	mustApply(t, db, batches(index+1, 0, batch(9, 1, db.ClockMs(), newDelta("m", "late", db.ClockMs()/1000-20, 5))))
	mustFlush(t, db)
	if again := reopen(t, db); hashOf(t, again) != hashOf(t, db) {
		t.Error("what was flushed after Compact is not in the file")
	}
}

// The entries of a view may be older than its file, whose horizons then count.
func TestView_OfALaterFlushHasItsHorizons(t *testing.T) {
	db := mustOpen(t, t.TempDir()+"/state.db", manual(t))
	t.Cleanup(func() { _ = db.Kill() })
	tiers := window.Tiers{{Width: 10, KeepNode: 60, KeepFleet: 60}, {Width: 60, KeepNode: 600, KeepFleet: 600}}
	mustApply(t, db, &Entry{Index: 1, Term: 1, ClockMs: 1000, Kind: KindInit, Cluster: &Cluster{ID: "test", Precision: testPrecision, Tiers: tiers}})
	mustApply(t, db, batches(2, 1000, batch(0, 1, 0, newDelta("m", "a", 0, 1), newDelta("m", "a", 50, 2))))
	q := window.Query{Metric: "m", Nodes: []string{"a"}, Span: window.Span{From: 50, To: 60}}
	if a := mustQuery(t, db, q); a.Count() != 1 || a.Span != q.Span {
		t.Errorf("%d values in %v, want the one of the bucket", a.Count(), a.Span)
	}
	db.onView = once(func() {
		mustApply(t, db, &Entry{Index: 3, Term: 1, ClockMs: 200_000, Kind: KindTick})
		mustFlush(t, db)
	})
	want := window.Span{From: 0, To: 60}
	if a := mustQuery(t, db, q); a.AppliedIndex != 3 || a.Count() != 2 || a.Span != want || a.Results[0].Span != want {
		t.Errorf("index %d, %d values in %v, want 3 with the whole minute that is kept", a.AppliedIndex, a.Count(), a.Span)
	}
}
