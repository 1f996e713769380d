package api

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// byNode is the one value of QueryRequest.by.
const byNode = "node"

// QueryFromProto reads a question. Ages are counted back from now. With from
// alone the span ends now, with to alone it begins with time. What can be
// checked without the cluster has been, and the metric is canonical; the span
// of last stays relative until the caller's Check, which knows the base width.
// Errors are *window.InputErrors.
func QueryFromProto(r *dmtv1.QueryRequest, now time.Time) (window.Query, error) {
	q := window.Query{
		Metric:    window.Metric(r.GetMetric()),
		Quantiles: r.GetQuantiles(),
		Nodes:     r.GetNodes(),
	}
	var err error
	if q.Span, err = spanFromText(r.GetLast(), r.GetFrom(), r.GetTo(), now); err != nil {
		return window.Query{}, err
	}
	switch r.GetBy() {
	case "":
	case byNode:
		q.ByNode = true
	default:
		return window.Query{}, &window.InputError{
			Field: "by", Reason: window.ReasonUnknown, Limit: byNode,
			Message: fmt.Sprintf("%.40q is not %q", r.GetBy(), byNode),
		}
	}
	if q.Step, err = positive("step", r.GetStep()); err != nil {
		return window.Query{}, err
	}
	if q.Align, err = window.ParseAlign(r.GetAlign()); err != nil {
		return window.Query{}, err
	}
	if q.Read, q.MaxStaleness, err = ReadFromProto(r.GetRead(), r.GetMaxStaleness()); err != nil {
		return window.Query{}, err
	}
	// One second divides every base width, so this refuses nothing that the
	// caller's Check would accept.
	checked, err := q.Check(now, 1)
	if err != nil {
		return window.Query{}, err
	}
	checked.Span = q.Span
	return checked, nil
}

// ReadFromProto reads the freshness of a question: read and max_staleness.
func ReadFromProto(read, maxStaleness string) (window.Read, time.Duration, error) {
	r, err := window.ParseRead(read)
	if err != nil {
		return 0, 0, err
	}
	d, err := positive("max_staleness", maxStaleness)
	if err != nil {
		return 0, 0, err
	}
	if d > 0 && r != window.Stale {
		return 0, 0, &window.InputError{
			Field: "max_staleness", Reason: window.ReasonConflict,
			Message: fmt.Sprintf("it needs read stale, this is %s", r),
		}
	}
	return r, d, nil
}

// spanFromText reads the three time fields of a question.
func spanFromText(last, from, to string, now time.Time) (window.Span, error) {
	if last != "" {
		if from != "" || to != "" {
			return window.Span{}, &window.InputError{
				Field: "last", Reason: window.ReasonConflict,
				Message: "it excludes from and to",
			}
		}
		d, err := positive("last", last)
		return window.Last(d), err
	}
	if from == "" && to == "" {
		return window.All(), nil
	}
	first, end := window.MinTime, now.Unix()+1 // the present second is part of it
	var err error
	if from != "" {
		if first, err = window.ParseTime(from, now); err != nil {
			return window.Span{}, window.InField(err, "from")
		}
	}
	if to != "" {
		if end, err = window.ParseTime(to, now); err != nil {
			return window.Span{}, window.InField(err, "to")
		}
	}
	return window.Between(time.Unix(first, 0), time.Unix(end, 0)), nil
}

// positive reads a duration above zero; the empty text is zero.
func positive(field, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := window.ParseDuration(s)
	if err != nil {
		return 0, window.InField(err, field)
	}
	if d == 0 {
		return 0, &window.InputError{Field: field, Reason: ReasonRange, Message: "zero is not a positive duration"}
	}
	return d, nil
}

// QueryToProto writes a question, which need not have been checked.
func QueryToProto(q window.Query) *dmtv1.QueryRequest {
	r := &dmtv1.QueryRequest{
		Metric:    string(q.Metric),
		Quantiles: q.Quantiles,
		Nodes:     q.Nodes,
		Read:      q.Read.String(),
		Align:     q.Align.String(),
	}
	if last, ok := q.Span.Relative(); ok {
		r.Last = window.FormatDuration(last)
	} else if !q.Span.IsAll() {
		r.From = window.FormatTime(q.Span.From)
		r.To = window.FormatTime(min(q.Span.To, window.MaxTime-1)) // no text has the year 10000
	}
	if q.ByNode {
		r.By = byNode
	}
	if q.Step != 0 {
		r.Step = window.FormatDuration(q.Step)
	}
	if q.MaxStaleness != 0 {
		r.MaxStaleness = window.FormatDuration(q.MaxStaleness)
	}
	return r
}

