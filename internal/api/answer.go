package api

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/types/known/structpb"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

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
