package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"pgregory.net/rapid"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// TestClient_CountsExactlyOnce runs random histories of adds, flushes and waits
// over a network that loses requests and answers, delays and repeats, and
// compares every stored sketch with that of the values, byte for byte.
func TestClient_CountsExactlyOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		badness := rapid.IntRange(0, 90).Draw(rt, "percent of requests in trouble")
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		inFlight := rapid.IntRange(1, 8).Draw(rt, "in flight")
		synctest.Test(t, func(t *testing.T) {
			if err := exactlyOnce(t, seed, badness, steps, inFlight); err != nil {
				rt.Errorf("%v", err)
			}
		})
	})
}

func exactlyOnce(t *testing.T, seed uint64, badness, steps, inFlight int) error {
	c, f, w := newTest(t, Options{MaxInFlight: inFlight, FlushEvery: 3 * time.Second, MaxPendingBytes: 1 << 40})
	// Each under its own lock.
	rng, bad, busy := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)), rand.New(rand.NewPCG(seed, 3))
	w.make(func(string, string) trouble {
		if bad.IntN(100) < badness {
			return trouble(1 + bad.IntN(int(repeated)))
		}
		return none
	})
	f.admit = func(*dmtv1.Batch) error {
		if busy.IntN(100) < badness/3 {
			return api.Error(connect.CodeResourceExhausted, api.ErrorDetail{Reason: api.ReasonOverload, RetryAfterMs: 50}, "busy")
		}
		return nil
	}
	want := make(map[string]*sketch.Sketch)
	var recs []*Recorder
	for i := range 5 {
		recs = append(recs, c.Recorder(fmt.Sprint("n", i%3), RecorderOptions{}))
	}
	for range steps {
		rec := recs[rng.IntN(len(recs))]
		switch rng.IntN(6) {
		case 0:
			time.Sleep(time.Duration(rng.IntN(20_000)) * time.Millisecond)
		case 1:
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(3000))*time.Millisecond)
			err := rec.Flush(ctx)
			cancel()
			if u := (*UnsentError)(nil); err != nil && !errors.As(err, &u) {
				return fmt.Errorf("Flush: %w", err)
			}
		default:
			for range rng.IntN(50) {
				v := rng.Int64N(1 << rng.IntN(60))
				rec.AddInt("m", v)
				if want[rec.node] == nil {
					want[rec.node] = sketch.New(7)
				}
				want[rec.node].AddInt(v)
			}
		}
	}
	w.make(nil)
	if err := c.Close(t.Context()); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	got := make(map[string]*sketch.Sketch)
	for k, s := range f.rows {
		if got[k.node] == nil {
			got[k.node] = sketch.New(7)
		}
		got[k.node].Merge(s)
	}
	for node, s := range want {
		if got[node] == nil {
			return fmt.Errorf("nothing of %s arrived", node)
		}
		a, _ := got[node].MarshalBinary()
		b, _ := s.MarshalBinary()
		if string(a) != string(b) {
			return fmt.Errorf("%s: %d values arrived, want %d and the same bytes", node, got[node].Count(), s.Count())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.wrong) > 0 {
		return fmt.Errorf("rules broken: %q", f.wrong)
	}
	return nil
}

func TestClient_BacksOffWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, w := newTest(t, Options{})
		defer closeNow(t, c)
		var times []time.Time
		w.make(func(string, string) trouble {
			times = append(times, time.Now())
			return lost
		})
		c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
		time.Sleep(10 * time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		// On average one try in five seconds once the wait has grown.
		if n := len(times); n < 60 || n > 240 {
			t.Errorf("%d tries in ten minutes", n)
		}
		for i := 1; i < len(times); i++ {
			most := min(backoffMost, backoffFirst<<min(i-1, 20))
			if d := times[i].Sub(times[i-1]); d > most {
				t.Errorf("try %d came after %v, want at most %v", i, d, most)
			}
		}
	})
}

