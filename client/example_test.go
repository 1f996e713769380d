package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"slices"
	"sync"
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

// With a spool what is not acknowledged survives the process. Here the cluster
// is away while the first process lives.
func ExampleRecorderOptions_spool() {
	dir, err := os.MkdirTemp("", "dmt-spool")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	first, err := client.New([]string{"127.0.0.1:1"}, client.Options{}) // nobody there
	if err != nil {
		log.Fatal(err)
	}
	rec := first.Recorder("web-17", client.RecorderOptions{Spool: dir})
	rec.AddInts("latency_us", []int64{12, 15, 900})
	soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	var unsent *client.UnsentError
	if err := first.Close(soon); errors.As(err, &unsent) {
		fmt.Println("not sent:", unsent.Values, "in the spool:", unsent.Spooled)
	}

	addr, stop := member()
	defer stop()
	second, err := client.New([]string{addr}, client.Options{Spool: dir})
	if err != nil {
		log.Fatal(err)
	}
	if err := second.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	answer, err := second.Query(ctx, window.Query{Metric: "latency_us"})
	if err != nil {
		log.Fatal(err)
	}
	median, _ := answer.Median()
	fmt.Println(median.Value, answer.Count())
	if err := second.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// not sent: 3 in the spool: 3
	// 15 3
}

// A Local is for a loop that counts as fast as it can.
func ExampleLocal() {
	c, err := client.New([]string{"127.0.0.1:7171"}, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	latency := c.Recorder("web-17", client.RecorderOptions{}).Metric("latency_us")
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			l := latency.Local()
			defer l.Close()
			for v := range int64(1000) {
				l.AddInt(v)
			}
		})
	}
	workers.Wait()
	fmt.Println(c.Stats().Values)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Close(ended); err != nil {
		fmt.Println("closed before it was sent")
	}
	// Output:
	// 4000
	// closed before it was sent
}
