package client

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// skewed adds the values of a fleet whose nodes differ in everything: volume
// (the first of thousands adds more than the last thousand together), location
// (over nine decades) and sign. It returns them all, sorted.
func skewed(nodes, total int, seed uint64, add func(node string, v int64)) []int64 {
	rng := rand.New(rand.NewPCG(seed, 9))
	var sum float64
	for i := range nodes {
		sum += 1 / float64(i+1)
	}
	var all []int64
	for i := range nodes {
		node := fmt.Sprintf("node-%05d", i)
		location := math.Exp(rng.Float64()*math.Log(1e9)) + 1
		if i%5 == 4 {
			location = -location
		}
		for range 1 + int(float64(total)/float64(i+1)/sum) {
			v := int64(location * math.Exp(0.5*rng.NormFloat64()))
			add(node, v)
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

func exactMedian(sorted []int64) float64 {
	n := len(sorted)
	return (float64(sorted[(n-1)/2]) + float64(sorted[n/2])) / 2
}

func relativeError(got, want float64) float64 { return math.Abs(got-want) / math.Abs(want) }

func TestMedianTracker_InMemoryWithinHalfAPercent(t *testing.T) {
	for seed := range uint64(5) {
		tr, err := NewMedianTracker()
		if err != nil {
			t.Fatal(err)
		}
		all := skewed(5000, 300_000, seed, tr.AddValue)
		want := exactMedian(all)
		got := tr.EstimateMedian()
		if e := relativeError(got, want); e > 0.005 {
			t.Errorf("seed %d: EstimateMedian() = %v, exact %v: off by %.3f %%", seed, got, want, 100*e)
		}
		ans, err := tr.Median(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, _ := ans.Median()
		if m.Lower.Float64() > want || m.Upper.Float64() < want {
			t.Errorf("seed %d: exact median %v outside [%v, %v]", seed, want, m.Lower, m.Upper)
		}
		r := ans.Results[0]
		if r.Count != uint64(len(all)) || r.Nodes != 5000 || r.Min != sketch.Int(all[0]) || r.Max != sketch.Int(all[len(all)-1]) {
			t.Errorf("seed %d: answer %+v for %d values of 5000 nodes", seed, r, len(all))
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMedianTracker_OverAClusterWithinHalfAPercent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, w := newTest(t, Options{})
		tr := c.MedianTracker("values")
		rng := rand.New(rand.NewPCG(1, 1))
		w.make(func(string, string) trouble { // one request in five goes wrong
			if rng.IntN(5) == 0 {
				return trouble(1 + rng.IntN(int(repeated)))
			}
			return none
		})
		n := 0
		all := skewed(5000, 300_000, 11, func(node string, v int64) {
			tr.AddValue(node, v)
			if n++; n%20_000 == 0 {
				time.Sleep(7 * time.Second)
			}
		})
		want := exactMedian(all)
		ans, err := tr.Median(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, _ := ans.Median()
		if e := relativeError(m.Float64(), want); e > 0.005 || ans.Count() != uint64(len(all)) {
			t.Errorf("median of %d values = %v, exact %v of %d: off by %.3f %%", ans.Count(), m.Value, want, len(all), 100*e)
		}
		if m.Lower.Float64() > want || m.Upper.Float64() < want {
			t.Errorf("exact median %v outside [%v, %v]", want, m.Lower, m.Upper)
		}
		s := c.Stats()
		t.Logf("%d values of 5000 nodes: %d bytes raw, %d sketches of %d bytes, %d bytes sent in %d requests",
			s.Values, s.RawBytes, s.Sketches, s.SketchBytes, s.BytesSent, s.Requests)
		if s.BytesSent == 0 || s.BytesSent > s.RawBytes/3 {
			t.Errorf("%d bytes sent for %d raw, want less than a third", s.BytesSent, s.RawBytes)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestMedianTracker_Empty(t *testing.T) {
	f := func(t *testing.T, name string, tr *MedianTracker) {
		t.Helper()
		if m := tr.EstimateMedian(); !math.IsNaN(m) {
			t.Errorf("%s: EstimateMedian() of nothing = %v, want NaN", name, m)
		}
		if _, err := tr.Median(t.Context()); !errors.Is(err, ErrNoData) {
			t.Errorf("%s: Median of nothing: %v, want ErrNoData", name, err)
		}
		if err := tr.Err(); err != nil {
			t.Errorf("%s: Err = %v, want nil", name, err)
		}
		tr.AddValue("a", -100)
		tr.AddValue("b", 101)
		if m := tr.EstimateMedian(); m != 0.5 {
			t.Errorf("%s: EstimateMedian() of -100 and 101 = %v, want 0.5", name, m)
		}
		if err := tr.Close(); err != nil {
			t.Errorf("%s: Close: %v", name, err)
		}
		if err := tr.Close(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: second Close: %v", name, err)
		}
		if _, err := tr.Median(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Median after Close: %v", name, err)
		}
		if m := tr.EstimateMedian(); !math.IsNaN(m) {
			t.Errorf("%s: EstimateMedian() after Close = %v, want NaN", name, m)
		}
		tr.AddValue("a", 1)
		if err := tr.Err(); !holds(err, ReasonClosed) && !refusedFor(err, ReasonClosed) {
			t.Errorf("%s: Err after a late value = %v", name, err)
		}
	}
	memory, err := NewMedianTracker()
	if err != nil {
		t.Fatal(err)
	}
	f(t, "in memory", memory)
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := newTest(t, Options{})
		defer closeNow(t, c)
		f(t, "cluster", c.MedianTracker("values"))
	})
}

func TestMedianTracker_ReportsBadNodes(t *testing.T) {
	f := func(t *testing.T, name string, tr *MedianTracker) {
		t.Helper()
		tr.AddValue("good", 5)
		for _, id := range []string{"", strings.Repeat("x", 257), "nul\x00", "\xff"} {
			tr.AddValue(id, 1)
			if err := tr.AddFloat(id, 1); !refusedFor(err, ReasonBadNode) {
				t.Errorf("%s: AddFloat(%q) = %v, want bad_node", name, id, err)
			}
		}
		if err := tr.AddFloat("good", math.NaN()); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%s: AddFloat(NaN) = %v", name, err)
		}
		if err := tr.AddFloat("good", 5.5); err != nil {
			t.Errorf("%s: AddFloat(5.5) = %v", name, err)
		}
		if m := tr.EstimateMedian(); m < 5.2 || m > 5.3 {
			t.Errorf("%s: EstimateMedian() = %v, want 5.25", name, m)
		}
		ans, err := tr.Median(t.Context())
		e := (*RefusedError)(nil)
		if !errors.As(err, &e) || e.Reason != ReasonBadNode || e.Values != 8 || ans.Count() != 2 {
			t.Errorf("%s: Median = %d values, %v; want 2 values and 8 refused for bad_node", name, ans.Count(), err)
		}
		if _, err := tr.Median(t.Context()); err != nil {
			t.Errorf("%s: second Median = %v, want nil: it was told", name, err)
		}
		if err := tr.Err(); !holds(err, ReasonBadNode) || !holds(err, ReasonNotFinite) {
			t.Errorf("%s: Err = %v, want bad_node and not_finite", name, err)
		}
	}
	memory, err := NewMedianTracker()
	if err != nil {
		t.Fatal(err)
	}
	f(t, "in memory", memory)
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := newTest(t, Options{})
		defer closeNow(t, c)
		f(t, "cluster", c.MedianTracker("values"))
		bad := c.MedianTracker("no good")
		bad.AddValue("a", 1)
		if _, err := bad.Median(t.Context()); err == nil || !holds(bad.Err(), ReasonBadMetric) {
			t.Errorf("tracker of a bad metric: Median %v, Err %v", err, bad.Err())
		}
	})
}

func TestMedianTracker_ManyGoroutines(t *testing.T) {
	f := func(t *testing.T, name string, tr *MedianTracker) {
		t.Helper()
		const goroutines, each = 16, 5000
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for i := range each {
					tr.AddValue(fmt.Sprint("n", (g*7+i)%100), int64(i))
					if i%1000 == 0 {
						tr.EstimateMedian()
					}
				}
			})
		}
		wg.Wait()
		ans, err := tr.Median(t.Context())
		if err != nil || ans.Count() != goroutines*each {
			t.Errorf("%s: %d values, %v; want %d", name, ans.Count(), err, goroutines*each)
		}
	}
	memory, err := NewMedianTracker()
	if err != nil {
		t.Fatal(err)
	}
	f(t, "in memory", memory)
	c, _, _ := newTest(t, Options{FlushEvery: 20 * time.Millisecond})
	defer closeNow(t, c)
	f(t, "cluster", c.MedianTracker("values"))
}

func TestRecorder_ManyGoroutinesOneHandle(t *testing.T) {
	c, f, _ := newTest(t, Options{FlushEvery: 5 * time.Millisecond})
	rec := c.Recorder("n", RecorderOptions{})
	const goroutines, each = 8, 5000
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			h := rec.Metric("m")
			for i := range each {
				switch i % 4 {
				case 0:
					h.AddInt(int64(i))
				case 1:
					h.AddIntAt(time.Unix(int64(i), 0), int64(i))
				case 2:
					if err := h.Add(float64(i) / 3); err != nil {
						t.Error(err)
					}
				case 3:
					rec.AddIntN("m", int64(i), 1)
				}
			}
		})
	}
	wg.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := f.sum("m"); n != goroutines*each {
		t.Errorf("%d values arrived, want %d", n, goroutines*each)
	}
}

