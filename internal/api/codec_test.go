package api

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

var update = flag.Bool("update", false, "write the golden files anew")

// float is a Number that the test knows to be finite.
func float(t testing.TB, f float64) sketch.Number {
	t.Helper()
	n, err := sketch.Float(f)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sampleAnswer has one of everything that an answer may hold.
func sampleAnswer(t testing.TB) window.Answer {
	from := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC).Unix()
	hour := window.Span{From: from, To: from + 3600}
	return window.Answer{
		Metric: `latency_us{route="/cart"}`, Asked: window.Span{From: from + 3, To: from + 3597}, Span: hour,
		Read: window.Linearizable, AppliedIndex: 4711, BucketsMerged: 42,
		Results: []window.Result{
			{
				Node: window.AllNodes, Span: hour, Count: 123456, Min: sketch.Int(3), Max: sketch.Int(98211), Nodes: 1000,
				Estimates: []window.QuantileEstimate{{Q: 0.5, Estimate: sketch.Estimate{
					Value: sketch.Int(20013), Lower: sketch.Int(20001), Upper: float(t, 20054.5), MaxRelativeError: 0.0021,
				}}},
			},
			{
				Node: "web-1", Span: hour, Count: math.MaxUint64, Min: sketch.Int(math.MinInt64), Max: sketch.Int(math.MaxInt64), Nodes: 1,
				Estimates: []window.QuantileEstimate{
					{Q: 0, Estimate: sketch.Estimate{
						Value: sketch.Int(math.MinInt64), Lower: sketch.Int(math.MinInt64), Upper: sketch.Int(math.MinInt64), Exact: true,
					}},
					{Q: 0.5, Estimate: sketch.Estimate{
						Value: float(t, 0.25), Lower: sketch.Int(-(1<<53 + 1)), Upper: sketch.Int(1 << 53), MaxRelativeError: math.Inf(1),
					}},
					{Q: 1, Estimate: sketch.Estimate{
						Value: float(t, 1e300), Lower: float(t, 5e-324), Upper: float(t, math.MaxFloat64), MaxRelativeError: 1,
					}},
				},
			},
		},
	}
}

func golden(t *testing.T, name string, m proto.Message) {
	t.Helper()
	got, err := MarshalJSON(m)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want = bytes.TrimSuffix(want, []byte("\n")); !bytes.Equal(got, want) {
		t.Errorf("JSON is\n%s\nwant, of %s,\n%s", got, name, want)
	}
	back := m.ProtoReflect().New().Interface()
	if err := UnmarshalJSON(want, back); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
	if !proto.Equal(back, m) {
		t.Errorf("%s reads as\n%v\nwant\n%v", name, back, m)
	}
}

func TestGolden_QueryResponse(t *testing.T) {
	golden(t, "query_response.json", AnswerToProto(sampleAnswer(t)))
	golden(t, "query_response_no_data.json", AnswerToProto(window.Answer{Metric: "m", Read: window.Stale, AppliedIndex: 1}))
}

func TestGolden_QueryRequest(t *testing.T) {
	golden(t, "query_request.json", QueryToProto(window.Query{
		Metric: "latency_us", Span: window.Last(time.Hour), Quantiles: []float64{0.5, 0.9}, Nodes: []string{"web-*"},
		ByNode: true, Step: time.Minute, Align: window.Strict, Read: window.Stale, MaxStaleness: 5 * time.Second,
	}))
	golden(t, "query_request_span.json", QueryToProto(window.Query{
		Metric: "latency_us", Span: window.Span{From: 1795428000, To: 1795431600},
	}))
}

// The object of the command line's manual, word for word.
func TestQueryResponse_ReadsTheManual(t *testing.T) {
	manual := `{"metric":"latency_us",
     "from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z",
     "read":"linearizable","applied_index":"4711","buckets_merged":42,
     "results":[
       {"node":"*","from":"2026-11-23T10:00:00Z","to":"2026-11-23T11:00:00Z","count":"123456","min":3,"max":98211,"nodes":1000,
        "estimates":[{"q":0.5,"value":20013,"lower":20001,"upper":20054,"max_relative_error":0.0021,"exact":false}]}]}`
	var m dmtv1.QueryResponse
	if err := UnmarshalJSON([]byte(manual), &m); err != nil {
		t.Fatal(err)
	}
	got, err := MarshalJSON(&m)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for _, r := range manual {
		if r != ' ' && r != '\n' {
			want.WriteRune(r)
		}
	}
	if string(got) != want.String() {
		t.Errorf("written again it is\n%s\nwant\n%s", got, want.String())
	}
}

