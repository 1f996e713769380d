package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestNew_RefusesBadAddresses(t *testing.T) {
	bad := func(addrs ...string) {
		t.Helper()
		_, err := New(addrs, Options{})
		if in := (*window.InputError)(nil); !errors.As(err, &in) || in.Field != "address" {
			t.Errorf("New(%q) = %v, want an input error of address", addrs, err)
		}
	}
	bad()
	bad("")
	bad("host")
	bad("host:")
	bad("host:0")
	bad("host:99999")
	bad(":7171")
	bad("ftp://host:1")
	bad("http://host:1/path")
	bad("http://user@host:1")
	bad("http://host:1?q=1")
	bad("good:1", "bad host:1")
	good := func(addr, want string) {
		t.Helper()
		if got, err := baseURL(addr); got != want || err != nil {
			t.Errorf("baseURL(%q) = %q, %v, want %q", addr, got, err, want)
		}
	}
	good("host:7171", "http://host:7171")
	good("https://host:7171/", "https://host:7171")
	good("[::1]:7171", "http://[::1]:7171")
}

func TestNew_RefusesBadOptions(t *testing.T) {
	for _, o := range []Options{{FlushEvery: -1}, {MaxInFlight: 9}, {Timeout: -1}, {MaxPendingBytes: -1}} {
		if _, err := New([]string{"a:1"}, o); err == nil {
			t.Errorf("New(%+v) = nil, want an error", o)
		}
	}
}

func TestRecorder_ShipsEveryBucketOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		h := c.Recorder("n1", RecorderOptions{}).Metric("m")
		first := bucketOf(time.Now())
		time.Sleep(500 * time.Millisecond) // off the ends of buckets
		for i := range 30 {
			h.AddInt(int64(i))
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second) // the jitter of the last
		synctest.Wait()
		f.mu.Lock()
		for i := range 3 {
			k := row{"m", "n1", first + int64(i)*10}
			if s := f.rows[k]; s == nil || s.Count() != 10 {
				t.Errorf("bucket %d holds %v, want 10 values", i, s)
			}
		}
		f.mu.Unlock()
		if n := w.called("", "Ingest"); n != 3 {
			t.Errorf("%d requests for three buckets, want 3", n)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRecorder_ShortIntervalShowsOpenBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		c.Recorder("n1", RecorderOptions{FlushEvery: time.Second}).AddInt("m", 7)
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		if n := f.sum("m"); n != 1 {
			t.Errorf("after 1.2 s %d values arrived, want 1", n)
		}
		closeNow(t, c)
	})
}

func TestRecorder_LongIntervalShipsSeveralBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{FlushEvery: time.Minute})
		h := c.Recorder("n1", RecorderOptions{}).Metric("m")
		for range 66 {
			h.AddInt(1)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		f.mu.Lock()
		rows := len(f.rows)
		f.mu.Unlock()
		if n := w.called("", "Ingest"); n != 1 || rows != 6 {
			t.Errorf("%d requests, %d buckets; want 1 and 6", n, rows)
		}
		closeNow(t, c)
	})
}

func TestRecorder_JitterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		h := c.Recorder("n1", RecorderOptions{}).Metric("m")
		late := make(map[time.Duration]bool)
		for range 20 {
			h.AddInt(1)
			before := f.sum("m")
			time.Sleep(time.Until(time.Unix(bucketOf(time.Now())+10, 0)))
			end := time.Now()
			for f.sum("m") == before {
				time.Sleep(10 * time.Millisecond)
				if time.Since(end) > 1100*time.Millisecond {
					t.Fatal("a bucket was not shipped 1.1 s after its end")
				}
			}
			late[time.Since(end)] = true
		}
		if len(late) < 10 {
			t.Errorf("20 shipments were late by %d different times only", len(late))
		}
		closeNow(t, c)
	})
}

func TestHandle_AddIntAtGoesToItsBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		h := c.Recorder("n1", RecorderOptions{}).Metric("m")
		old := time.Date(1969, 12, 31, 23, 59, 55, 0, time.UTC)
		h.AddIntAt(old, 1)
		h.AddIntAt(old.Add(4*time.Second), 2)
		h.AddIntAt(old.Add(5*time.Second), 3)
		if err := h.AddAt(old, 0.5); err != nil {
			t.Error(err)
		}
		for i := range 3 * maxOwnBuckets { // more than a handle holds open
			h.AddIntAt(old.Add(time.Duration(i+1)*10*time.Second), 4)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := f.rows[row{"m", "n1", -10}]; s == nil || s.Count() != 3 {
			t.Errorf("bucket before 1970 = %v, want 3 values", s)
		}
		if n := f.sum("m"); n != 4+3*maxOwnBuckets {
			t.Errorf("%d values arrived, want %d", n, 4+3*maxOwnBuckets)
		}
		h.AddIntAt(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), 1)
		if err := c.Flush(t.Context()); !refusedFor(err, ReasonRange) {
			t.Errorf("Flush after a time beyond 9999 = %v, want a refusal for range", err)
		}
		closeNow(t, c)
	})
}

func refusedFor(err error, reason string) bool {
	var e *RefusedError
	return errors.As(err, &e) && e.Reason == reason
}

func TestClient_LosesNothingToBadInputInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		told := make(map[string]uint64)
		c, f, _ := newTest(t, Options{OnDrop: func(d Dropped) {
			mu.Lock()
			defer mu.Unlock()
			told[d.Reason] += d.Values
		}})
		rec := c.Recorder("n1", RecorderOptions{})
		rec.AddInt("no good", 1)
		rec.Metric("no good").AddInts([]int64{1, 2})
		if err := rec.Add("m", 0/zero); !errors.Is(err, ErrNotFinite) {
			t.Errorf("Add(NaN) = %v", err)
		}
		if err := rec.AddAt("m", time.Now(), 1/zero); !errors.Is(err, ErrNotFinite) {
			t.Errorf("AddAt(Inf) = %v", err)
		}
		rec.AddIntN("m", 5, 1<<41)
		rec.AddIntN("m", 5, 0)
		empty := c.Recorder("", RecorderOptions{})
		empty.AddInt("m", 1)
		if err := empty.Flush(t.Context()); !refusedFor(err, ReasonBadNode) {
			t.Errorf("Flush of a recorder without a node = %v", err)
		}
		err := rec.Flush(t.Context())
		for _, want := range []string{ReasonBadMetric, ReasonNotFinite, ReasonRange} {
			if !holds(err, want) {
				t.Errorf("Flush = %v, want %s in it", err, want)
			}
			if !holds(rec.Err(), want) {
				t.Errorf("Err = %v, want %s in it", rec.Err(), want)
			}
		}
		if err := rec.Flush(t.Context()); err != nil {
			t.Errorf("second Flush = %v, want nil: it was told", err)
		}
		synctest.Wait()
		refused := c.Stats().Refused
		mu.Lock()
		defer mu.Unlock()
		for reason, n := range map[string]uint64{ReasonBadMetric: 3, ReasonNotFinite: 2, ReasonRange: 1 << 41} {
			if refused[reason] != n || told[reason] != n {
				t.Errorf("%s: %d refused, %d told, want %d", reason, refused[reason], told[reason], n)
			}
		}
		if n := f.sum("m"); n != 0 {
			t.Errorf("%d bad values arrived", n)
		}
		closeNow(t, c)
	})
}

var zero float64

// holds reports whether err has a refusal for reason among those joined in it.
func holds(err error, reason string) bool {
	if e, ok := err.(*RefusedError); ok {
		return e.Reason == reason
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			if holds(e, reason) {
				return true
			}
		}
	}
	return false
}

func TestRecorder_SameMetricGivesSameHandle(t *testing.T) {
	c, _, _ := newTest(t, Options{})
	defer closeNow(t, c)
	rec := c.Recorder("n1", RecorderOptions{})
	if rec.Metric(`m{a="1",b="2"}`) != rec.Metric(`m{b="2", a="1"}`) {
		t.Error("another order of labels gives another handle")
	}
	if c.Recorder("n1", RecorderOptions{}).Metric("m") == rec.Metric("m") {
		t.Error("another recorder gives the same handle")
	}
}

func TestClient_ClosedRefusesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		rec := c.Recorder("n1", RecorderOptions{})
		h := rec.Metric("m")
		h.AddInt(1)
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := f.sum("m"); n != 1 {
			t.Errorf("%d values arrived by Close, want 1", n)
		}
		h.AddInt(2)
		rec.AddInt("new", 3)
		c.Recorder("n2", RecorderOptions{}).AddInt("m", 4)
		if err := h.Add(0.5); !refusedFor(err, ReasonClosed) {
			t.Errorf("Add after Close = %v", err)
		}
		if n := c.Stats().Dropped; n != 4 {
			t.Errorf("%d values dropped after Close, want 4", n)
		}
		if err := c.Close(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("second Close = %v", err)
		}
		if _, err := c.Query(t.Context(), window.Query{Metric: "m"}); !errors.Is(err, ErrClosed) {
			t.Errorf("Query after Close = %v", err)
		}
	})
}

