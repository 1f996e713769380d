package api

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

// Any text is refused with a named field, or is a question that, written
// again, is the same question.
func FuzzUnmarshalJSON_Query(f *testing.F) {
	for _, s := range []string{
		`{"metric":"latency_us","last":"1h"}`,
		`{"metric":"m{a=\"b\"}","from":"2h","to":"now","quantiles":[0,0.5,1],"nodes":["a*"],"by":"node","step":"1m"}`,
		`{"metric":"m","read":"stale","max_staleness":"5s","align":"strict"}`,
		`{"metric":"m","metric":"m"}`, `{"maxStaleness":""}`, `{"metric":null}`, `[`, `{"quantiles":["NaN"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dmtv1.QueryRequest
		if err := UnmarshalJSON(b, &m); err != nil {
			mustBeInput(t, b, err)
			return
		}
		again, err := MarshalJSON(&m)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		var n dmtv1.QueryRequest
		if err := UnmarshalJSON(again, &n); err != nil || !proto.Equal(&m, &n) {
			t.Fatalf("%q becomes %s and then %v, %v", b, again, &n, err)
		}
		q, err := QueryFromProto(&m, noon)
		if err != nil {
			mustBeInput(t, b, err)
			return
		}
		if p, err := QueryFromProto(QueryToProto(q), noon); err != nil || p.Span != q.Span || p.Metric != q.Metric || p.Step != q.Step {
			t.Fatalf("%q asks %+v, which is sent as %+v, %v", b, q, p, err)
		}
	})
}

// Every message of the API, read from any text.
func FuzzUnmarshalJSON_Any(f *testing.F) {
	messages := dmtv1.File_dmt_v1_tracker_proto.Messages()
	for i := range messages.Len() {
		empty, err := MarshalJSON(message(messages.Get(i)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), empty)
	}
	f.Add(uint8(0), []byte(`{"batches":[{"producer":"AAECAwQFBgcICQoLDA0ODw==","seq":"1","entries":[{"metric":"m","start":-10}]}]}`))
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		d := messages.Get(int(i) % messages.Len())
		m, n := message(d), message(d)
		if err := UnmarshalJSON(b, m); err != nil {
			mustBeInput(t, b, err)
			return
		}
		again, err := MarshalJSON(m)
		if err != nil {
			t.Fatalf("%s %q: %v", d.Name(), b, err)
		}
		if err := UnmarshalJSON(again, n); err != nil || !proto.Equal(m, n) {
			t.Fatalf("%s %q becomes %s and then %v, %v", d.Name(), b, again, n, err)
		}
	})
}

func message(d protoreflect.MessageDescriptor) proto.Message {
	t, err := typeOf(d)
	if err != nil {
		panic(err)
	}
	return t.New().Interface()
}

func mustBeInput(t *testing.T, b []byte, err error) {
	t.Helper()
	var in *window.InputError
	if !errors.As(err, &in) || in.Field == "" || in.Reason == "" || in.Message == "" {
		t.Fatalf("%q: error %#v names no field", b, err)
	}
}

func typeOf(d protoreflect.MessageDescriptor) (protoreflect.MessageType, error) {
	return protoregistry.GlobalTypes.FindMessageByName(d.FullName())
}