func TestUnmarshalJSON_ReadsWhatCurlSends(t *testing.T) {
	var q dmtv1.QueryRequest
	if err := UnmarshalJSON([]byte(` {"metric":"latency_us","last":"1h"} `), &q); err != nil || q.Metric != "latency_us" || q.Last != "1h" {
		t.Errorf("query: %v, %v", &q, err)
	}
	var v dmtv1.AddValuesRequest
	in := `{"metric":"m","node":"n","values":[12,-15,"9223372036854775807",-9223372036854775808,9007199254740993],"floats":[0.25,1e3,-0.0,7]}`
	want := &dmtv1.AddValuesRequest{
		Metric: "m", Node: "n", Values: []int64{12, -15, math.MaxInt64, math.MinInt64, 1<<53 + 1},
		Floats: []float64{0.25, 1000, math.Copysign(0, -1), 7},
	}
	if err := UnmarshalJSON([]byte(in), &v); err != nil || !proto.Equal(&v, want) {
		t.Errorf("values: %v, %v, want %v", &v, err, want)
	}
	if err := UnmarshalJSON([]byte("{}"), &dmtv1.StatusRequest{}); err != nil {
		t.Errorf("an empty object: %v", err)
	}
}

func TestUnmarshalJSON_RefusesByPath(t *testing.T) {
	f := func(m proto.Message, in, field, reason string) {
		t.Helper()
		err := UnmarshalJSON([]byte(in), m)
		var bad *window.InputError
		if !errors.As(err, &bad) || bad.Field != field || bad.Reason != reason {
			t.Errorf("%.80s: error %v, want field %s, reason %s", in, err, field, reason)
		}
	}
	query := func(in, field, reason string) { t.Helper(); f(&dmtv1.QueryRequest{}, in, field, reason) }
	query("", "body", ReasonEmpty)
	query(" \n", "body", ReasonEmpty)
	query("[]", "body", ReasonBadJSON)
	query("null", "body", ReasonBadJSON)
	query("{", "body", ReasonBadJSON)
	query("{} {}", "body", ReasonBadJSON)
	query("{}x", "body", ReasonBadJSON)
	query(`{"metric":"m",}`, "body", ReasonBadJSON)
	query(`{metric:"m"}`, "body", ReasonBadJSON)
	query(`{"metric" "m"}`, "metric", ReasonBadJSON)
	query(`{"metrik":"m"}`, "metrik", ReasonUnknownField)
	query(`{"Metric":"m"}`, "Metric", ReasonUnknownField)
	query(`{"maxStaleness":"5s"}`, "maxStaleness", ReasonUnknownField)
	query(`{"":"m"}`, "body", ReasonUnknownField)
	query(`{"metric":"m","metric":"m"}`, "metric", ReasonDuplicate)
	query(`{"metric":"m","m\u0065tric":"m"}`, "metric", ReasonDuplicate)
	query(`{"metric":null}`, "metric", ReasonNull)
	query(`{"quantiles":null}`, "quantiles", ReasonNull)
	query(`{"quantiles":[0.5,null]}`, "quantiles[1]", ReasonNull)
	query(`{"quantiles":0.5}`, "quantiles", ReasonBadJSON)
	query(`{"quantiles":[[0.5]]}`, "quantiles[0]", ReasonBadJSON)
	query(`{"quantiles":["0.5"]}`, "quantiles[0]", ReasonBadJSON)
	query(`{"quantiles":["NaN"]}`, "quantiles[0]", ReasonNotFinite)
	query(`{"quantiles":[1e999]}`, "quantiles[0]", ReasonRange)
	query(`{"quantiles":[.5]}`, "quantiles[0]", ReasonBadJSON)
	query(`{"last":3600}`, "last", ReasonBadJSON)
	query(`{"last":{}}`, "last", ReasonBadJSON)
	query(`{"nodes":["a",true]}`, "nodes[1]", ReasonBadJSON)
	query("{\"metric\":\"\xff\"}", "body", ReasonBadJSON)
	query(strings.Repeat(`{"metric":`, 1000), "metric", ReasonBadJSON)

	values := func(in, field, reason string) { t.Helper(); f(&dmtv1.AddValuesRequest{}, in, field, reason) }
	values(`{"values":[1,2.5]}`, "values[1]", ReasonBadJSON)
	values(`{"values":[1.0]}`, "values[0]", ReasonBadJSON)
	values(`{"values":[1e3]}`, "values[0]", ReasonBadJSON)
	values(`{"values":["+1"]}`, "values[0]", ReasonBadJSON)
	values(`{"values":["007"]}`, "values[0]", ReasonBadJSON)
	values(`{"values":[""]}`, "values[0]", ReasonBadJSON)
	values(`{"values":["-"]}`, "values[0]", ReasonBadJSON)
	values(`{"values":[9223372036854775808]}`, "values[0]", ReasonRange)
	values(`{"values":[NaN]}`, "values[0]", ReasonBadJSON)
	values(`{"floats":["-Infinity"]}`, "floats[0]", ReasonNotFinite)

	ingest := func(in, field, reason string) { t.Helper(); f(&dmtv1.IngestRequest{}, in, field, reason) }
	ingest(`{"batches":[{},{"entries":[{},{"sketch":"*"}]}]}`, "batches[1].entries[1].sketch", ReasonBadJSON)
	ingest(`{"batches":[{"clusterId":"x"}]}`, "batches[0].clusterId", ReasonUnknownField)
	ingest(`{"batches":[{"seq":-1}]}`, "batches[0].seq", ReasonRange)
	ingest(`{"batches":[{"seq":true}]}`, "batches[0].seq", ReasonBadJSON)
	ingest(`{"batches":{}}`, "batches", ReasonBadJSON)
	ingest(`{"batches":[1]}`, "batches[0]", ReasonBadJSON)

	f(&dmtv1.JoinRequest{}, `{"precision":4294967296}`, "precision", ReasonRange)
	f(&dmtv1.JoinRequest{}, `{"voter":1}`, "voter", ReasonBadJSON)
	f(&dmtv1.IngestResponse{}, `{"results":[{"status":"LOST"}]}`, "results[0].status", ReasonBadJSON)
	f(&dmtv1.HeartbeatResponse{}, `{"format_versions":{"log":1,"log":2}}`, "format_versions.log", ReasonDuplicate)
	f(&dmtv1.HeartbeatResponse{}, `{"format_versions":{"log":null}}`, "format_versions.log", ReasonNull)
	f(&dmtv1.HeartbeatResponse{}, `{"format_versions":[]}`, "format_versions", ReasonBadJSON)
	f(&dmtv1.QueryResponse{}, `{"from":"today"}`, "from", ReasonBadTime)
	f(&dmtv1.QueryResponse{}, `{"from":null}`, "from", ReasonNull)
	f(&dmtv1.QueryResponse{}, `{"results":[{"min":[1]}]}`, "results[0].min", ReasonBadJSON)
	f(&dmtv1.QueryResponse{}, `{"results":[{"min":true}]}`, "results[0].min", ReasonBadJSON)
}