func TestMedianTracker_ForgetsSilentNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		defer closeNow(t, c)
		tr := c.MedianTracker("m")
		for i := range 1000 {
			tr.AddValue(fmt.Sprint("n", i), 1)
		}
		for range 80 {
			tr.AddValue("loud", 1)
			time.Sleep(10 * time.Second)
		}
		known := 0
		for i := range tr.shards {
			known += len(tr.shards[i].nodes)
		}
		if known != 1 {
			t.Errorf("%d nodes in memory, want 1", known)
		}
		tr.AddValue("n7", 1)
		if ans, err := tr.Median(t.Context()); err != nil || ans.Count() != 1081 || f.sum("m") != 1081 {
			t.Errorf("%d values, %v; want 1081", ans.Count(), err)
		}
	})
}

func TestMedianTracker_UnavailableIsNaN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, w := newTest(t, Options{})
		defer closeNow(t, c)
		tr := c.MedianTracker("values")
		tr.AddValue("a", 1)
		w.make(func(string, string) trouble { return hang })
		if m := tr.EstimateMedian(); !math.IsNaN(m) {
			t.Errorf("EstimateMedian() without a cluster = %v", m)
		}
		if err := tr.Err(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Err = %v, want ErrUnavailable", err)
		}
		w.make(nil)
		if m := tr.EstimateMedian(); m != 1 {
			t.Errorf("EstimateMedian() with the cluster back = %v, want 1", m)
		}
		if err := tr.Err(); err != nil {
			t.Errorf("Err = %v, want nil", err)
		}
	})
}