func TestClient_WaitsAsLongAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		defer closeNow(t, c)
		var first, second time.Time
		f.admit = func(*dmtv1.Batch) error {
			if first.IsZero() {
				first = time.Now()
				return api.Error(connect.CodeResourceExhausted, api.ErrorDetail{Reason: api.ReasonOverload, RetryAfterMs: 3000}, "busy")
			}
			second = time.Now()
			return nil
		}
		c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := second.Sub(first); d < 3*time.Second || d > 4*time.Second {
			t.Errorf("tried again after %v, want 3 s and a little", d)
		}
	})
}

func TestClient_TriesAnotherMemberAfterATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		defer closeNow(t, c)
		w.make(func(host, _ string) trouble {
			if host == "a:1" {
				return hang
			}
			return none
		})
		start := time.Now()
		c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("took %v, want one time-out of 5 s", d)
		}
		if f.sum("m") != 1 {
			t.Errorf("%d values arrived, want 1", f.sum("m"))
		}
	})
}

func TestClient_FlushCutsBackoffShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		defer closeNow(t, c)
		w.make(func(string, string) trouble { return lost })
		c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
		time.Sleep(10 * time.Minute)
		w.make(nil)
		start := time.Now()
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 2*hurried {
			t.Errorf("Flush after an outage took %v, want at most %v", d, 2*hurried)
		}
		if f.sum("m") != 1 {
			t.Errorf("%d values arrived, want 1", f.sum("m"))
		}
	})
}

func TestClient_KeepsTheWindowOfNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{MaxInFlight: 8})
		// The first batch never gets through; the fake checks that no number
		// runs more than sendAhead beyond it.
		block := true
		f.admit = func(b *dmtv1.Batch) error {
			if b.GetSeq() == 1 && block {
				return api.Error(connect.CodeUnavailable, api.ErrorDetail{Reason: api.ReasonNoQuorum}, "not yet")
			}
			return nil
		}
		rec := c.Recorder("n1", RecorderOptions{FlushEvery: time.Second})
		for range 200 {
			rec.AddInt("m", 1)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := f.sum("m"); n != sendAhead-1 {
			t.Errorf("%d batches of one value passed the one that is stuck, want %d", n, sendAhead-1)
		}
		f.mu.Lock()
		block = false
		f.mu.Unlock()
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := f.sum("m"); n != 200 {
			t.Errorf("%d values arrived, want 200", n)
		}
		_ = w
	})
}

func TestClient_SeveralBatchesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		w.make(func(_, procedure string) trouble {
			if procedure == "Ingest" {
				return slow
			}
			return none
		})
		tr := c.MedianTracker("m")
		rng := rand.New(rand.NewPCG(3, 4))
		const nodes = 25_000 // more than two batches by entries
		for i := range nodes {
			tr.AddValue(fmt.Sprint("node-", i), rng.Int64N(1000))
		}
		start := time.Now()
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("took %v, want 2 s: all batches at once", d)
		}
		if n := f.sum("m"); n != nodes || f.applied < 3 {
			t.Errorf("%d values in %d batches, want %d in 3 or more", n, f.applied, nodes)
		}
		closeNow(t, c)
	})
}

func TestClient_ReportsRefusedEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []Dropped
		var mu sync.Mutex
		c, f, w := newTest(t, Options{OnDrop: func(d Dropped) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, d)
		}})
		defer closeNow(t, c)
		f.admitEntry = func(e *dmtv1.Entry) string {
			if e.GetStart() < 0 {
				return api.ReasonTooOld
			}
			return ""
		}
		rec, other := c.Recorder("n1", RecorderOptions{}), c.Recorder("n2", RecorderOptions{})
		rec.AddInt("m", 1)
		rec.AddIntAt("m", time.Unix(-100, 0), 2)
		rec.AddIntAt("m", time.Unix(-100, 0), 3)
		other.AddInt("m", 4)
		err := c.Flush(t.Context())
		e := (*RefusedError)(nil)
		if !errors.As(err, &e) || e.Reason != api.ReasonTooOld || e.Values != 2 || e.Sketches != 1 {
			t.Errorf("Flush = %v, want 2 values too_old", err)
		}
		if err := other.Err(); err != nil {
			t.Errorf("Err of the other recorder = %v", err)
		}
		if s := c.Stats(); s.Refused[api.ReasonTooOld] != 2 || s.RefusedSketches != 1 || s.AckedValues != 2 || s.Sketches != 2 {
			t.Errorf("Stats = %+v", s)
		}
		synctest.Wait()
		mu.Lock()
		if len(told) != 1 || told[0].Values != 2 || told[0].Node != "n1" || told[0].Start.Unix() != -100 {
			t.Errorf("OnDrop was told %+v", told)
		}
		mu.Unlock()

		// The answer is lost; the repetition knows only how many were refused.
		n := 0
		w.make(func(string, string) trouble {
			if n++; n == 1 {
				return mute
			}
			return none
		})
		rec.AddIntAt("m", time.Unix(-100, 0), 2)
		if err := rec.Flush(t.Context()); !errors.As(err, &e) || e.Sketches != 1 {
			t.Errorf("Flush = %v, want one sketch refused", err)
		}
	})
}