// A question about many nodes has an answer longer than any request.
func TestUnmarshalJSON_ReadsLongAnswers(t *testing.T) {
	want := &dmtv1.NodesResponse{Nodes: make([]*dmtv1.NodeInfo, maxElements+1)}
	for i := range want.Nodes {
		want.Nodes[i] = &dmtv1.NodeInfo{Node: "n", Count: uint64(i)}
	}
	text, err := MarshalJSON(want)
	if err != nil {
		t.Fatal(err)
	}
	var got dmtv1.NodesResponse
	if err := UnmarshalJSON(text, &got); err != nil || !proto.Equal(&got, want) {
		t.Errorf("an answer of %d nodes reads as one of %d, %v", len(want.Nodes), len(got.Nodes), err)
	}
}

func TestMarshalJSON_PrintsDefaultsAndSortsMaps(t *testing.T) {
	f := func(m proto.Message, want string) {
		t.Helper()
		for range 20 { // protojson varies its blanks by build, maps by run
			got, err := MarshalJSON(m)
			if err != nil || string(got) != want {
				t.Fatalf("JSON is %s, %v, want %s", got, err, want)
			}
		}
	}
	f(&dmtv1.MetricsResponse{}, `{"metrics":[],"applied_index":"0"}`)
	f(&dmtv1.HeartbeatResponse{FormatVersions: map[string]uint32{"b": 1, "a": 2, "c": 3}},
		`{"id":"","wall_ms":"0","free_disk_bytes":"0","applied_index":"0","version":"","format_versions":{"a":2,"b":1,"c":3}}`)
	f(&dmtv1.BatchResult{Status: dmtv1.BatchResult_DUPLICATE},
		`{"status":"DUPLICATE","accepted":"0","refused":[],"refused_count":"0","applied_index":"0"}`)
}

func TestJSON_RoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &dmtv1.IngestRequest{Batches: []*dmtv1.Batch{{
			Producer: rapid.SliceOf(rapid.Byte()).Draw(t, "producer"), Seq: rapid.Uint64().Draw(t, "seq"),
			SeenMs: rapid.Int64().Draw(t, "seen"), ClusterId: rapid.String().Draw(t, "cluster"),
			Entries: []*dmtv1.Entry{{Metric: rapid.String().Draw(t, "metric"), Start: rapid.Int64().Draw(t, "start")}},
		}}}
		roundTrip(t, want, &dmtv1.IngestRequest{})
		floats := &dmtv1.AddValuesRequest{
			Values: rapid.SliceOf(rapid.Int64()).Draw(t, "values"), Floats: rapid.SliceOf(rapid.Float64()).Draw(t, "floats"),
		}
		roundTrip(t, floats, &dmtv1.AddValuesRequest{})
	})
}

func roundTrip(t *rapid.T, want, got proto.Message) {
	text, err := MarshalJSON(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := UnmarshalJSON(text, got); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if !proto.Equal(got, want) {
		t.Fatalf("%s reads as %v, want %v", text, got, want)
	}
}

func BenchmarkUnmarshalJSON(b *testing.B) {
	in := []byte(`{"metric":"m","node":"n","values":[` + strings.Repeat("123456,", 9999) + `7]}`)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if err := UnmarshalJSON(in, &dmtv1.AddValuesRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}
