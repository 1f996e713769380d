package server

import (
	"testing"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

func TestHashEntries_NamesTheContent(t *testing.T) {
	e := func(metric, node string, start int64, sketch string) *dmtv1.Entry {
		return &dmtv1.Entry{Metric: metric, Node: node, Start: start, Sketch: []byte(sketch)}
	}
	seen := make(map[uint64]int)
	for i, entries := range [][]*dmtv1.Entry{
		{},
		{e("", "", 0, "")},
		{e("", "", 0, ""), e("", "", 0, "")},
		{e("ab", "c", 0, "")},
		{e("a", "bc", 0, "")},
		{e("a", "b", 10, "x")},
		{e("a", "b", -10, "x")},
		{e("a", "b", 10, "y")},
		{e("a", "b", 10, "x"), e("a", "c", 10, "x")},
		{e("a", "c", 10, "x"), e("a", "b", 10, "x")},
	} {
		h := hashEntries(entries)
		if before, ok := seen[h]; ok {
			t.Errorf("batches %d and %d have one hash", before, i)
		}
		seen[h] = i
	}
	// The hash is stored: it may not change between versions.
	if got, want := hashEntries([]*dmtv1.Entry{e("m", "n", 10, "sketch")}), uint64(0xed7e7951f350a970); got != want {
		t.Errorf("hash = %#x, want %#x", got, want)
	}
}

// The lowest wrong entry is named, however many cores look at the batch.
func TestCheck_NamesTheFirstWrongEntry(t *testing.T) {
	lim := boundsAt(storage.Cluster{ID: "c", Precision: 7, Tiers: window.ForeverTiers()}, 0)
	for range 20 {
		entries := make([]*dmtv1.Entry, 1000)
		for i := range entries {
			entries[i] = &dmtv1.Entry{Metric: "m", Node: "a"}
		}
		_, err := lim.check(&dmtv1.Batch{Producer: make([]byte, 16), Seq: 1, Entries: entries}, "batches[3]")
		if err == nil || err.Error() != "invalid_argument: batches[3].entries[0].sketch: sketch: corrupt encoding: too short" {
			t.Fatalf("check = %v", err)
		}
	}
}

func TestUnitHint(t *testing.T) {
	const now = 1_800_000_000
	f := func(start int64, want string) {
		t.Helper()
		if got := unitHint(start, now); got != want {
			t.Errorf("unitHint(%d) = %q, want %q", start, got, want)
		}
	}
	f(now, "")
	f(-now, "")
	f(now*1e3, "; it looks like milliseconds")
	f(now*1e6, "; it looks like microseconds")
	f(now*1e9, "; it looks like nanoseconds")
	f(1<<63-1, "")
}
