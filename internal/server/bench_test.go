package server_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

// BenchmarkIngest is what a cluster of three takes in, client, members and
// their fsyncs together on one machine, at the leader and at a follower.
func BenchmarkIngest(b *testing.B) {
	for _, at := range []string{"leader", "follower"} {
		for _, size := range []int{1, 10, 250} {
			b.Run(fmt.Sprintf("at=%s/connections=64/sketches=%d", at, size), func(b *testing.B) {
				cluster := clustertest.Start(b, 3)
				member := cluster.Leader()
				if at == "follower" {
					member = cluster.Follower()
				}
				benchIngest(b, cluster.Addr(member), size)
			})
		}
	}
}

func benchIngest(b *testing.B, address string, size int) {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	defer transport.CloseIdleConnections()
	values := make([]int64, 200)
	for i := range values {
		values[i] = int64(i*i) + 1000
	}
	bytes := sketchOf(b, 7, values...)
	start := time.Now().Unix() / 10 * 10
	var producers atomic.Uint64
	b.SetParallelism(32) // times two cores
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		tracker := dmtv1connect.NewTrackerClient(&http.Client{Transport: transport}, "http://"+address)
		id := producers.Add(1)
		producer := binary.BigEndian.AppendUint64(make([]byte, api.ProducerBytes-8), id)
		entries := make([]*dmtv1.Entry, size)
		for i := range entries {
			entries[i] = &dmtv1.Entry{Metric: "latency_us", Node: fmt.Sprintf("node-%d-%d", id, i), Start: start, Sketch: bytes}
		}
		for seq := uint64(1); pb.Next(); seq++ {
			req := &dmtv1.IngestRequest{Batches: []*dmtv1.Batch{{Producer: producer, Seq: seq, SeenMs: time.Now().UnixMilli(), Entries: entries}}}
			if _, err := tracker.Ingest(context.Background(), connect.NewRequest(req)); err != nil {
				b.Errorf("ingest: %v", err)
				return
			}
		}
	})
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(b.N)/seconds, "calls/s")
	b.ReportMetric(float64(b.N*size)/seconds, "sketches/s")
	b.ReportMetric(float64(len(bytes)), "B/sketch")
}

// BenchmarkQuery is one question at a time over HTTP, everything included.
func BenchmarkQuery(b *testing.B) {
	const nodes, buckets = 100, 360
	cluster := clustertest.Start(b, 3)
	leader, follower := cluster.Leader(), cluster.Follower()
	c := dial(b, cluster.Addr(leader))
	for j := range buckets {
		batch := batchOf(1, uint64(j+1))
		for i := range nodes {
			e := entry(b, "m", fmt.Sprintf("node-%d", i), int64(i*1000+j), int64(i*900), int64(j*100))
			e.Start += int64(10 * j)
			batch.Entries = append(batch.Entries, e)
		}
		if _, err := c.tracker().Ingest(context.Background(), ingest(batch)); err != nil {
			b.Fatal(err)
		}
	}
	cluster.WaitEqual()
	for _, q := range []struct {
		name   string
		member int
		req    *dmtv1.QueryRequest
	}{
		{"fleet/read=linearizable/at=leader", leader, &dmtv1.QueryRequest{}},
		{"fleet/read=linearizable/at=follower", follower, &dmtv1.QueryRequest{}},
		{"fleet/read=stale/at=follower", follower, &dmtv1.QueryRequest{Read: "stale"}},
		{"node/read=linearizable/at=leader", leader, &dmtv1.QueryRequest{Nodes: []string{"node-7"}}},
		{"by=node/read=linearizable/at=leader", leader, &dmtv1.QueryRequest{By: "node"}},
	} {
		b.Run(fmt.Sprintf("%s/nodes=%d/buckets=%d", q.name, nodes, buckets), func(b *testing.B) {
			tracker := dial(b, cluster.Addr(q.member)).tracker()
			q.req.Metric = "m"
			for b.Loop() {
				if _, err := tracker.Query(context.Background(), connect.NewRequest(q.req)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
