package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"slices"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/server"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/window"
)

// member starts a cluster of one and returns its address, so that the examples
// below have something to talk to. In a test of your own use clustertest.
func member() (addr string, stop func()) {
	dir, err := os.MkdirTemp("", "dmt-example")
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	s, err := server.Start(ctx, server.Options{Listen: "127.0.0.1:0", Raft: raftfsm.Options{Dir: dir, MinFreeDisk: -1}})
	if err != nil {
		log.Fatal(err)
	}
	if err := s.WaitReady(ctx); err != nil {
		log.Fatal(err)
	}
	return s.Addr(), func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			log.Fatal(err)
		}
	}
}

// Without an address the tracker counts in this process: thousands of nodes of
// very different volume, location and sign, and one median.
func ExampleNewMedianTracker() {
	tracker, err := client.NewMedianTracker()
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()

	var all []int64
	for node := range 5000 {
		id := fmt.Sprintf("node-%d", node)
		for i := range 1 + 20_000/(node+1) { // the first adds most
			value := int64(node*node/10+i%97) * int64(1-node%5/4*2) // every fifth is negative
			tracker.AddValue(id, value)
			all = append(all, value)
		}
	}

	slices.Sort(all)
	exact := float64(all[(len(all)-1)/2]+all[len(all)/2]) / 2
	estimate := tracker.EstimateMedian()
	fmt.Println("within 0.5 %:", math.Abs(estimate-exact) <= 0.005*math.Abs(exact))
	// Output: within 0.5 %: true
}

// With addresses the same tracker is shared by every process that uses them.
// Only sketches travel.
func ExampleNewMedianTracker_cluster() {
	addr, stop := member()
	defer stop()

	tracker, err := client.NewMedianTracker(addr) // name all members
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()
	tracker.AddValue("web-1", 12)
	tracker.AddValue("web-2", 15)
	tracker.AddValue("web-2", 900)
	fmt.Println(tracker.EstimateMedian())

	answer, err := tracker.Median(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	median, _ := answer.Median()
	fmt.Println(median.Lower, median.Upper, answer.Count())
	// Output:
	// 15
	// 15 15 3
}

func ExampleClient() {
	addr, stop := member()
	defer stop()
	ctx := context.Background()

	c, err := client.New([]string{addr}, client.Options{
		OnDrop: func(d client.Dropped) { log.Printf("%d values of %s lost: %v", d.Values, d.Metric, d.Err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	rec := c.Recorder("web-17", client.RecorderOptions{FlushEvery: 10 * time.Second})
	latency := rec.Metric("latency_us")
	for v := range int64(1001) {
		latency.AddInt(v)
	}
	if err := rec.Flush(ctx); err != nil {
		log.Fatal(err)
	}

	answer, err := c.Query(ctx, window.Query{
		Metric: "latency_us", Span: window.Last(time.Hour), Quantiles: []float64{0, 0.5, 0.99},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range answer.Results[0].Estimates {
		fmt.Printf("q=%v in [%v, %v]\n", e.Q, e.Lower, e.Upper)
	}

	_, err = c.Query(ctx, window.Query{Metric: "latency_us", Span: window.Between(time.Unix(0, 0), time.Unix(60, 0))})
	fmt.Println(errors.Is(err, client.ErrNoData))

	if err := c.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// q=0 in [0, 0]
	// q=0.5 in [499, 501]
	// q=0.99 in [986, 991]
	// true
}

// What is wrong with a value is told, never swallowed.
func ExampleRecorder_Err() {
	c, err := client.New([]string{"127.0.0.1:7171"}, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	rec := c.Recorder("web-17", client.RecorderOptions{})
	rec.AddInt("no such name!", 1)
	err = rec.Add("latency_us", math.NaN())
	fmt.Println(errors.Is(err, client.ErrNotFinite))
	fmt.Println(rec.Err())
	if err := c.Close(context.Background()); err != nil {
		fmt.Println("closed")
	}
	// Output:
	// true
	// refused 1 value: metric: " " after the name; a name is letters, digits, _ and : (bad_metric)
	// refused 1 value: value: NaN is not a finite number (not_finite)
	// closed
}