func TestRecorder_CloseLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		for range 10 {
			rec := c.Recorder("n1", RecorderOptions{})
			rec.AddInt("m", 1)
			if err := rec.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := rec.Close(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("second Close = %v", err)
			}
			if err := rec.Flush(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("Flush after Close = %v", err)
			}
		}
		if n := len(c.accounts); n != 0 {
			t.Errorf("%d recorders are still known", n)
		}
		if n := f.sum("m"); n != 10 {
			t.Errorf("%d values arrived, want 10", n)
		}
		closeNow(t, c)
	})
}

func TestClient_CoarsensToTheClustersPrecision(t *testing.T) {
	for p := sketch.MinPrecision; p <= sketch.MaxPrecision; p++ {
		synctest.Test(t, func(t *testing.T) {
			c, f, _ := newTest(t, Options{})
			f.precision = p
			want := sketch.New(p)
			h := c.Recorder("n1", RecorderOptions{}).Metric("m")
			for round := range 2 { // the first is encoded before p is known
				for i := range 1000 {
					h.AddInt(int64(i * i * (round + 1)))
					want.AddInt(int64(i * i * (round + 1)))
				}
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			got, _ := f.total("m")
			a, _ := got.MarshalBinary()
			b, _ := want.MarshalBinary()
			if string(a) != string(b) {
				t.Errorf("precision %d: stored sketch differs from that of the values", p)
			}
			if f.statuses != 1 {
				t.Errorf("asked for the settings %d times", f.statuses)
			}
			closeNow(t, c)
		})
	}
}

func TestQuery_TypedErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		defer closeNow(t, c)
		ctx := t.Context()
		if _, err := c.Query(ctx, window.Query{Metric: "m"}); !errors.Is(err, ErrUnknownMetric) {
			t.Errorf("unknown metric: %v", err)
		}
		c.Recorder("n1", RecorderOptions{}).AddInts("m", []int64{1, 2, 9})
		if err := c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		ans, err := c.Query(ctx, window.Query{Metric: "m"})
		if m, ok := ans.Median(); err != nil || !ok || m.Value != sketch.Int(2) || ans.Count() != 3 {
			t.Errorf("Query = %+v, %v; want median 2 of 3", ans, err)
		}
		if _, err := c.Query(ctx, window.Query{Metric: "m", Span: window.Last(time.Hour)}); !errors.Is(err, ErrNoData) {
			t.Errorf("empty window: %v", err)
		}
		bad := func(field string, q window.Query) {
			t.Helper()
			_, err := c.Query(ctx, q)
			if e := (*RefusedError)(nil); !errors.As(err, &e) || e.Field != field {
				t.Errorf("Query(%+v) = %v, want a refusal of %s", q, err, field)
			}
		}
		bad("metric", window.Query{Metric: "no good"})
		bad("quantiles[0]", window.Query{Metric: "m", Quantiles: []float64{1.5}})
		bad("quantiles[0]", window.Query{Metric: "m", Quantiles: []float64{0 / zero}})
		bad("from", window.Query{Metric: "m", Span: window.Between(time.Unix(10, 0), time.Unix(0, 0))})

		w.make(func(string, string) trouble { return lost })
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if _, err := c.Query(short, window.Query{Metric: "m"}); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Query without a network = %v", err)
		}
		start := time.Now()
		if _, err := c.Query(ctx, window.Query{Metric: "m"}); !errors.Is(err, ErrUnavailable) || time.Since(start) > patience+time.Second {
			t.Errorf("Query without a network or deadline = %v after %v", err, time.Since(start))
		}
		cancelled, stop := context.WithCancel(ctx)
		stop()
		if _, err := c.Query(cancelled, window.Query{Metric: "m"}); !errors.Is(err, context.Canceled) {
			t.Errorf("Query with a cancelled context = %v", err)
		}
		_ = f
	})
}

