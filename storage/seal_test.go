package storage

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/window"
)

// rowsOf returns how many rows the file has per table.
func rowsOf(t testing.TB, db *DB) map[string]int {
	t.Helper()
	rows := make(map[string]int)
	err := db.gen.bolt.View(func(tx *bbolt.Tx) error {
		for _, tier := range db.cluster.Tiers {
			for _, name := range []string{nodeTable(tier.Width), fleetTable(tier.Width)} {
				if table := tx.Bucket([]byte(name)); table != nil {
					rows[name] = table.Stats().KeyN
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func wantRows(t testing.TB, db *DB, want map[string]int) {
	t.Helper()
	if got := rowsOf(t, db); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the file has %v, want %v", got, want)
	}
}

func tick(t testing.TB, db *DB, seconds int64) {
	t.Helper()
	index, _ := db.Applied()
	mustApply(t, db, &Entry{Index: index + 1, Term: 1, ClockMs: seconds * 1000, Kind: KindTick})
}

func TestSeal_WhenTheGraceIsOver(t *testing.T) {
	db := newDB(t)
	mustApply(t, db, batches(2, 1000, batch(0, 1, 0, newDelta("m", "a", 0, 1), newDelta("m", "b", 50, 2), newDelta("m", "a", 60, 3))))
	tick(t, db, 89)
	mustFlush(t, db)
	wantRows(t, db, map[string]int{"nodes/10s": 3, "fleet/10s": 3})
	if db.worthFlushing() {
		t.Error("an idle member is to flush before there is something to seal")
	}
	tick(t, db, 90)
	if !db.worthFlushing() {
		t.Error("an idle member does not flush although a minute is to be sealed")
	}
	mustFlush(t, db)
	wantRows(t, db, map[string]int{"nodes/10s": 3, "fleet/10s": 3, "nodes/1m": 2, "fleet/1m": 1})
	// Late: one more value in the minute and one in a new minute before it.
	mustApply(t, db, batches(5, 1000, batch(0, 2, 0, newDelta("m", "c", 10, 4), newDelta("m", "a", -60, 5))))
	mustFlush(t, db)
	wantRows(t, db, map[string]int{"nodes/10s": 5, "fleet/10s": 5, "nodes/1m": 4, "fleet/1m": 2, "nodes/10m": 1, "fleet/10m": 1, "nodes/1h": 1, "fleet/1h": 1, "nodes/1d": 1, "fleet/1d": 1})
	for seconds := int64(3600); seconds < 2*86400; seconds += 3600 {
		tick(t, db, seconds)
	}
	mustFlush(t, db)
	wantRows(t, db, map[string]int{"nodes/10s": 5, "fleet/10s": 5, "nodes/1m": 5, "fleet/1m": 3, "nodes/10m": 4, "fleet/10m": 2, "nodes/1h": 4, "fleet/1h": 2, "nodes/1d": 4, "fleet/1d": 2})
	if db.sealFrom != math.MaxInt64 || db.worthFlushing() {
		t.Errorf("there is still something to seal at %d", db.sealFrom)
	}
}

// Many hours that no flush has sealed, as a file from before there were tiers has
// them: every flush does its share, and answers are right in between.
func TestSeal_InBoundedSteps(t *testing.T) {
	db := newDB(t)
	db.work = 10
	var ds []Delta
	for minute := range int64(300) {
		ds = append(ds, newDelta("m", "a", minute*60, minute), newDelta("n", "b", minute*60+10, minute))
	}
	mustApply(t, db, batches(2, 1000, batch(0, 1, 0, ds...)))
	mustFlush(t, db)
	tick(t, db, 86400*2)
	steps := 0
	for ok := true; ok; steps++ {
		mustFlush(t, db)
		if n := countOf(t, db); n != 300 {
			t.Fatalf("%d values after %d flushes, want 300", n, steps)
		}
		ok = db.durable.backlog
	}
	wantRows(t, db, map[string]int{"nodes/10s": 600, "fleet/10s": 600, "nodes/1m": 600, "fleet/1m": 600, "nodes/10m": 60, "fleet/10m": 60, "nodes/1h": 10, "fleet/1h": 10, "nodes/1d": 2, "fleet/1d": 2})
	if steps < 20 {
		t.Errorf("%d flushes, want the work in many steps", steps)
	}
}

// A damaged row is not rolled up, which would hide the damage: it is named to who
// asks for it, and everything else goes on.
func TestSeal_LeavesDamagedRowsWhereTheyAre(t *testing.T) {
	db := newDB(t)
	mustApply(t, db, batches(2, 1000, batch(0, 1, 0, newDelta("m", "a", 0, 1), newDelta("m", "a", 10, 1), newDelta("m", "b", 10, 2))))
	mustFlush(t, db)
	path := streamTo(t, db)
	edit(t, path, "nodes/10s", nodeKey{10, 0, 1}.append(nil), func([]byte) []byte { return nil })
	again := mustOpen(t, path, manual(t))
	defer again.Kill()
	for range 3 {
		tick(t, again, 4000)
		mustFlush(t, again)
	}
	index, _ := again.Applied()
	mustApply(t, again, batches(index+1, 0, batch(0, 2, 0, newDelta("m", "a", 20, 7), newDelta("n", "a", 0, 7))))
	mustFlush(t, again)
	wantRows(t, again, map[string]int{"nodes/10s": 4, "fleet/10s": 4})
	var damaged *DamagedError
	_, err := again.Query(ctx, ask(t, window.Query{Metric: "m", ByNode: true}))
	if !errors.As(err, &damaged) || damaged.Table != "nodes/10s" {
		t.Errorf("Query = %v, want a DamagedError in nodes/10s", err)
	}
	if n := countOf(t, again); n != 4 {
		t.Errorf("%d values of the fleet, want 4", n)
	}
}

func TestQuery_StrictRefusesWhatIsNotKept(t *testing.T) {
	db := mustOpen(t, t.TempDir()+"/state.db", manual(t))
	defer db.Kill()
	tiers := window.Tiers{{Width: 10, KeepNode: 60, KeepFleet: 60}, {Width: 60, KeepNode: 600, KeepFleet: 600}}
	mustApply(t, db, &Entry{Index: 1, Term: 1, ClockMs: 3600_000, Kind: KindInit, Cluster: &Cluster{ID: "test", Precision: testPrecision, Tiers: tiers}})
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, newDelta("m", "a", 3590, 1))))
	f := func(from, to int64, field string) {
		t.Helper()
		_, err := db.Query(ctx, ask(t, window.Query{Metric: "m", Span: window.Span{From: from, To: to}, Align: window.Strict}))
		var in *window.InputError
		if field == "" && err != nil || field != "" && (!errors.As(err, &in) || in.Field != field) {
			t.Errorf("strict query of [%d, %d) = %v, want an InputError in %q", from, to, err, field)
		}
	}
	f(3550, 3600, "")
	f(3420, 3480, "")
	f(3430, 3600, "from")
	f(3420, 3490, "to")
	f(2940, 3600, "from") // older than everything
}
