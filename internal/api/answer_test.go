package api

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestAnswer_RoundTripsThroughBytesAndJSON(t *testing.T) {
	for name, want := range map[string]window.Answer{
		"sample":  sampleAnswer(t),
		"no data": {Metric: "m", Read: window.Stale, AppliedIndex: 7},
		"empty sketch": {Metric: "m", Results: []window.Result{
			{Node: "*", Estimates: []window.QuantileEstimate{{Q: 0.5, Estimate: sketch.Estimate{Empty: true}}}},
		}},
	} {
		binary, err := proto.Marshal(AnswerToProto(want))
		if err != nil {
			t.Fatal(err)
		}
		var m dmtv1.QueryResponse
		if err := proto.Unmarshal(binary, &m); err != nil {
			t.Fatal(err)
		}
		text, err := MarshalJSON(&m)
		if err != nil {
			t.Fatal(err)
		}
		var n dmtv1.QueryResponse
		if err := UnmarshalJSON(text, &n); err != nil {
			t.Fatal(err)
		}
		for encoding, m := range map[string]*dmtv1.QueryResponse{"protobuf": &m, "JSON": &n} {
			if got, err := AnswerFromProto(m); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s through %s: %+v, %v, want %+v", name, encoding, got, err, want)
			}
		}
	}
}

func TestNumber_RoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := sketch.Int(rapid.Int64().Draw(t, "int"))
		if rapid.Bool().Draw(t, "as float") {
			var err error
			if n, err = sketch.Float(rapid.Float64().Draw(t, "float")); err != nil {
				t.Fatal(err)
			}
		}
		got, err := numberFrom("n", number(n))
		if err != nil || got != n {
			t.Fatalf("%v becomes %v and then %v, %v", n, number(n), got, err)
		}
	})
}

func TestAnswerFromProto_DistrustsMembers(t *testing.T) {
	f := func(field string, change func(*dmtv1.QueryResponse)) {
		t.Helper()
		m := AnswerToProto(sampleAnswer(t))
		change(m)
		_, err := AnswerFromProto(m)
		var in *window.InputError
		if !errors.As(err, &in) || in.Field != field {
			t.Errorf("error %v, want field %s", err, field)
		}
	}
	f("read", func(m *dmtv1.QueryResponse) { m.Read = "x" })
	f("from", func(m *dmtv1.QueryResponse) { m.From = nil })
	f("to", func(m *dmtv1.QueryResponse) { m.To = nil })
	f("to", func(m *dmtv1.QueryResponse) { m.To = &timestamppb.Timestamp{Seconds: math.MaxInt64} })
	f("asked_from", func(m *dmtv1.QueryResponse) { m.AskedFrom, m.AskedTo = m.AskedTo, m.AskedFrom })
	f("results[1].from", func(m *dmtv1.QueryResponse) { m.Results[1].From = &timestamppb.Timestamp{Nanos: -1} })
	f("results[0].min", func(m *dmtv1.QueryResponse) { m.Results[0].Min = nil })
	f("results[0].max", func(m *dmtv1.QueryResponse) { m.Results[0].Max = structpb.NewStringValue("NaN") })
	f("results[1].estimates[1].value", func(m *dmtv1.QueryResponse) {
		m.Results[1].Estimates[1].Value = structpb.NewNumberValue(math.Inf(1))
	})
	f("results[0].estimates[0].lower", func(m *dmtv1.QueryResponse) { m.Results[0].Estimates[0].Lower = structpb.NewBoolValue(true) })
	f("results[0].estimates[0].upper", func(m *dmtv1.QueryResponse) { m.Results[0].Estimates[0].Upper = nil })
	f("results[0].estimates[0].max_relative_error", func(m *dmtv1.QueryResponse) {
		m.Results[0].Estimates[0].MaxRelativeError = structpb.NewStringValue("x")
	})
}
