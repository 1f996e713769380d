package window_test

import (
	"fmt"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

func ExampleParseMetric() {
	m, err := window.ParseMetric(`latency_us{route="/cart", region="eu"}`)
	if err != nil {
		panic(err)
	}
	fmt.Println(m)
	// Output: latency_us{region="eu",route="/cart"}
}

func ExampleTiers_Cover() {
	tiers := window.StandardTiers()
	from := time.Date(2026, 11, 23, 10, 59, 50, 0, time.UTC)
	span := window.Between(from, from.Add(61*time.Minute))
	sealed := []int64{span.To, span.To, span.To, span.To, span.To}
	for _, run := range tiers.Cover(span, sealed) {
		fmt.Println(run.Buckets(), "of", run.Width, run.Span)
	}
	// Output:
	// 1 of 10s [2026-11-23T10:59:50Z, 2026-11-23T11:00:00Z)
	// 1 of 1h [2026-11-23T11:00:00Z, 2026-11-23T12:00:00Z)
	// 5 of 10s [2026-11-23T12:00:00Z, 2026-11-23T12:00:50Z)
}

func ExampleQuery_Check() {
	now := time.Date(2026, 11, 23, 12, 0, 5, 0, time.UTC)
	q, err := window.Query{Metric: "latency_us", Span: window.Last(time.Hour)}.Check(now, window.TenSeconds)
	fmt.Println(q.Span, q.Quantiles, err)

	_, err = window.Query{Metric: "latency_us", Quantiles: []float64{1.5}}.Check(now, window.TenSeconds)
	fmt.Println(err)
	// Output:
	// [2026-11-23T11:00:05Z, 2026-11-23T12:00:06Z) [0.5] <nil>
	// quantiles[0]: 1.5 is outside [0, 1]
}