// badEntry refuses batches that hold an entry of node "bad", by its position.
func badEntry(b *dmtv1.Batch) error {
	for i, e := range b.GetEntries() {
		if e.GetNode() == "bad" {
			return api.Error(connect.CodeInvalidArgument,
				api.ErrorDetail{Reason: api.ReasonCorruptSketch, Field: fmt.Sprintf("batches[0].entries[%d].sketch", i)}, "corrupt")
		}
	}
	return nil
}

func TestClient_OneBadEntryDoesNotCostTheOthers(t *testing.T) {
	for _, answers := range []trouble{none, mute} {
		synctest.Test(t, func(t *testing.T) {
			c, f, w := newTest(t, Options{})
			f.admit = badEntry
			rng := rand.New(rand.NewPCG(5, 6))
			w.make(func(string, string) trouble {
				if rng.IntN(2) == 0 {
					return answers
				}
				return none
			})
			tr := c.MedianTracker("m")
			for i := range 100 {
				tr.AddValue(fmt.Sprint("n", i), 1)
			}
			tr.AddValue("bad", 1)
			err := c.Flush(t.Context())
			if e := (*RefusedError)(nil); !errors.As(err, &e) || e.Values != 1 {
				t.Errorf("Flush = %v, want one value refused", err)
			}
			if n := f.sum("m"); n != 100 {
				t.Errorf("%d values arrived, want 100", n)
			}
			if f.empties != 1 {
				t.Errorf("%d empty batches settled a number, want 1", f.empties)
			}
			closeNow(t, c)
		})
	}
}

func TestClient_WholeBatchRefusedIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		refuse := true
		f.admit = func(*dmtv1.Batch) error {
			if refuse {
				return api.Error(connect.CodeInvalidArgument, api.ErrorDetail{Reason: api.ReasonPrecision, Field: "batches[0]"}, "no")
			}
			return nil
		}
		rec := c.Recorder("n1", RecorderOptions{})
		for range 70 { // more than a window of numbers
			rec.AddInts("m", []int64{1, 2})
			if err := rec.Flush(t.Context()); !refusedFor(err, api.ReasonPrecision) {
				t.Fatalf("Flush = %v, want a refusal", err)
			}
		}
		refuse = false
		rec.AddInt("m", 3)
		if err := rec.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if n := f.sum("m"); n != 1 || f.empties != 70 {
			t.Errorf("%d values and %d empty batches arrived, want 1 and 70", n, f.empties)
		}
		if s := c.Stats(); s.Refused[api.ReasonPrecision] != 140 {
			t.Errorf("refused = %v, want 140 values", s.Refused)
		}
		closeNow(t, c)
	})
}

func TestClient_TooLargeBatchesGetSmaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		f.admit = func(b *dmtv1.Batch) error {
			if len(b.GetEntries()) > 100 {
				return api.Error(connect.CodeResourceExhausted, api.ErrorDetail{Reason: api.ReasonTooLarge}, "too large")
			}
			return nil
		}
		tr := c.MedianTracker("m")
		for i := range 1000 {
			tr.AddValue(fmt.Sprint("n", i), 1)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if n := f.sum("m"); n != 1000 {
			t.Errorf("%d values arrived, want 1000", n)
		}
		closeNow(t, c)
	})
}

