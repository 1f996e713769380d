package api

import (
	"errors"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// maxSafe is the greatest integer up to which every reader of JSON is exact.
const maxSafe = 1 << 53

// number writes n so that no digit is lost in a float64: integers beyond 2^53
// become strings.
func number(n sketch.Number) *structpb.Value {
	if i, ok := n.Int64(); ok && (i > maxSafe || i < -maxSafe) {
		return structpb.NewStringValue(n.String())
	}
	return structpb.NewNumberValue(n.Float64())
}

func numberFrom(field string, v *structpb.Value) (sketch.Number, error) {
	var n sketch.Number
	var err error
	switch kind := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		n, err = sketch.Float(kind.NumberValue)
	case *structpb.Value_StringValue:
		n, err = sketch.ParseNumber(kind.StringValue)
	default:
		return n, &window.InputError{Field: field, Reason: ReasonEmpty, Message: "neither a number nor a string with one"}
	}
	if err != nil {
		return n, &window.InputError{Field: field, Reason: ReasonNotFinite, Message: err.Error()}
	}
	return n, nil
}

// SpanToProto writes a resolved span; all time and the empty span are absent.
func SpanToProto(s window.Span) (from, to *timestamppb.Timestamp) {
	if s.IsAll() || s.Empty() {
		return nil, nil
	}
	return TimeToProto(s.From), TimeToProto(s.To)
}

// SpanFromProto reads what SpanToProto writes; absent is the zero Span.
func SpanFromProto(from, to *timestamppb.Timestamp) (window.Span, error) {
	if from == nil && to == nil {
		return window.Span{}, nil
	}
	for _, t := range []struct {
		field string
		time  *timestamppb.Timestamp
	}{{"from", from}, {"to", to}} {
		if err := t.time.CheckValid(); err != nil {
			return window.Span{}, &window.InputError{Field: t.field, Reason: ReasonBadTime, Message: err.Error()}
		}
	}
	if from.Seconds >= to.Seconds {
		return window.Span{}, &window.InputError{Field: "from", Reason: ReasonRange, Message: "not before to"}
	}
	return window.Span{From: from.Seconds, To: to.Seconds}, nil
}

// TimeToProto writes unix seconds, moved into the years 1 to 9999.
func TimeToProto(unix int64) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: min(max(unix, window.MinTime), window.MaxTime-1)}
}

// within puts prefix before the field of an *window.InputError.
func within(prefix string, err error) error {
	var in *window.InputError
	if errors.As(err, &in) {
		return window.InField(err, prefix+in.Field)
	}
	return err
}
