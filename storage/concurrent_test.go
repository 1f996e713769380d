package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
)

// Readers of all kinds while entries are applied, heads flushed and files
// swapped: every answer holds exactly what was applied up to its index.
func TestQuery_IsOneStateUnderLoad(t *testing.T) {
	db := newDB(t)
	const entries, nodes = 300, 20
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	var applied, done atomic.Uint64 // the greatest index acknowledged
	applied.Store(1)
	var wg sync.WaitGroup
	// Entry i counts one value per node, so count = (index-1) x nodes.
	check := func(what string, index, count uint64, before uint64) {
		if count != (index-1)*nodes {
			t.Errorf("%s at index %d counts %d, want %d", what, index, count, (index-1)*nodes)
		}
		if index < before {
			t.Errorf("%s shows index %d although %d was acknowledged before", what, index, before)
		}
		done.Add(1)
	}
	reader := func(q window.Query) {
		q = ask(t, q)
		for stop.Err() == nil {
			before := applied.Load()
			a, err := db.Query(ctx, q)
			if errors.Is(err, window.ErrUnknownMetric) {
				continue
			}
			if err != nil {
				t.Errorf("Query: %v", err)
				return
			}
			check(fmt.Sprintf("%v", q), a.AppliedIndex, a.Count(), before)
		}
	}
	for _, q := range []window.Query{
		{Metric: "m"}, {Metric: "m"}, {Metric: "m", ByNode: true}, {Metric: "m", Nodes: []string{"n*"}}, {Metric: "m", Step: 10e9},
	} {
		wg.Go(func() { reader(q) })
	}
	wg.Go(func() {
		for stop.Err() == nil {
			before := applied.Load()
			infos, index, err := db.Metrics(ctx)
			if err != nil {
				t.Errorf("Metrics: %v", err)
				return
			}
			if len(infos) == 1 {
				check("Metrics", index, infos[0].Count, before)
			}
		}
	})
	wg.Go(func() {
		for stop.Err() == nil {
			if err := db.Flush(ctx); err != nil {
				t.Errorf("Flush: %v", err)
				return
			}
		}
	})
	for i := uint64(2); i <= entries; i++ {
		var ds []Delta
		for n := range nodes {
			ds = append(ds, newDelta("m", fmt.Sprintf("n%d", n), int64(i/20)*10, int64(i)))
		}
		mustApply(t, db, batches(i, int64(i), batch(0, i-1, 0, ds...)))
		applied.Store(i)
	}
	for done.Load() < 50 {
		if t.Failed() {
			break
		}
	}
	cancel()
	wg.Wait()
	if n := countOf(t, db); n != (entries-1)*nodes {
		t.Errorf("%d values at the end, want %d", n, (entries-1)*nodes)
	}
}

func TestFlush_InTheBackgroundWhenTheHeadIsFull(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"), Options{FlushEvery: -1, HeadLimit: 1000})
	defer db.Close()
	mustApply(t, db, initEntry())
	for i := uint64(2); ; i++ {
		mustApply(t, db, batches(i, 0, batch(0, i-1, 0, newDelta("m", "a", int64(i)*10, 1, 2, 3))))
		if f, ok := db.FlushedState(); ok && f.Index > 1 {
			break
		}
		if i == 1_000_000 {
			t.Fatal("no flush although the head is over its limit")
		}
	}
	if current, limit := db.HeadBytes(); limit != 1000 || current < 0 {
		t.Errorf("HeadBytes = %d of %d", current, limit)
	}
}

func TestOverloaded_WhileAFlushRuns(t *testing.T) {
	db := newDB(t)
	db.headLimit = 1000
	fill := func(index uint64, nodes int) {
		var ds []Delta
		for n := range nodes {
			ds = append(ds, newDelta("m", fmt.Sprint(n), int64(index)*10, 1))
		}
		mustApply(t, db, batches(index, 0, batch(0, index-1, 0, ds...)))
	}
	fill(2, 3)
	if db.Overloaded() {
		t.Error("Overloaded without a flush")
	}
	db.onFrozen = func() {
		db.onFrozen = nil
		if db.Overloaded() {
			t.Error("Overloaded with an empty head")
		}
		fill(3, 15)
		fill(4, 15)
		if !db.Overloaded() {
			t.Error("not Overloaded with a head of twice its limit behind a flush")
		}
	}
	mustFlush(t, db)
	if db.Overloaded() {
		t.Error("Overloaded after the flush")
	}
}

func TestWaitApplied(t *testing.T) {
	db := newDB(t)
	if err := db.WaitApplied(ctx, 1); err != nil {
		t.Errorf("WaitApplied(1) = %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := db.WaitApplied(cancelled, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitApplied with an ended context = %v", err)
	}
	reached, closed := make(chan error, 1), make(chan error, 1)
	go func() { reached <- db.WaitApplied(ctx, 3) }()
	go func() { closed <- db.WaitApplied(ctx, 100) }()
	mustApply(t, db, &Entry{Index: 4, Term: 1, Kind: KindTick}) // with a gap, as raft has them
	if err := <-reached; err != nil {
		t.Errorf("WaitApplied(3) = %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; !errors.Is(err, ErrClosed) {
		t.Errorf("WaitApplied after Close = %v, want ErrClosed", err)
	}
	if len(db.waiters) > 1 {
		t.Errorf("%d waiters are left", len(db.waiters))
	}
}

func TestQuery_EndsWithItsContext(t *testing.T) {
	db := newDB(t)
	var ds []Delta
	for n := range 2 * checkEvery {
		ds = append(ds, newDelta("m", fmt.Sprint(n), 0, 1))
	}
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, ds...)))
	mustFlush(t, db)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := db.Query(cancelled, ask(t, window.Query{Metric: "m", ByNode: true})); !errors.Is(err, context.Canceled) {
		t.Errorf("Query = %v, want context.Canceled", err)
	}
	if db.gen.refs != 0 {
		t.Errorf("%d readers are left", db.gen.refs)
	}
}

func TestQuery_Limits(t *testing.T) {
	db := newDB(t)
	var ds []Delta
	for n := range window.MaxPoints + 1 {
		ds = append(ds, newDelta("m", "a", int64(n)*10, 1))
	}
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, ds...)))
	for range 2 { // from the head, then from the file
		var in *window.InputError
		if _, err := db.Query(ctx, ask(t, window.Query{Metric: "m", Step: 10e9})); !errors.As(err, &in) || in.Field != "step" {
			t.Errorf("Query of %d points = %v, want an InputError in step", window.MaxPoints+1, err)
		}
		if a := mustQuery(t, db, window.Query{Metric: "m", Step: 20e9}); len(a.Results) != window.MaxPoints/2+1 {
			t.Errorf("%d results, want %d", len(a.Results), window.MaxPoints/2+1)
		}
		mustFlush(t, db)
	}
}