func TestClient_ConflictIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		f.admit = func(b *dmtv1.Batch) error {
			return api.Error(connect.CodeAlreadyExists, api.ErrorDetail{Reason: api.ReasonConflict}, "other content")
		}
		rec := c.Recorder("n1", RecorderOptions{})
		rec.AddInt("m", 1)
		if err := rec.Flush(t.Context()); !refusedFor(err, api.ReasonConflict) {
			t.Errorf("Flush = %v, want a conflict", err)
		}
		closeNow(t, c)
	})
}

func TestClient_StartsAnewWhenTheClusterIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		rec := c.Recorder("n1", RecorderOptions{})
		for range 100 {
			rec.AddInt("m", 1)
			if err := rec.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// Rebuilt from nothing under the same addresses, at another precision.
		g := newFake()
		g.id, g.precision = "c2", 5
		for _, h := range []string{"a:1", "b:1", "c:1"} {
			w.serve(h, g)
		}
		rec.AddInt("m", 1)
		if err := rec.Flush(t.Context()); err != nil {
			t.Errorf("Flush = %v", err)
		}
		if f.sum("m") != 100 || g.sum("m") != 1 {
			t.Errorf("%d and %d values arrived, want 100 and 1", f.sum("m"), g.sum("m"))
		}
		g.check(t)
		closeNow(t, c)
	})
}

func TestClient_OneAddressOfAnotherClusterIsPassedBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		rec := c.Recorder("n1", RecorderOptions{})
		rec.AddInt("m", 1)
		if err := rec.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		g := newFake()
		g.id = "c2"
		w.serve("a:1", g)
		for range 5 {
			rec.AddInt("m", 1)
			if err := rec.Flush(t.Context()); err != nil {
				t.Errorf("Flush = %v", err)
			}
		}
		if f.sum("m") != 6 || g.sum("m") != 0 {
			t.Errorf("%d and %d values arrived, want 6 and 0", f.sum("m"), g.sum("m"))
		}
		closeNow(t, c)
	})
}

func TestClient_TakesANewLifeAfterAnIdleDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		rec := c.Recorder("n1", RecorderOptions{})
		for range 3 {
			rec.AddInt("m", 1)
			if err := rec.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * 24 * time.Hour)
		}
		if n := len(f.batches); n != 3 || f.statuses != 3 {
			t.Errorf("%d lives, %d times asked for the log clock; want 3 and 3", n, f.statuses)
		}
		closeNow(t, c)
	})
}

func TestClient_OutageIsBoundedInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told uint64
		var mu sync.Mutex
		const limit = 256 << 10
		c, f, w := newTest(t, Options{MaxPendingBytes: limit, OnDrop: func(d Dropped) {
			mu.Lock()
			defer mu.Unlock()
			if d.Reason != ReasonMemory || !errors.As(d.Err, new(*RefusedError)) {
				t.Errorf("told of %+v", d)
			}
			told += d.Values
		}})
		rng := rand.New(rand.NewPCG(7, 8))
		w.make(func(string, string) trouble { return lost })
		tr := c.MedianTracker("m")
		added, worst := uint64(0), int64(0)
		for range 30 { // five minutes
			for i := range 1500 { // more than fit in at any width
				for range 2 {
					tr.AddValue(fmt.Sprint("n", i), rng.Int64N(1_000_000))
					added++
				}
			}
			time.Sleep(10 * time.Second)
			worst = max(worst, c.Stats().PendingBytes)
		}
		if worst > limit || worst < limit/2 {
			t.Errorf("pending bytes reached %d, want up to %d", worst, limit)
		}
		s := c.Stats()
		if s.Values != added || s.Dropped == 0 {
			t.Errorf("%d of %d values counted, %d dropped", s.Values, added, s.Dropped)
		}
		w.make(nil)
		err := c.Flush(t.Context())
		s = c.Stats() // what the flush brought may have pushed out more
		if e := (*RefusedError)(nil); !errors.As(err, &e) || e.Reason != ReasonMemory || e.Values != s.Dropped {
			t.Errorf("Flush = %v, want the %d dropped values", err, s.Dropped)
		}
		if n := f.sum("m"); n+s.Dropped != added {
			t.Errorf("%d arrived and %d were dropped of %d", n, s.Dropped, added)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if told != s.Dropped {
			t.Errorf("told of %d dropped values, want %d", told, s.Dropped)
		}
		// What is left are the newest buckets.
		newest := int64(0)
		for k := range f.rows {
			newest = max(newest, k.start)
		}
		// Where even a day's width is too fine, the newest are at its beginning.
		if day := window.Width(86400).Floor(time.Now().Unix()); newest < day {
			t.Errorf("the newest bucket kept begins at %d, before the day %d", newest, day)
		}
		closeNow(t, c)
	})
}