func TestNewMedianTracker_RefusesBadAddress(t *testing.T) {
	if _, err := NewMedianTracker("nonsense"); !errors.As(err, new(*window.InputError)) {
		t.Errorf("NewMedianTracker(nonsense) = %v", err)
	}
}

func TestAdd_AllocatesNothingOnceWarm(t *testing.T) {
	c, _, _ := newTest(t, Options{})
	defer closeNow(t, c)
	h := c.Recorder("n", RecorderOptions{}).Metric("m")
	cluster := c.MedianTracker("m")
	memory, err := NewMedianTracker()
	if err != nil {
		t.Fatal(err)
	}
	vs := lognormal(4096, 1)
	add := func() {
		h.AddInts(vs)
		for _, v := range vs[:100] {
			h.AddInt(v)
			h.AddIntN(v, 3)
			h.AddIntAt(time.Unix(77, 0), 5)
			cluster.AddValue("n", v)
			memory.AddValue("n", v)
		}
	}
	add()
	if n := testing.AllocsPerRun(20, add); n > 1 { // the clock may turn in between
		t.Errorf("%v allocations in 4496 adds, want none", n)
	}
}

func TestClient_WarnsOfClockSkew(t *testing.T) {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
		defer closeNow(t, c)
		f.behind = 7 * time.Second
		rec := c.Recorder("n", RecorderOptions{})
		for range 3 {
			rec.AddInt("m", 1)
			if err := rec.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n := strings.Count(out.String(), "own clock differs"); n != 1 {
		t.Errorf("warned %d times, want once:\n%s", n, out.String())
	}
}