func TestQuery_RetriesThroughTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, w := newTest(t, Options{})
		defer closeNow(t, c)
		c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		w.make(func(string, string) trouble {
			n++
			return []trouble{lost, mute, hang, lost, none}[(n-1)%5]
		})
		if _, err := c.Query(t.Context(), window.Query{Metric: "m"}); err != nil {
			t.Error(err)
		}
	})
}

func TestAddValues_CountedOnceOverLostAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		defer closeNow(t, c)
		n := 0
		w.make(func(string, string) trouble {
			if n++; n < 4 {
				return mute
			}
			return none
		})
		got, err := c.AddValues(t.Context(), "m", "n1", []int64{1, 2}, []float64{0.5}, "")
		if got != 3 || err != nil || f.applied != 1 {
			t.Errorf("AddValues = %d, %v, applied %d times; want 3, nil, 1", got, err, f.applied)
		}
		if _, err := c.AddValues(t.Context(), "m", "", nil, nil, ""); !errors.As(err, new(*RefusedError)) {
			t.Errorf("AddValues without a node = %v", err)
		}
		if _, err := c.AddValues(t.Context(), "", "n", nil, nil, ""); !errors.As(err, new(*RefusedError)) {
			t.Errorf("AddValues without a metric = %v", err)
		}
	})
}

// follower answers everything with the leader's address.
type follower struct {
	*fake
	leader string
}

func (f follower) Ingest(context.Context, *connect.Request[dmtv1.IngestRequest]) (*connect.Response[dmtv1.IngestResponse], error) {
	return nil, api.Error(connect.CodeUnavailable, api.ErrorDetail{Reason: api.ReasonNoLeader, Leader: f.leader}, "not the leader")
}

func TestClient_FollowsTheLeader(t *testing.T) {
	for _, leader := range []string{"c:1", "stranger:1"} {
		synctest.Test(t, func(t *testing.T) {
			c, f, w := newTest(t, Options{})
			defer closeNow(t, c)
			for _, h := range []string{"a:1", "b:1", "c:1"} {
				w.serve(h, follower{f, leader})
			}
			w.serve(leader, f)
			start := time.Now()
			for range 3 {
				c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n := w.called(leader, "Ingest"); n != 3 {
				t.Errorf("%d requests at the leader, want 3", n)
			}
			if n := w.called("", "Ingest"); n != 4 {
				t.Errorf("%d requests in all, want 4: one before the leader was known", n)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("following took %v, want no wait", d)
			}
			// The leader goes away: any other member is tried again.
			w.make(func(host, _ string) trouble {
				if host == leader {
					return lost
				}
				return none
			})
			w.serve("b:1", f)
			if leader == "c:1" {
				w.serve("a:1", follower{f, "b:1"})
			}
			c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := c.Flush(ctx); err != nil {
				t.Errorf("Flush after the leader was lost = %v", err)
			}
		})
	}
}

func TestClient_IgnoresALeaderThatIsNoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f, w := newTest(t, Options{})
		defer closeNow(t, c)
		w.serve("a:1", follower{f, "http://evil/../:x"})
		c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Flush(ctx); err != nil {
			t.Errorf("Flush = %v", err)
		}
	})
}

// broken answers every question with an error of its own.
type broken struct {
	*fake
	code connect.Code
}

func (b broken) Query(context.Context, *connect.Request[dmtv1.QueryRequest]) (*connect.Response[dmtv1.QueryResponse], error) {
	return nil, connect.NewError(b.code, errors.New("broken"))
}

func TestQuery_AsksOthersAboutOneMembersFault(t *testing.T) {
	for _, code := range []connect.Code{connect.CodeDataLoss, connect.CodeInternal, connect.CodeUnimplemented} {
		synctest.Test(t, func(t *testing.T) {
			c, f, w := newTest(t, Options{})
			defer closeNow(t, c)
			c.Recorder("n1", RecorderOptions{}).AddInt("m", 1)
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.serve("a:1", broken{f, code})
			w.serve("b:1", broken{f, code})
			if _, err := c.Query(t.Context(), window.Query{Metric: "m"}); err != nil {
				t.Errorf("%v at two members: %v", code, err)
			}
			w.serve("c:1", broken{f, code})
			if _, err := c.Query(t.Context(), window.Query{Metric: "m"}); !refusedFor(err, code.String()) {
				t.Errorf("%v at all members: %v", code, err)
			}
		})
	}
}