// TestClient_OutageWidensBucketsBeforeItDrops is an outage of three days: not a
// value is lost, and the younger a bucket, the finer it is.
func TestClient_OutageWidensBucketsBeforeItDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 40 << 10
		c, f, w := newTest(t, Options{MaxPendingBytes: limit, OnDrop: func(d Dropped) { t.Errorf("dropped %+v", d) }})
		w.make(func(string, string) trouble { return lost })
		rng := rand.New(rand.NewPCG(9, 9))
		rec := c.Recorder("n1", RecorderOptions{})
		added, want := uint64(0), make(map[int64]uint64) // by day
		time.Sleep(5 * time.Second)                      // off the ends of buckets
		end := time.Now().Add(72 * time.Hour)
		for time.Now().Before(end) {
			for range 3 {
				rec.AddInt("m", rng.Int64N(1000))
				added++
				want[window.Width(86400).Floor(time.Now().Unix())]++
			}
			time.Sleep(10 * time.Second)
			if rng.IntN(100) == 0 {
				if n := c.Stats().PendingBytes; n > limit {
					t.Fatalf("%d bytes pending, want up to %d", n, limit)
				}
			}
		}
		s := c.Stats()
		w.make(nil)
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := f.sum("m"); n != added || s.Coarsened == 0 {
			t.Errorf("%d values arrived, want %d; %d coarsened", n, added, s.Coarsened)
		}
		got, now := make(map[int64]uint64), time.Now().Unix()
		var widest [2]uint64 // in the first and the last hour
		for k, s := range f.rows {
			got[window.Width(86400).Floor(k.start)] += s.Count()
			if now-k.start > 71*3600 {
				widest[0] = max(widest[0], s.Count())
			} else if now-k.start < 120 {
				widest[1] = max(widest[1], s.Count())
			}
		}
		for day, n := range want {
			if got[day] != n {
				t.Errorf("day %d: %d values, want %d", day, got[day], n)
			}
		}
		if widest[0] < 18 || widest[1] > 3 {
			t.Errorf("buckets of the first hour hold up to %d values, of the last two minutes %d; want minutes or more, and 3", widest[0], widest[1])
		}
		t.Logf("%d buckets of %d for three days", len(f.rows), added/3)
	})
}

func TestSpool_SizeCapWidensBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		l.w.make(func(string, string) trouble { return lost })
		c := l.start(t, Options{SpoolBytes: 20 << 10})
		rec := c.Recorder("n1", RecorderOptions{})
		for i := range 400 {
			rec.AddInts("m", []int64{int64(i), 5})
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Second)
		kill(c)
		l.w.make(nil)
		c = l.start(t, Options{SpoolBytes: 20 << 10})
		if s := c.Stats(); s.Recovered != 800 || s.PendingBytes > 20<<10 {
			t.Errorf("Stats = %+v, want 800 values in 20 KiB", s)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := l.f.sum("m"); n != 800 {
			t.Errorf("%d values arrived, want 800", n)
		}
	})
}

func TestClient_OutageMergesWhatIsOneBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{MaxPendingBytes: 20 << 10})
		w.make(func(string, string) trouble { return lost })
		rec := c.Recorder("n1", RecorderOptions{})
		past, stop := context.WithCancel(t.Context())
		stop()
		for i := range 2000 { // impatient: a flush for every value
			rec.AddInt("m", int64(i))
			if err := rec.Flush(past); err == nil {
				t.Fatal("Flush without a network succeeded")
			}
		}
		if s := c.Stats(); s.Dropped != 0 || s.PendingBytes > 20<<10 {
			t.Errorf("%d values dropped, %d bytes pending", s.Dropped, s.PendingBytes)
		}
		w.make(nil)
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := f.sum("m"); n != 2000 {
			t.Errorf("%d values arrived, want 2000", n)
		}
	})
}

func TestClient_CloseReportsWhatWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told uint64
		c, f, w := newTest(t, Options{OnDrop: func(d Dropped) { told += d.Values }})
		rec := c.Recorder("n1", RecorderOptions{})
		rec.AddInts("m", []int64{1, 2, 3})
		w.make(func(_, procedure string) trouble {
			if procedure == "Ingest" {
				return hang
			}
			return none
		})
		time.Sleep(15 * time.Second)
		rec.AddInts("m", []int64{4, 5})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := c.Close(ctx)
		u := (*UnsentError)(nil)
		if !errors.As(err, &u) || u.Values != 5 || u.Batches != 2 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close = %v, want 5 values in 2 batches unsent", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("Close took %v, want 3 s", d)
		}
		if told != 5 || f.sum("m") != 0 || c.Stats().Dropped != 5 {
			t.Errorf("%d values told of, %d arrived, %d dropped; want 5, 0, 5", told, f.sum("m"), c.Stats().Dropped)
		}
		if err == nil || !strings.Contains(err.Error(), "5 values") {
			t.Errorf("Close = %v, want a text with the number of values", err)
		}
	})
}

func TestStats_CountsBytesOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, w := newTest(t, Options{})
		rec := c.Recorder("n1", RecorderOptions{})
		for i := range 10_000 {
			rec.AddInt("m", int64(i))
		}
		if s := c.Stats(); s.Values != 10_000 || s.AckedValues != 0 {
			t.Errorf("before the flush: %+v", s)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := c.Stats()
		if s.Values != 10_000 || s.AckedValues != 10_000 || s.RawBytes != 80_000 || s.Sketches != 1 || s.Batches != 1 {
			t.Errorf("Stats = %+v", s)
		}
		// The other request, Status, has an empty body.
		if s.BytesSent != w.sent || s.BytesSent < s.SketchBytes || s.BytesSent > s.SketchBytes+100 {
			t.Errorf("%d bytes sent, the wire carried %d, the sketch has %d", s.BytesSent, w.sent, s.SketchBytes)
		}
		closeNow(t, c)
	})
}

func TestClient_ABatchInDoubtIsNeverRenamed(t *testing.T) {
	for _, reason := range []string{api.ReasonTooOldToDeduplicate, api.ReasonWindow} {
		synctest.Test(t, func(t *testing.T) {
			c, f, w := newTest(t, Options{})
			rec := c.Recorder("n1", RecorderOptions{})
			tries := 0
			w.make(func(_, procedure string) trouble {
				if procedure != "Ingest" {
					return none
				}
				if tries++; tries == 1 {
					return mute
				}
				return none
			})
			rec.AddInt("m", 1)
			// Once it is counted, the cluster forgets whom it counted it for.
			go func() {
				synctest.Wait()
				f.mu.Lock()
				defer f.mu.Unlock()
				clear(f.batches)
				clear(f.low)
				f.admit = func(b *dmtv1.Batch) error {
					if tries == 2 {
						return api.Error(connect.CodeFailedPrecondition, api.ErrorDetail{Reason: reason}, "who are you?")
					}
					return nil
				}
			}()
			if err := rec.Flush(t.Context()); !refusedFor(err, reason) || !strings.Contains(err.Error(), "may have been counted") {
				t.Errorf("Flush = %v, want a refusal that says the values may have been counted", err)
			}
			rec.AddInt("m", 1)
			if err := rec.Flush(t.Context()); err != nil {
				t.Errorf("Flush in the new life = %v", err)
			}
			if n := f.sum("m"); n != 2 {
				t.Errorf("%d values arrived, want 2: neither lost nor doubled", n)
			}
			closeNow(t, c)
		})
	}
}
