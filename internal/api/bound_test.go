package api

import (
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
)

func TestProtoCodec_RefusesMoreElementsThanARequestMayHave(t *testing.T) {
	f := func(m proto.Message, wantField string) {
		t.Helper()
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := m.ProtoReflect().New().Interface()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := (protoCodec{}).Unmarshal(b, got); err != nil {
			t.Fatalf("Unmarshal of %d bytes: %v", len(b), err)
		}
		runtime.ReadMemStats(&after)
		in := refusal(got.ProtoReflect().GetUnknown())
		switch {
		case wantField == "" && in != nil:
			t.Errorf("%T of %d bytes refused: %v", m, len(b), in)
		case wantField == "" && !proto.Equal(got, m):
			t.Errorf("%T of %d bytes came back different", m, len(b))
		case wantField != "" && in == nil:
			t.Errorf("%T of %d bytes accepted, want %s refused", m, len(b), wantField)
		case wantField != "" && (in.Field != wantField || in.Reason != ReasonTooManyEntries):
			t.Errorf("%T of %d bytes: refused %s %s, want %s %s", m, len(b), in.Field, in.Reason, wantField, ReasonTooManyEntries)
		}
		if used := after.TotalAlloc - before.TotalAlloc; wantField != "" && used > 1<<20 {
			t.Errorf("%T of %d bytes: %d bytes allocated for a refusal", m, len(b), used)
		}
	}
	entries := func(n int) *dmtv1.Batch { return &dmtv1.Batch{Entries: make([]*dmtv1.Entry, n)} }
	f(&dmtv1.IngestRequest{}, "")
	f(&dmtv1.IngestRequest{Batches: []*dmtv1.Batch{{Seq: 7, Entries: []*dmtv1.Entry{{Metric: "m", Start: -10}}}}}, "")
	f(&dmtv1.IngestRequest{Batches: []*dmtv1.Batch{entries(1), entries(1_000_000)}}, "batches[1].entries")
	f(&dmtv1.IngestRequest{Batches: []*dmtv1.Batch{entries(maxElements - 2), entries(1)}}, "batches[1].entries")
	f(&dmtv1.IngestRequest{Batches: make([]*dmtv1.Batch, 1_000_000)}, "batches")
	f(&dmtv1.AddValuesRequest{Values: make([]int64, MaxValues)}, "")
	f(&dmtv1.AddValuesRequest{Values: make([]int64, 4_000_000)}, "values")
	f(&dmtv1.AddValuesRequest{Floats: make([]float64, 1_000_000)}, "floats")
	f(&dmtv1.QueryRequest{Metric: "m", Nodes: strings.Split(strings.Repeat("x,", maxElements+5), ",")}, "nodes")
}

func TestProtoCodec_LeavesWhatIsNoProtobufToUnmarshal(t *testing.T) {
	for _, b := range []string{"\x0a", "\x0a\xff", "\x0a\x03\x22\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x07"} {
		if err := (protoCodec{}).Unmarshal([]byte(b), &dmtv1.IngestRequest{}); err == nil {
			t.Errorf("Unmarshal(%q) = nil, want an error", b)
		}
	}
}

func TestJSON_RefusesMoreElementsThanARequestMayHave(t *testing.T) {
	f := func(body, wantField string) {
		t.Helper()
		err := UnmarshalJSON([]byte(body), &dmtv1.IngestRequest{})
		if err == nil || !strings.HasPrefix(err.Error(), wantField+": more than") {
			t.Errorf("UnmarshalJSON(%.40s…) = %v, want %s refused", body, err, wantField)
		}
	}
	f(`{"batches":[`+strings.Repeat("{},", 1_000_000)+`{}]}`, "batches")
	f(`{"batches":[{"entries":[`+strings.Repeat("{},", 1_000_000)+`{}]}]}`, "batches[0].entries")
}
