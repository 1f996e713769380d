package storage

import (
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
)

// once returns a hook that runs fn at its first call.
func once(fn func()) func() {
	called := false
	return func() {
		if !called {
			called = true
			fn()
		}
	}
}

// A flush that commits between the steps of taking a view: its data are seen
// once, neither lost nor both in the head and in the file.
func TestView_FlushBetweenItsSteps(t *testing.T) {
	read := map[string]func(*testing.T, *DB) uint64{
		"together": func(t *testing.T, db *DB) uint64 {
			return mustQuery(t, db, window.Query{Metric: "m", Nodes: []string{"a"}}).Count()
		},
		"by node": func(t *testing.T, db *DB) uint64 {
			return mustQuery(t, db, window.Query{Metric: "m", ByNode: true}).Count()
		},
		"metrics": func(t *testing.T, db *DB) uint64 {
			infos, _, err := db.Metrics(ctx)
			if err != nil || len(infos) != 1 {
				t.Fatalf("Metrics = %v, %v", infos, err)
			}
			return infos[0].Count
		},
		"nodes": func(t *testing.T, db *DB) uint64 {
			infos, _, err := db.Nodes(ctx, "m")
			if err != nil || len(infos) != 1 {
				t.Fatalf("Nodes = %v, %v", infos, err)
			}
			return infos[0].Count
		},
		"fleet": func(t *testing.T, db *DB) uint64 { return mustQuery(t, db, window.Query{Metric: "m"}).Count() },
	}
	for name, read := range read {
		t.Run(name, func(t *testing.T) {
			db := newDB(t)
			mustApply(t, db, batches(2, 0, batch(0, 1, 0, newDelta("m", "a", 0, 1))))
			mustFlush(t, db)
			mustApply(t, db, batches(3, 0, batch(0, 2, 0, newDelta("m", "a", 0, 2), newDelta("m", "a", 10, 3))))
			if name != "fleet" {
				db.onView = once(func() { mustFlush(t, db) })
				if n := read(t, db); n != 3 {
					t.Errorf("%d values, want 3", n)
				}
				return
			}
			// A fleet view holds off the part of the flush that merges the
			// metric: let it begin when that is done.
			first, committed := make(chan struct{}), make(chan struct{})
			count := make(chan uint64)
			db.onView = once(func() { close(first); <-committed })
			db.onCommit = func() {
				go func() { count <- read(t, db) }()
				<-first
			}
			mustFlush(t, db)
			close(committed)
			if n := <-count; n != 3 {
				t.Errorf("%d values, want 3", n)
			}
		})
	}
}

// The same with entries that come after the heads were taken: the view shows the
// index of the file.
func TestView_LaterEntriesFlushedBetweenItsSteps(t *testing.T) {
	db := newDB(t)
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, newDelta("m", "a", 0, 1))))
	db.onView = once(func() {
		mustApply(t, db, batches(3, 0, batch(0, 2, 0, newDelta("m", "b", 0, 2), newDelta("n", "c", 0, 2))))
		mustFlush(t, db)
		mustApply(t, db, batches(4, 0, batch(0, 3, 0, newDelta("m", "d", 0, 2))))
	})
	a := mustQuery(t, db, window.Query{Metric: "m", ByNode: true})
	if a.AppliedIndex != 3 || a.Count() != 2 || len(a.Results) != 2 {
		t.Errorf("%d values of %d nodes at index %d, want 2 of 2 at 3", a.Count(), len(a.Results), a.AppliedIndex)
	}
	db.onView = once(func() { // now with producers, which are those of one index
		mustFlush(t, db)
		mustApply(t, db, batches(5, 0, batch(0, 4, 0, newDelta("m", "e", 0, 2))))
		mustFlush(t, db)
	})
	h, index, err := db.Hash(ctx)
	if err != nil || index != 5 || h != hashOf(t, db) {
		t.Errorf("Hash = %x at %d (%v), want that of index 5", h, index, err)
	}
}
