package api

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestQueryFromProto_Span(t *testing.T) {
	u := noon.Unix()
	f := func(last, from, to string, want window.Span) {
		t.Helper()
		q, err := QueryFromProto(&dmtv1.QueryRequest{Metric: "m", Last: last, From: from, To: to}, noon)
		if err != nil || q.Span != want {
			t.Errorf("last %q from %q to %q: %v, %v, want %v", last, from, to, q.Span, err, want)
		}
	}
	f("", "", "", window.All())
	f("1h", "", "", window.Last(time.Hour))
	f("", "2026-11-23T10:00Z", "2026-11-23T11:00Z", window.Span{From: u - 7200, To: u - 3600})
	f("", "2h", "1h", window.Span{From: u - 7200, To: u - 3600})
	f("", "2h", "", window.Span{From: u - 7200, To: u + 1})
	f("", "", "1h", window.Span{From: window.MinTime, To: u - 3600})
	f("", "-10", "0", window.Span{From: -10, To: 0})
}

func TestQueryFromProto_NamesTheField(t *testing.T) {
	f := func(field, reason string, r *dmtv1.QueryRequest) {
		t.Helper()
		if r.Metric == "" {
			r.Metric = "m"
		}
		q, err := QueryFromProto(r, noon)
		var in *window.InputError
		if !errors.As(err, &in) || in.Field != field || in.Reason != reason {
			t.Errorf("%v: %+v, %v, want field %s, reason %s", r, q, err, field, reason)
		}
	}
	f("metric", ReasonBadMetric, &dmtv1.QueryRequest{Metric: "a b"})
	f("last", window.ReasonConflict, &dmtv1.QueryRequest{Last: "1h", To: "now"})
	f("last", ReasonBadTime, &dmtv1.QueryRequest{Last: "soon"})
	f("last", ReasonRange, &dmtv1.QueryRequest{Last: "0s"})
	f("last", ReasonRange, &dmtv1.QueryRequest{Last: "-5m"})
	f("from", ReasonBadTime, &dmtv1.QueryRequest{From: "soon"})
	f("to", ReasonBadTime, &dmtv1.QueryRequest{To: "soon"})
	f("from", ReasonRange, &dmtv1.QueryRequest{From: "1h", To: "2h"})
	f("from", ReasonRange, &dmtv1.QueryRequest{From: "0", To: "0"}) // not all time
	f("from", ReasonRange, &dmtv1.QueryRequest{From: "1795435200000"})
	f("quantiles[1]", ReasonRange, &dmtv1.QueryRequest{Quantiles: []float64{0, 2}})
	f("quantiles[0]", ReasonNotFinite, &dmtv1.QueryRequest{Quantiles: []float64{math.NaN()}})
	f("nodes[1]", window.ReasonBadGlob, &dmtv1.QueryRequest{Nodes: []string{"a", "["}})
	f("by", window.ReasonUnknown, &dmtv1.QueryRequest{By: "metric"})
	f("step", ReasonBadTime, &dmtv1.QueryRequest{Step: "1"})
	f("step", ReasonRange, &dmtv1.QueryRequest{Step: "0s"})
	f("step", ReasonRange, &dmtv1.QueryRequest{Step: "1500ms"})
	f("step", ReasonTooMany, &dmtv1.QueryRequest{Last: "30d", Step: "1s"})
	f("read", window.ReasonUnknown, &dmtv1.QueryRequest{Read: "dirty"})
	f("align", window.ReasonUnknown, &dmtv1.QueryRequest{Align: "in"})
	f("max_staleness", window.ReasonConflict, &dmtv1.QueryRequest{MaxStaleness: "5s"})
	f("max_staleness", ReasonBadTime, &dmtv1.QueryRequest{Read: "stale", MaxStaleness: "x"})
}

func genSpan() *rapid.Generator[window.Span] {
	return rapid.Custom(func(t *rapid.T) window.Span {
		switch rapid.IntRange(0, 2).Draw(t, "form") {
		case 0:
			return window.All()
		case 1:
			return window.Last(time.Duration(rapid.Int64Range(1, 1<<62).Draw(t, "last")))
		}
		from := rapid.Int64Range(window.MinTime, window.MaxTime-2).Draw(t, "from")
		return window.Span{From: from, To: rapid.Int64Range(from+1, window.MaxTime-1).Draw(t, "to")}
	})
}

func TestQuery_RoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := window.Query{
			Metric: "m", Span: genSpan().Draw(t, "span"),
			Quantiles: rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 5).Draw(t, "quantiles"),
			Nodes:     rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b*", `\[`}), 0, 3).Draw(t, "nodes"),
			ByNode:    rapid.Bool().Draw(t, "by node"),
			Align:     rapid.SampledFrom([]window.Align{window.Outward, window.Strict}).Draw(t, "align"),
			Read:      rapid.SampledFrom([]window.Read{window.Linearizable, window.Leader, window.Stale}).Draw(t, "read"),
		}
		if want.Read == window.Stale {
			want.MaxStaleness = time.Duration(rapid.Int64Min(0).Draw(t, "staleness"))
		}
		if want.Span.IsAll() {
			want.Step = time.Second * time.Duration(rapid.IntRange(0, 1e6).Draw(t, "step"))
		}
		if _, relative := want.Span.Relative(); relative && want.Align == window.Strict {
			want.Align = window.Outward
		}
		got, err := QueryFromProto(QueryToProto(want), noon)
		if len(got.Nodes) == 0 {
			got.Nodes = want.Nodes // nil or empty
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("round trip gives %+v, %v, want %+v", got, err, want)
		}
	})
}

func TestQueryToProto_YearTenThousandStaysReadable(t *testing.T) {
	q := window.Query{Metric: "m", Span: window.Span{From: 0, To: window.MaxTime}}
	got, err := QueryFromProto(QueryToProto(q), noon)
	if err != nil || got.Span != (window.Span{From: 0, To: window.MaxTime - 1}) {
		t.Errorf("round trip gives %v, %v", got.Span, err)
	}
}
