package storage

import (
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-median-tracker/dmt/window"
)

// reopen opens a copy of the file as it is on disk now, as after a crash.
func reopen(t testing.TB, db *DB) *DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	copyFile(t, db.path, path)
	again := mustOpen(t, path, manual(t))
	t.Cleanup(func() { _ = again.Kill() })
	return again
}

// countOf returns how many values of metric "m" are counted.
func countOf(t testing.TB, db *DB) uint64 {
	t.Helper()
	return mustQuery(t, db, window.Query{Metric: "m"}).Count()
}

func TestCrash_BeforeTheFirstFlush(t *testing.T) {
	db := newDB(t)
	e := batches(2, 2000, batch(0, 1, 0, newDelta("m", "a", 0, 1, 2)))
	mustApply(t, db, e)
	again := reopen(t, db)
	if _, ok := again.FlushedState(); ok {
		t.Error("FlushedState says that something was flushed")
	}
	if _, ok := again.Cluster(); ok {
		t.Error("Cluster says that the file is initialised")
	}
	mustApply(t, again, initEntry())
	mustApply(t, again, e)
	if n := countOf(t, again); n != 2 {
		t.Errorf("%d values after the replay, want 2", n)
	}
}

// crashInFlush applies 5 values, flushes, applies 7 more between freezing and
// writing, crashes after the commit, replays the log, and counts.
func crashInFlush(t *testing.T, saveLive bool) uint64 {
	db := newDB(t)
	db.saveLive = saveLive
	log := []*Entry{
		initEntry(),
		batches(2, 2000, batch(0, 1, 0, newDelta("m", "a", 0, 1, 2, 3, 4, 5))),
		batches(3, 3000, batch(0, 2, 0, newDelta("m", "b", 0, 1, 2, 3, 4)), batch(1, 1, 0, newDelta("m", "b", 10, 1, 2, 3))),
	}
	mustApply(t, db, log[1])
	var before *DB
	db.onFrozen = func() {
		before = reopen(t, db)
		mustApply(t, db, log[2])
	}
	mustFlush(t, db)
	if f, _ := db.FlushedState(); f.Index != 2 || f.ClockMs != 2000 {
		t.Errorf("FlushedState = %+v, want index 2 with its clock 2000", f)
	}
	again := reopen(t, db)
	for _, e := range log {
		mustApply(t, before, e)
		mustApply(t, again, e)
	}
	if n := countOf(t, before); n != 12 {
		t.Errorf("crash before the commit: %d values after the replay, want 12", n)
	}
	return countOf(t, again)
}

func TestCrash_WhileTheNextHeadIsFilled(t *testing.T) {
	if n := crashInFlush(t, false); n != 12 {
		t.Errorf("%d values after the replay, want 12", n)
	}
}

// The planted bug: the producers of the live head are stored with the flushed
// one's data. The test above would see it, and so does the model test.
func TestCrash_SavingLiveProducersLoses(t *testing.T) {
	if n := crashInFlush(t, true); n != 5 {
		t.Errorf("%d values after the replay, want the 7 of the live head taken for duplicates and lost", n)
	}
}

func TestModel_FindsSavedLiveProducers(t *testing.T) {
	for name, value := range map[string]string{"rapid.shrinktime": "0s", "rapid.nofailfile": "true"} {
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flag.Set(name, old) }()
	}
	dir, files := t.TempDir(), 0
	r := &recorder{name: t.Name()}
	var wg sync.WaitGroup
	wg.Go(func() { // FailNow ends the goroutine
		rapid.Check(r, func(rt *rapid.T) {
			m := &machine{t: rt, dir: dir, model: newModel(), files: files, live: true}
			defer func() { files = m.files }()
			m.run()
		})
	})
	wg.Wait()
	if !r.failed {
		t.Error("the model test passes although flushes store the live producers")
	}
}

