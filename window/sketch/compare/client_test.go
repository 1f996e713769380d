package compare

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/distributed-median-tracker/dmt/client"
)

// counter makes the function by which one goroutine counts a value. All
// goroutines of a run count the same thing, as a program's handlers would.
type counter func(b *testing.B) func() func(int64)

// ours is a client without a cluster: what it has to send it keeps, as in an
// outage. The clock goroutine runs.
func ours(b *testing.B) *client.Handle {
	c, err := client.New([]string{"127.0.0.1:1"}, client.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.Close(ctx); err == nil {
			b.Error("what was counted was sent: where to?")
		}
	})
	return c.Recorder("n", client.RecorderOptions{}).Metric("latency_us")
}

// otel is an Int64Histogram of the SDK with a given aggregation.
func otel(b *testing.B, aggregation sdkmetric.Aggregation) func() func(int64) {
	provider := sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewManualReader()),
		sdkmetric.WithView(sdkmetric.NewView(sdkmetric.Instrument{Name: "*"}, sdkmetric.Stream{Aggregation: aggregation})))
	h, err := provider.Meter("compare").Int64Histogram("latency_us")
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	return func() func(int64) { return func(v int64) { h.Record(ctx, v) } }
}

// native is a native histogram of prometheus/client_golang.
func native(factor float64, most uint32) func() func(int64) {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "latency_us", NativeHistogramBucketFactor: factor, NativeHistogramMaxBucketNumber: most,
	})
	return func() func(int64) { return func(v int64) { h.Observe(float64(v)) } }
}

// counters are what a program may count with, safe from many goroutines each.
// The relative half-width of a bucket stands beside the name.
var counters = map[string]counter{
	"dmt-Local/0.27%": func(b *testing.B) func() func(int64) {
		h := ours(b)
		return func() func(int64) { return h.Local().AddInt }
	},
	"dmt-Handle/0.27%": func(b *testing.B) func() func(int64) {
		h := ours(b)
		return func() func(int64) { return h.AddInt }
	},
	"dmt-MedianTracker/0.27%": func(b *testing.B) func() func(int64) {
		t, err := client.NewMedianTracker()
		if err != nil {
			b.Fatal(err)
		}
		return func() func(int64) { return func(v int64) { t.AddValue("node-17", v) } }
	},
	"ddsketch-mutex/1%": func(b *testing.B) func() func(int64) {
		var mu sync.Mutex
		s := logarithmic(b)
		return func() func(int64) {
			return func(v int64) {
				mu.Lock()
				_ = s.Add(float64(v)) // nil: the values are in its range
				mu.Unlock()
			}
		}
	},
	"otel-exponential-160/1-5%": func(b *testing.B) func() func(int64) {
		return otel(b, sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20})
	},
	"otel-explicit-15": func(b *testing.B) func() func(int64) {
		return otel(b, sdkmetric.DefaultAggregationSelector(sdkmetric.InstrumentKindHistogram))
	},
	"prometheus-native-1.1/4.8%":   func(*testing.B) func() func(int64) { return native(1.1, 0) },
	"prometheus-native-1.0055/.3%": func(*testing.B) func() func(int64) { return native(1.0055, 0) },
}

// BenchmarkCount is what counting one value costs in a program, in wall time
// over all goroutines.
func BenchmarkCount(b *testing.B) {
	vs := lognormal(1, ring)
	for _, procs := range []int{1, 2} {
		for name, of := range counters {
			b.Run(fmt.Sprintf("goroutines=%d/%s", procs, name), func(b *testing.B) {
				take := of(b)
				warm := take()
				for _, v := range vs {
					warm(v)
				}
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for range procs {
					wg.Go(func() {
						count := take()
						for i := range b.N / procs {
							count(vs[i&(ring-1)])
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
