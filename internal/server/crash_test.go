package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/storage"
)

// All members die at once, again and again, while clients write: nothing that
// was acknowledged is lost or doubled by the log that is replayed, the flushes
// and the snapshots in between.
func TestCrash_AllMembersAtOnceUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, rounds = 4, 10
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	cluster := clustertest.Start(t, 3, clustertest.Options{Raft: raftfsm.Options{
		SnapshotEntries: 20, TrailingLogs: 5, SnapshotInterval: 100 * time.Millisecond,
		Storage: storage.Options{HeadLimit: 16 << 10, FlushEvery: 50 * time.Millisecond},
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var acked atomic.Int64
	var stop atomic.Bool
	var running sync.WaitGroup
	sent := make([]int, writers) // batches acknowledged, by writer
	for i := range writers {
		w := &writer{producer: byte(i + 1), rand: rand.New(rand.NewPCG(seed, uint64(i))), acked: &acked}
		for j := range cluster.Len() {
			w.trackers = append(w.trackers, dial(t, cluster.Addr(j)))
		}
		running.Go(func() {
			for !stop.Load() && w.send(ctx, t, uint64(sent[i]+1)) {
				sent[i]++
			}
		})
	}
	for range rounds {
		goal := acked.Load() + 40
		until(ctx, t, "progress before a crash", func() bool { return acked.Load() >= goal })
		for i := range cluster.Len() {
			cluster.Kill(i)
		}
		for i := range cluster.Len() {
			cluster.Restart(i)
		}
		cluster.WaitReady()
	}
	stop.Store(true)
	running.Wait()
	cluster.WaitEqual()
	for i := range cluster.Len() {
		nodes, _, err := cluster.Server(i).Node().Store().Nodes(ctx, "m")
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]uint64)
		for _, n := range nodes {
			got[n.Node] = n.Count
		}
		total := 0
		for p, n := range sent {
			total += n
			for seq := 1; seq <= n; seq++ {
				if name := fmt.Sprintf("%d-%d", p+1, seq); got[name] != 1 {
					t.Errorf("member %d counts batch %s %d times, want once", i, name, got[name])
				}
			}
		}
		if len(nodes) != total {
			t.Errorf("member %d has %d batches, %d were sent", i, len(nodes), total)
		}
	}
	t.Logf("%v batches acknowledged over %d crashes", sent, rounds)
}