// recorder is a test that may fail.
type recorder struct {
	name   string
	failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Name() string          { return r.name }
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Log(...any)            {}
func (r *recorder) Skipf(string, ...any)  {}
func (r *recorder) Skip(...any)           {}
func (r *recorder) SkipNow()              {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Error(...any)          { r.failed = true }
func (r *recorder) Fatalf(string, ...any) { r.FailNow() }
func (r *recorder) Fatal(...any)          { r.FailNow() }
func (r *recorder) Fail()                 { r.failed = true }
func (r *recorder) Failed() bool          { return r.failed }
func (r *recorder) FailNow() {
	r.failed = true
	runtime.Goexit()
}

func TestCrash_ConfigurationAsOfTheFlushedIndex(t *testing.T) {
	db := newDB(t)
	db.SetConfiguration(2, 1, []byte("one"))
	db.onFrozen = func() { db.SetConfiguration(3, 2, []byte("two")) }
	mustFlush(t, db)
	db.onFrozen = nil
	again := reopen(t, db)
	f, ok := again.FlushedState()
	if !ok || f.Index != 2 || f.Term != 1 || string(f.Configuration) != "one" || f.ConfigurationIndex != 2 {
		t.Errorf("FlushedState = %+v, want configuration one at index 2", f)
	}
	mustFlush(t, db)
	if f, _ := db.FlushedState(); f.Index != 3 || f.Term != 2 || string(f.Configuration) != "two" {
		t.Errorf("FlushedState = %+v, want configuration two at index 3", f)
	}
}

func TestApply_SkipsWhatTheFileHolds(t *testing.T) {
	db := newDB(t)
	e := batches(2, 2000, batch(0, 1, 0, newDelta("m", "a", 0, 1)))
	mustApply(t, db, e)
	mustFlush(t, db)
	again := reopen(t, db)
	for range 2 {
		if out := mustApply(t, again, e); out != nil {
			t.Errorf("Apply of an entry that the file holds = %v, want nothing", out)
		}
	}
	// The same batch under a later index is a retry.
	e.Index = 3
	if out := mustApply(t, again, e); out[0].Status != Duplicate {
		t.Errorf("a retry is %v, want duplicate", out[0].Status)
	}
	if n := countOf(t, again); n != 1 {
		t.Errorf("%d values, want 1", n)
	}
}

func TestProducers_WindowOutOfOrder(t *testing.T) {
	db := newDB(t)
	index := uint64(1)
	send := func(seq uint64, refused uint32, values ...int64) Outcome {
		index++
		b := batch(0, seq, 0, newDelta("m", "a", 0, values...))
		b.Refused = refused
		o := mustApply(t, db, batches(index, 2000, b))[0]
		if index%3 == 0 {
			mustFlush(t, db)
			db = reopen(t, db)
		}
		return o
	}
	f := func(seq uint64, value int64, want Status) {
		t.Helper()
		o := send(seq, uint32(seq), value)
		if o.Status != want {
			t.Errorf("batch %d of value %d: %v, want %v", seq, value, o.Status, want)
		}
		if (want == Applied || want == Duplicate) && o.Refused != uint32(seq) {
			t.Errorf("batch %d: %d refused, want %d", seq, o.Refused, seq)
		}
	}
	f(64, 64, Applied)
	f(65, 65, SeqWindow)
	f(3, 3, Applied)
	f(1, 1, Applied)
	f(65, 65, Applied)
	f(66, 66, SeqWindow)
	f(3, 3, Duplicate)
	f(3, 4, Conflict)
	f(64, 63, Conflict)
	f(2, 2, Applied) // low is 3 now
	f(67, 67, Applied)
	f(1, 1, Duplicate)
	f(1, 9, Conflict)
	f(0, 1, TooOldToDeduplicate)
	for seq := uint64(4); seq < 64; seq++ {
		f(seq, int64(seq), Applied)
	}
	f(64, 64, Duplicate)
	f(58, 1, Conflict)
	// Low is 65: of the numbers up to 57 only their settling is known, and not
	// whether this is what was settled.
	f(57, 57, TooOldToDeduplicate)
	if n := countOf(t, db); n != 66 {
		t.Errorf("%d values, want 66", n)
	}
}

func TestProducers_ForgottenByTheLogClock(t *testing.T) {
	const hour = int64(3600_000)
	db := newDB(t)
	index := uint64(1)
	at := func(clock, seen int64, seq uint64, want Status) {
		t.Helper()
		index += 2
		mustApply(t, db, &Entry{Index: index - 1, ClockMs: clock, Kind: KindAcceptClock}) // days in one step
		if o := mustApply(t, db, batches(index, clock, batch(0, seq, seen, newDelta("m", "a", 0, 1))))[0]; o.Status != want {
			t.Errorf("batch %d seen %d at %d: %v, want %v", seq, seen, clock, o.Status, want)
		}
		if index%4 == 1 {
			mustFlush(t, db)
			db = reopen(t, db)
		}
	}
	day := 24 * hour
	at(100*day, 92*day, 1, TooOldToDeduplicate) // unknown, and may be forgotten
	at(100*day, 93*day, 1, Applied)
	at(107*day+hour-1, 93*day, 1, Duplicate) // a known producer is answered whatever it saw
	at(107*day+hour, 93*day, 1, TooOldToDeduplicate)
	at(107*day+hour, 107*day, 1, Applied) // a new life under the old name
	at(90*day, 107*day, 2, Applied)       // the clock does not go back
	if ms := db.ClockMs(); ms != 107*day+hour {
		t.Errorf("ClockMs = %d, want %d", ms, 107*day+hour)
	}
	if n := countOf(t, db); n != 3 {
		t.Errorf("%d values, want 3", n)
	}
}

func TestApply_TotalIsBounded(t *testing.T) {
	db := newDB(t)
	big := newDelta("m", "a", 0, 1)
	big.Count = MaxTotal - 2 // a lie that only the total believes
	f := func(index uint64, seq uint64, d Delta, want Status) {
		t.Helper()
		o := mustApply(t, db, batches(index, 0, batch(0, seq, 0, d)))[0]
		if o.Status != want {
			t.Errorf("batch %d = %v, want %v", seq, o.Status, want)
		}
	}
	f(2, 1, big, Applied)
	f(3, 2, newDelta("m", "a", 0, 1, 2, 3), TotalOverflow)
	f(4, 2, newDelta("m", "a", 0, 1, 2), Applied)
	f(5, 3, newDelta("m", "a", 0, 1), TotalOverflow)
	huge := big
	huge.Count = ^uint64(0)
	f(6, 3, huge, TotalOverflow)
	o := mustApply(t, db, batches(7, 0, batch(0, 3, 0)))[0] // settles the number
	if o.Status != Applied {
		t.Errorf("an empty batch = %v, want applied", o.Status)
	}
}

func TestApply_RefusesWhatItDoesNotKnow(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"), manual(t))
	defer db.Close()
	for _, e := range []*Entry{
		{Index: 1, Kind: 77}, {Index: 1, Kind: KindInit}, {Index: 1, Kind: KindInit, Cluster: &Cluster{ID: "x", Precision: 9}},
		{Index: 1, Kind: KindBatches},
	} {
		if _, err := db.Apply(e); err == nil {
			t.Errorf("Apply(%+v) is accepted", e)
		}
	}
	if i, _ := db.Applied(); i != 0 {
		t.Errorf("index %d is applied, want 0", i)
	}
	mustApply(t, db, initEntry())
	other := initEntry()
	other.Index, other.Cluster.ID = 2, "other"
	mustApply(t, db, other)
	if c, _ := db.Cluster(); c.ID != "test" {
		t.Errorf("a second init made the cluster %q", c.ID)
	}
}

func ExampleStatus() {
	fmt.Println(Applied, Duplicate, Conflict, TooOldToDeduplicate, SeqWindow, TotalOverflow)
	// Output: applied duplicate conflict too_old_to_deduplicate window total_overflow
}