// AnswerToProto writes an answer. Times at the very end of the year 9999 lose
// their last second, which a Timestamp cannot hold.
func AnswerToProto(a window.Answer) *dmtv1.QueryResponse {
	r := &dmtv1.QueryResponse{
		Metric:        string(a.Metric),
		Read:          a.Read.String(),
		AppliedIndex:  a.AppliedIndex,
		BucketsMerged: int32(min(a.BucketsMerged, math.MaxInt32)),
		Results:       make([]*dmtv1.Result, len(a.Results)),
	}
	r.From, r.To = SpanToProto(a.Span)
	r.AskedFrom, r.AskedTo = SpanToProto(a.Asked)
	for i, result := range a.Results {
		r.Results[i] = resultToProto(result)
	}
	return r
}

func resultToProto(r window.Result) *dmtv1.Result {
	m := &dmtv1.Result{
		Node:      r.Node,
		Count:     r.Count,
		Min:       number(r.Min),
		Max:       number(r.Max),
		Nodes:     int32(min(r.Nodes, math.MaxInt32)),
		Estimates: make([]*dmtv1.QuantileEstimate, len(r.Estimates)),
	}
	m.From, m.To = SpanToProto(r.Span)
	for i, e := range r.Estimates {
		m.Estimates[i] = estimateToProto(e)
	}
	return m
}

func estimateToProto(e window.QuantileEstimate) *dmtv1.QuantileEstimate {
	m := &dmtv1.QuantileEstimate{Q: e.Q, MaxRelativeError: structpb.NewNullValue(), Exact: e.Exact}
	if e.Empty {
		m.Value, m.Lower, m.Upper = structpb.NewNullValue(), structpb.NewNullValue(), structpb.NewNullValue()
		return m
	}
	m.Value, m.Lower, m.Upper = number(e.Value), number(e.Lower), number(e.Upper)
	if !math.IsInf(e.MaxRelativeError, 0) && !math.IsNaN(e.MaxRelativeError) {
		m.MaxRelativeError = structpb.NewNumberValue(e.MaxRelativeError)
	}
	return m
}

// AnswerFromProto reads an answer. A member may be broken or hostile, so
// everything is checked; errors are *window.InputErrors.
func AnswerFromProto(r *dmtv1.QueryResponse) (window.Answer, error) {
	a := window.Answer{
		Metric:        window.Metric(r.GetMetric()),
		AppliedIndex:  r.GetAppliedIndex(),
		BucketsMerged: int(r.GetBucketsMerged()),
	}
	var err error
	if a.Read, err = window.ParseRead(r.GetRead()); err != nil {
		return window.Answer{}, err
	}
	if a.Span, err = SpanFromProto(r.GetFrom(), r.GetTo()); err != nil {
		return window.Answer{}, err
	}
	if a.Asked, err = SpanFromProto(r.GetAskedFrom(), r.GetAskedTo()); err != nil {
		return window.Answer{}, within("asked_", err)
	}
	for i, m := range r.GetResults() {
		result, err := resultFromProto(m)
		if err != nil {
			return window.Answer{}, within(fmt.Sprintf("results[%d].", i), err)
		}
		a.Results = append(a.Results, result)
	}
	return a, nil
}

func resultFromProto(m *dmtv1.Result) (window.Result, error) {
	r := window.Result{Node: m.GetNode(), Count: m.GetCount(), Nodes: int(m.GetNodes())}
	var err error
	if r.Span, err = SpanFromProto(m.GetFrom(), m.GetTo()); err != nil {
		return r, err
	}
	if r.Min, err = numberFrom("min", m.GetMin()); err != nil {
		return r, err
	}
	if r.Max, err = numberFrom("max", m.GetMax()); err != nil {
		return r, err
	}
	for i, e := range m.GetEstimates() {
		estimate, err := estimateFromProto(e)
		if err != nil {
			return r, within(fmt.Sprintf("estimates[%d].", i), err)
		}
		r.Estimates = append(r.Estimates, estimate)
	}
	return r, nil
}

func estimateFromProto(m *dmtv1.QuantileEstimate) (window.QuantileEstimate, error) {
	e := window.QuantileEstimate{Q: m.GetQ()}
	if isNull(m.GetValue()) {
		e.Empty = true
		return e, nil
	}
	e.Exact = m.GetExact()
	var err error
	if e.Value, err = numberFrom("value", m.GetValue()); err != nil {
		return e, err
	}
	if e.Lower, err = numberFrom("lower", m.GetLower()); err != nil {
		return e, err
	}
	if e.Upper, err = numberFrom("upper", m.GetUpper()); err != nil {
		return e, err
	}
	if isNull(m.GetMaxRelativeError()) {
		e.MaxRelativeError = math.Inf(1)
		return e, nil
	}
	n, err := numberFrom("max_relative_error", m.GetMaxRelativeError())
	e.MaxRelativeError = n.Float64()
	return e, err
}

func isNull(v *structpb.Value) bool {
	_, ok := v.GetKind().(*structpb.Value_NullValue)
	return ok
}

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
