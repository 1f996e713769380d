package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/plot"
	"github.com/distributed-median-tracker/dmt/window"
)

func TestPlot_CoarserReadsTheRefusalOfAStep(t *testing.T) {
	f := func(err error, want window.Width, wanted bool) {
		t.Helper()
		if got, ok := coarser(err); ok != wanted || ok && got != want {
			t.Errorf("coarser(%v) = %v, %v, want %v, %v", err, got, ok, want, wanted)
		}
	}
	refused := &client.RefusedError{Field: "step", Reason: window.ReasonRange, Limit: "1m"}
	f(refused, 60, true)
	f(fmt.Errorf("query: %w", refused), 60, true)
	f(nil, 0, false)
	f(client.ErrUnavailable, 0, false)
	f(&client.RefusedError{Field: "step", Reason: window.ReasonTooMany, Limit: "11000"}, 0, false)
	f(&client.RefusedError{Field: "nodes", Reason: window.ReasonRange, Limit: "1m"}, 0, false)
	f(&client.RefusedError{Field: "step", Reason: window.ReasonRange, Limit: "1ms"}, 0, false)
	f(&client.RefusedError{Field: "step", Reason: window.ReasonRange}, 0, false)
}

// Every step that auto takes fits the picture that it is taken for.
func TestPlot_AutoStepAlwaysFits(t *testing.T) {
	for _, width := range []int{plot.MinColumns, columns80, 237, plot.MaxColumns} {
		for seconds := int64(10); seconds < 200*365*86400; seconds = seconds*13/8 + 7 {
			a := &plotArgs{width: width}
			q := window.Query{Span: window.Span{From: 1795428013, To: 1795428013 + seconds}}
			q.Step = plot.Step(q.Span, window.TenSeconds, a.points()).Duration()
			if err := a.fits(q); err != nil {
				t.Errorf("%d columns, %d s: %v", width, seconds, err)
			}
			q.Step += q.Step * time.Duration(-1) / 2
			if points := plot.Steps(q.Span, window.Width(q.Step/time.Second)); (a.fits(q) == nil) != (points <= width-plot.Margin) {
				t.Errorf("%d columns, %d points: %v", width, points, a.fits(q))
			}
		}
	}
}
