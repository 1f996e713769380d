package api

import (
	"fmt"
	"time"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
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
