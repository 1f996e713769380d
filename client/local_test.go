package client

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestLocal_ShipsEveryBucketOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		h := c.Recorder("n1", RecorderOptions{}).Metric("m")
		l := h.Local()
		first := bucketOf(time.Now())
		time.Sleep(5 * time.Millisecond) // off the ends of buckets
		const each = 1000                // no multiple of what a Local holds back
		for i := range 5 * each {
			l.AddInt(int64(i))
			time.Sleep(10 * time.Millisecond)
		}
		l.Close()
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range int64(5) {
			s := f.rows[row{"m", "n1", first + 10*i}]
			want := sketch.New(7)
			for v := range int64(each) {
				want.AddInt(i*each + v)
			}
			if s == nil || s.Count() != each || s.Min() != want.Min() || s.Max() != want.Max() {
				t.Errorf("bucket %d holds %v, want the %d values of its ten seconds", i, s, each)
			}
		}
		// What came late joined its bucket before that was shipped.
		if n := w.called("", "Ingest"); n > 5 || c.Stats().Sketches > 6 {
			t.Errorf("%d requests with %d sketches for five buckets", n, c.Stats().Sketches)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLocal_ManyGoroutinesCountExactly(t *testing.T) {
	c, f, _ := newTest(t, Options{FlushEvery: 20 * time.Millisecond})
	rec := c.Recorder("n1", RecorderOptions{})
	want := sketch.New(7)
	var mu sync.Mutex
	var wg sync.WaitGroup
	const each = 30_000
	for g := range 8 {
		wg.Go(func() {
			l := rec.Metric("m").Local()
			defer l.Close()
			sum := sketch.New(7)
			for i := range each {
				v := int64(i*g) - 1000
				if i%1000 == 999 {
					l.AddInts([]int64{v})
				} else {
					l.AddInt(v)
				}
				sum.AddInt(v)
			}
			mu.Lock()
			defer mu.Unlock()
			want.Merge(sum)
		})
	}
	wg.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _ := f.total("m")
	a, _ := got.MarshalBinary()
	b, _ := want.MarshalBinary()
	if string(a) != string(b) {
		t.Errorf("%d values arrived, want %d and the same bytes", got.Count(), want.Count())
	}
}

func TestLocal_ClosedOrForgottenIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		rec := c.Recorder("n1", RecorderOptions{})
		l, open := rec.Metric("m").Local(), rec.Metric("m").Local()
		l.AddInt(1)
		open.AddInt(2)
		l.Close()
		l.Close()
		l.Flush()
		for range 3 {
			l.AddInt(3)
		}
		if err := rec.Err(); !refusedFor(err, ReasonClosed) || c.Stats().Dropped != 3 {
			t.Errorf("Err after Close of the Local = %v, %d dropped; want 3", err, c.Stats().Dropped)
		}
		err := rec.Close(t.Context())
		if err == nil || !strings.Contains(err.Error(), "1 Locals were not closed") {
			t.Errorf("Close with an open Local = %v", err)
		}
		open.Close() // too late, and told
		if n := c.Stats().Dropped; n != 4 || f.sum("m") != 1 {
			t.Errorf("%d dropped, %d arrived; want 4, 1", n, f.sum("m"))
		}
		closeNow(t, c)
	})
}

func TestHandle_AddsCountsWhatIsFinite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		rec := c.Recorder("n1", RecorderOptions{})
		if err := rec.Adds("m", []float64{0.5, 1, 2}); err != nil {
			t.Error(err)
		}
		err := rec.Metric("m").Adds([]float64{3, math.NaN(), 4, math.Inf(1), math.Inf(-1), 5})
		if !errors.Is(err, ErrNotFinite) {
			t.Errorf("Adds = %v, want ErrNotFinite", err)
		}
		if err := c.Flush(t.Context()); !refusedFor(err, ReasonNotFinite) {
			t.Errorf("Flush = %v", err)
		}
		if n := f.sum("m"); n != 6 || c.Stats().Refused[ReasonNotFinite] != 3 {
			t.Errorf("%d values arrived, refused %v; want 6 and 3", n, c.Stats().Refused)
		}
		closeNow(t, c)
		if err := rec.Adds("m", []float64{1, 2}); !refusedFor(err, ReasonClosed) || c.Stats().Dropped != 2 {
			t.Errorf("Adds after Close = %v, %d dropped", err, c.Stats().Dropped)
		}
	})
}

func TestHotPath_AllocatesNothing(t *testing.T) {
	c, _, _ := newTest(t, Options{})
	rec := &Recorder{node: "n", handles: make(map[string]*Handle)} // no clock collects from it
	rec.account = account{client: c, source: rec}
	h := rec.Metric("m")
	l := h.Local()
	vs, fs := lognormal(1000, 1), make([]float64, 1000)
	for i, v := range vs {
		fs[i] = float64(v) / 3
	}
	h.AddInts(vs)
	if err := h.Adds(fs); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	h.AddIntAt(now, 1)
	f := func(what string, add func()) {
		t.Helper()
		if n := testing.AllocsPerRun(20, add); n != 0 {
			t.Errorf("%s: %v allocations, want none", what, n)
		}
	}
	f("Local.AddInt", func() {
		for _, v := range vs {
			l.AddInt(v)
		}
	})
	f("AddInt", func() { h.AddInt(vs[1]) })
	f("AddInts", func() { h.AddInts(vs) })
	f("Adds", func() { _ = h.Adds(fs) }) // nil, as above
	f("AddIntN", func() { h.AddIntN(vs[1], 1000) })
	f("AddIntAt", func() { h.AddIntAt(now, 1) })
	f("by name", func() { rec.AddInt("m", vs[1]) })
}
