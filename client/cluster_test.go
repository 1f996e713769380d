package client_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// TestMedianTracker_RealClusterLosesItsLeader is the task that the project was
// made for: thousands of nodes of very different volume, location and sign add
// values, one median is estimated, and only summaries travel. Midway the leader
// is killed.
func TestMedianTracker_RealClusterLosesItsLeader(t *testing.T) {
	cluster := clustertest.Start(t, 3, clustertest.Options{Client: client.Options{FlushEvery: time.Second}})
	c := cluster.Client()
	tr := c.MedianTracker("values")

	const nodes, total = 3000, 400_000
	rng := rand.New(rand.NewPCG(7, 7))
	values := make([]int64, 0, total)
	next := skewedNode(rng, nodes)
	for i := range total {
		node, v := next()
		tr.AddValue(node, v)
		values = append(values, v)
		if i%(total/8) == 0 && i > 0 {
			if got := tr.EstimateMedian(); math.IsNaN(got) {
				t.Errorf("after %d values: no estimate: %v", i, tr.Err())
			}
		}
		if i == total/2 {
			go c.Flush(context.Background()) // so that batches are on their way
			cluster.Kill(cluster.Leader())
		}
	}
	slices.Sort(values)
	want := (float64(values[(total-1)/2]) + float64(values[total/2])) / 2

	if got := tr.EstimateMedian(); !(math.Abs(got-want) <= 0.005*math.Abs(want)) {
		t.Errorf("EstimateMedian() = %v, exact %v: off by more than 0.5 %%", got, want)
	}
	ans, err := tr.Median(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, _ := ans.Median()
	if m.Lower.Float64() > want || m.Upper.Float64() < want {
		t.Errorf("exact median %v outside [%v, %v]", want, m.Lower, m.Upper)
	}
	r := ans.Results[0]
	if r.Count != total || r.Min != sketch.Int(values[0]) || r.Max != sketch.Int(values[total-1]) {
		t.Errorf("%d values in [%v, %v], want %d in [%d, %d]: lost or doubled", r.Count, r.Min, r.Max, total, values[0], values[total-1])
	}
	s := c.Stats()
	t.Logf("%d values of %d nodes: median %v in [%v, %v], exact %v; %d bytes sent in %d sketches, raw %d bytes; %d retries",
		total, r.Nodes, m.Value, m.Lower, m.Upper, want, s.BytesSent, s.Sketches, s.RawBytes, s.Retries)
	if s.BytesSent > s.RawBytes/2 {
		t.Errorf("%d bytes sent for %d raw ones", s.BytesSent, s.RawBytes)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

// skewedNode returns a source of values: node i is heard of in proportion to
// 1/(i+1), and every node has its own location, over six decades, and sign.
func skewedNode(rng *rand.Rand, nodes int) func() (string, int64) {
	ids, locations, upTo := make([]string, nodes), make([]float64, nodes), make([]float64, nodes)
	sum := 0.0
	for i := range nodes {
		ids[i] = fmt.Sprintf("rack-%02d/node-%04d", i%40, i)
		locations[i] = 100 * math.Pow(10, 6*rng.Float64())
		if i%6 == 5 {
			locations[i] = -locations[i]
		}
		sum += 1 / float64(i+1)
		upTo[i] = sum
	}
	return func() (string, int64) {
		i, _ := slices.BinarySearch(upTo, rng.Float64()*sum)
		return ids[i], int64(locations[i] * math.Exp(0.4*rng.NormFloat64()))
	}
}

func TestClient_ExactlyOnceOverKillsAndPartitions(t *testing.T) {
	cluster := clustertest.Start(t, 3)
	var clients []*client.Client
	for range 3 {
		c, err := client.New(cluster.Addrs(), client.Options{FlushEvery: 200 * time.Millisecond, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	stop := make(chan struct{})
	added := make([]uint64, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			h := c.Recorder(fmt.Sprint("n", i), client.RecorderOptions{}).Metric("m")
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					h.AddInts([]int64{1, 2, 3})
					added[i] += 3
				}
			}
		})
	}
	acked := func() (n uint64) {
		for _, c := range clients {
			n += c.Stats().AckedValues
		}
		return n
	}
	progress := func(what string) { // until more is acknowledged than now
		t.Helper()
		before := acked()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for until := time.Now().Add(time.Minute); acked() <= before+300; <-tick.C {
			if time.Now().After(until) {
				t.Fatalf("nothing acknowledged in a minute after %s", what)
			}
		}
	}
	progress("start")
	for range 2 {
		k := cluster.Leader()
		cluster.Kill(k)
		progress("kill of the leader")
		cluster.Restart(k)
		cluster.WaitReady()
		p := cluster.Leader()
		cluster.Partition(p)
		progress("partition of the leader")
		cluster.Heal()
		progress("heal")
	}
	close(stop)
	wg.Wait()
	var want uint64
	for i, c := range clients {
		want += added[i]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if s := c.Stats(); s.AckedValues != added[i] || s.PendingBytes != 0 {
			t.Errorf("client %d: %d of %d values acknowledged, %d bytes pending", i, s.AckedValues, added[i], s.PendingBytes)
		}
	}
	ans, err := cluster.Client().Query(t.Context(), window.Query{Metric: "m", ByNode: true})
	if err != nil || ans.Count() != want {
		t.Errorf("the cluster counts %d values, %v; want %d", ans.Count(), err, want)
	}
	for i, r := range ans.Results {
		if r.Count != added[i] {
			t.Errorf("%s: %d values, want %d", r.Node, r.Count, added[i])
		}
	}
}

func TestClient_AgainstARealServer(t *testing.T) {
	cluster := clustertest.Start(t, 1)
	c, ctx := cluster.Client(), t.Context()
	if _, err := c.Query(ctx, window.Query{Metric: "m"}); !errors.Is(err, client.ErrUnknownMetric) {
		t.Errorf("unknown metric: %v", err)
	}
	tr := c.MedianTracker("nothing")
	if m := tr.EstimateMedian(); !math.IsNaN(m) || tr.Err() != nil {
		t.Errorf("EstimateMedian() of nothing = %v, %v", m, tr.Err())
	}
	rec := c.Recorder("n1", client.RecorderOptions{})
	rec.AddInts("m", []int64{3, 1, 2})
	rec.AddIntAt("m", time.Now().Add(time.Hour), 9)
	err := rec.Flush(ctx)
	if e := (*client.RefusedError)(nil); !errors.As(err, &e) || e.Reason != "too_new" || e.Values != 1 {
		t.Errorf("Flush with a value of the future = %v, want too_new", err)
	}
	ans, err := c.Query(ctx, window.Query{Metric: "m", Span: window.Last(time.Hour), Quantiles: []float64{0, 0.5, 1}})
	if err != nil || ans.Count() != 3 || ans.Results[0].Estimates[1].Value != sketch.Int(2) {
		t.Errorf("Query = %+v, %v", ans, err)
	}
	if ans, err := c.Query(ctx, window.Query{Metric: "m", Span: window.Between(time.Unix(0, 0), time.Unix(10, 0))}); !errors.Is(err, client.ErrNoData) {
		t.Errorf("empty window: %+v, %v", ans, err)
	}
	for range 2 {
		if n, err := c.AddValues(ctx, "m", "n2", []int64{5}, []float64{0.5}, "once"); n != 2 || err != nil {
			t.Errorf("AddValues = %d, %v", n, err)
		}
	}
	metrics, err := c.Metrics(ctx, window.Linearizable)
	if err != nil || len(metrics) != 1 || metrics[0].Metric != "m" || metrics[0].Count != 5 || metrics[0].Nodes != 2 {
		t.Errorf("Metrics = %+v, %v", metrics, err)
	}
	nodes, err := c.Nodes(ctx, "m", window.Leader)
	if err != nil || len(nodes) != 2 || nodes[0].Node != "n1" || nodes[0].Count != 3 || nodes[1].Count != 2 {
		t.Errorf("Nodes = %+v, %v", nodes, err)
	}
	status, err := c.Status(ctx)
	if err != nil || status.Precision != 7 || status.ClusterID == "" || len(status.Members) != 1 || len(status.Tiers) != 5 {
		t.Errorf("Status = %+v, %v", status, err)
	}
	if err := c.Remove(ctx, "nobody"); !errors.As(err, new(*client.RefusedError)) {
		t.Errorf("Remove of nobody = %v", err)
	}
}

func TestClient_CoarseClusterAgreesByteForByte(t *testing.T) {
	// Base buckets of a minute at precision 5: the client learns both.
	options := clustertest.Options{}
	options.Raft.Precision = 5
	options.Raft.Tiers = window.Tiers{{Width: window.Width(60)}}
	cluster := clustertest.Start(t, 1, options)
	c := cluster.Client()
	tr := c.MedianTracker("m")
	want := sketch.New(5)
	for i := range int64(10_000) {
		tr.AddValue("n", i*i)
		want.AddInt(i * i)
	}
	ans, err := tr.Median(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := ans.Median(); m != want.Median() {
		t.Errorf("Median = %+v, want %+v", m, want.Median())
	}
}

func TestClient_LeavesNoGoroutines(t *testing.T) {
	cluster := clustertest.Start(t, 1)
	if _, err := cluster.Client().Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		tr, err := client.NewMedianTracker(cluster.Addrs()...)
		if err != nil {
			t.Fatal(err)
		}
		tr.AddValue("n", 1)
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Connections end a moment after they are closed.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(20 * time.Second); ; <-tick.C {
		left := ofClients()
		if len(left) == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d goroutines left by closed clients, such as\n%s", len(left), left[0])
		}
	}
}

// ofClients returns the stacks of goroutines that a Client started, those of
// the cluster's own client excepted: it has no recorders, so none either.
func ofClients() []string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for _, stack := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(stack, "dmt/client.(*Client)") {
			found = append(found, stack)
		}
	}
	return found
}
