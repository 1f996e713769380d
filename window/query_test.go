package window

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestQuery_Check_FillsIn(t *testing.T) {
	got, err := Query{Metric: `m{b="1",a="2"}`, Span: Last(time.Hour)}.Check(noon, TenSeconds)
	if err != nil {
		t.Fatal(err)
	}
	if got.Metric != `m{a="2",b="1"}` || got.Span != (Span{From: noon.Unix() - 3600, To: noon.Unix() + 1}) || !slices.Equal(got.Quantiles, []float64{0.5}) {
		t.Errorf("checked query %+v", got)
	}
	again, err := got.Check(noon.Add(time.Hour), TenSeconds)
	if err != nil || again.Span != got.Span || again.Metric != got.Metric {
		t.Errorf("checked twice: %+v, %v", again, err)
	}
	all, err := Query{Metric: "m", Step: time.Minute}.Check(noon, TenSeconds)
	if err != nil || !all.Span.IsAll() {
		t.Errorf("all time by the minute: %+v, %v", all, err)
	}
}

func TestQuery_Check_Refuses(t *testing.T) {
	f := func(field, want string, change func(*Query)) {
		t.Helper()
		q := Query{Metric: "m", Span: Between(noon, noon.Add(time.Hour))}
		if _, err := q.Check(noon, TenSeconds); err != nil {
			t.Fatalf("before the change: %v", err)
		}
		change(&q)
		_, err := q.Check(noon, TenSeconds)
		in, ok := err.(*InputError)
		if !ok || in.Field != field || in.Reason != want {
			t.Errorf("%+v: error %v, want field %s, reason %s", q, err, field, want)
		}
	}
	f("metric", ReasonEmpty, func(q *Query) { q.Metric = "" })
	f("metric", ReasonBadMetric, func(q *Query) { q.Metric = "a b" })
	f("from", ReasonRange, func(q *Query) { q.Span = Between(noon, noon) })
	f("last", ReasonRange, func(q *Query) { q.Span = Last(0) })
	f("quantiles[1]", ReasonRange, func(q *Query) { q.Quantiles = []float64{0, 1.0001} })
	f("quantiles[0]", ReasonRange, func(q *Query) { q.Quantiles = []float64{-1} })
	f("quantiles[0]", ReasonNotFinite, func(q *Query) { q.Quantiles = []float64{math.NaN()} })
	f("quantiles[0]", ReasonNotFinite, func(q *Query) { q.Quantiles = []float64{math.Inf(1)} })
	f("quantiles", ReasonTooMany, func(q *Query) { q.Quantiles = make([]float64, MaxQuantiles+1) })
	f("nodes[0]", ReasonBadGlob, func(q *Query) { q.Nodes = []string{"["} })
	f("step", ReasonRange, func(q *Query) { q.Step = -time.Minute })
	f("step", ReasonRange, func(q *Query) { q.Step = 15 * time.Second })
	f("step", ReasonRange, func(q *Query) { q.Step = 10*time.Second + 1 })
	f("step", ReasonTooMany, func(q *Query) { q.Span.To = q.Span.From + (MaxPoints+1)*10; q.Step = 10 * time.Second })
	f("align", ReasonUnknown, func(q *Query) { q.Align = 2 })
	f("from", ReasonNotAligned, func(q *Query) { q.Align = Strict; q.Span.From++ })
	f("to", ReasonNotAligned, func(q *Query) { q.Align = Strict; q.Span.To++ })
	f("last", ReasonNotAligned, func(q *Query) { q.Align = Strict; q.Span = Last(time.Hour) })
	f("read", ReasonUnknown, func(q *Query) { q.Read = 3 })
	f("max_staleness", ReasonRange, func(q *Query) { q.Read = Stale; q.MaxStaleness = -1 })
	f("max_staleness", ReasonConflict, func(q *Query) { q.MaxStaleness = time.Second })
}

func TestQuery_Check_TakesAsManyPointsAsAllowed(t *testing.T) {
	s := Span{From: noon.Unix(), To: noon.Unix() + MaxPoints*10}
	if _, err := (Query{Metric: "m", Span: s, Step: 10 * time.Second}).Check(noon, TenSeconds); err != nil {
		t.Error(err)
	}
}

// The points of a span are disjoint, and every time lies in its own.
func TestQuery_PointsTileTheSpan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := Query{Step: 10 * time.Second * time.Duration(rapid.IntRange(0, 20).Draw(t, "step"))}
		from := rapid.Int64Range(-100, 100).Draw(t, "from") * 10
		covered := Span{From: from, To: from + 10*rapid.Int64Range(1, 100).Draw(t, "length")}
		next := covered.From
		for next < covered.To {
			p := q.Point(next, covered)
			if p.From != next || p.Empty() || q.Point(p.To-1, covered) != p {
				t.Fatalf("the point of %d in %v is %v", next, covered, p)
			}
			if q.Step > 0 && p.To != covered.To && !(Span{From: p.To, To: p.To}).Aligned(Width(q.Step/time.Second)) {
				t.Fatalf("point %v does not end at a multiple of %v", p, q.Step)
			}
			next = p.To
		}
	})
}

func TestReadAndAlign_RoundTrip(t *testing.T) {
	for _, r := range []Read{Linearizable, Leader, Stale} {
		if got, err := ParseRead(r.String()); err != nil || got != r {
			t.Errorf("ParseRead(%q) = %v, %v", r, got, err)
		}
	}
	for _, a := range []Align{Outward, Strict} {
		if got, err := ParseAlign(a.String()); err != nil || got != a {
			t.Errorf("ParseAlign(%q) = %v, %v", a, got, err)
		}
	}
	if got, err := ParseRead(""); err != nil || got != Linearizable {
		t.Errorf("ParseRead of nothing = %v, %v", got, err)
	}
	if _, err := ParseRead("Leader"); reason(err) != ReasonUnknown {
		t.Errorf("ParseRead(Leader): %v", err)
	}
	if _, err := ParseAlign("inward"); reason(err) != ReasonUnknown {
		t.Errorf("ParseAlign(inward): %v", err)
	}
	if got := Read(9).String(); got != "unknown(9)" {
		t.Errorf("Read(9) is shown as %q", got)
	}
}

func TestAnswer_Median(t *testing.T) {
	median := QuantileEstimate{0.5, sketch.Estimate{Value: sketch.Int(7)}}
	one := Result{Count: 3, Estimates: []QuantileEstimate{{Q: 0.9}, median}}
	if got, ok := (Answer{Results: []Result{one}}).Median(); !ok || got != median.Estimate {
		t.Errorf("Median() = %v, %v", got, ok)
	}
	if got, ok := (Answer{Results: []Result{one, one}}).Median(); ok {
		t.Errorf("the median of two results is %v", got)
	}
	if got, ok := (Answer{}).Median(); ok {
		t.Errorf("the median of nothing is %v", got)
	}
	if got, ok := one.Quantile(0.25); ok {
		t.Errorf("a quantile not asked for is %v", got)
	}
	if got := (Answer{Results: []Result{one, one}}).Count(); got != 6 {
		t.Errorf("Count() = %d, want 6", got)
	}
}
