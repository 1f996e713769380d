package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/storage"
)

type writer struct {
	producer byte
	rand     *rand.Rand
	trackers []*caller
	acked    *atomic.Int64
}

func (w *writer) run(ctx context.Context, t *testing.T, batches int) {
	for seq := uint64(1); seq <= uint64(batches); seq++ {
		if !w.send(ctx, t, seq) {
			return
		}
	}
}

func (w *writer) send(ctx context.Context, t *testing.T, seq uint64) bool {
	b := batchOf(w.producer, seq, entry(t, "m", fmt.Sprintf("%d-%d", w.producer, seq), int64(seq)))
	for {
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := w.trackers[w.rand.IntN(len(w.trackers))].tracker().Ingest(try, ingest(b))
		cancel()
		switch {
		case err == nil:
			w.acked.Add(1)
			return true
		case ctx.Err() != nil:
			t.Errorf("producer %d gave up at batch %d: %v", w.producer, seq, err)
			return false
		case connect.IsWireError(err) && connect.CodeOf(err) != connect.CodeUnavailable:
			t.Errorf("producer %d, batch %d: %v", w.producer, seq, err)
			return false
		}
	}
}

func TestFailover_EveryAcknowledgedBatchOnceOnEveryMember(t *testing.T) {
	t.Parallel()
	const writers, batches, kills = 8, 150, 3
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	cluster := clustertest.Start(t, 3, clustertest.Options{Raft: raftfsm.Options{
		SnapshotEntries: 50, TrailingLogs: 20, Storage: storage.Options{HeadLimit: 64 << 10, FlushEvery: 200 * time.Millisecond},
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var acked atomic.Int64
	var running sync.WaitGroup
	for i := range writers {
		w := &writer{producer: byte(i + 1), rand: rand.New(rand.NewPCG(seed, uint64(i))), acked: &acked}
		for j := range cluster.Len() {
			w.trackers = append(w.trackers, dial(t, cluster.Addr(j)))
		}
		running.Go(func() { w.run(ctx, t, batches) })
	}
	down := -1
	for k := range kills {
		until(ctx, t, "progress before a kill", func() bool { return acked.Load() >= int64((k+1)*writers*batches/(kills+2)) })
		if down >= 0 {
			cluster.Restart(down)
			cluster.WaitReady()
		}
		down = cluster.Leader()
		cluster.Kill(down)
	}
	running.Wait()
	cluster.Restart(down)
	cluster.WaitReady()
	cluster.WaitEqual()
	for i := range cluster.Len() {
		got := make(map[string]uint64)
		nodes, _, err := cluster.Server(i).Node().Store().Nodes(ctx, "m")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			got[n.Node] = n.Count
		}
		for p := 1; p <= writers; p++ {
			for seq := 1; seq <= batches; seq++ {
				if name := fmt.Sprintf("%d-%d", p, seq); got[name] != 1 {
					t.Errorf("member %d counts batch %s %d times, want once", i, name, got[name])
				}
			}
		}
	}
}

func until(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

func TestForward_HoldsThroughAnElection(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	follower := cluster.Follower()
	tracker := dial(t, cluster.Addr(follower)).tracker()
	cluster.Kill(cluster.Leader())
	start := time.Now()
	if _, err := tracker.Ingest(context.Background(), ingest(batchOf(1, 1, entry(t, "m", "a", 1)))); err != nil {
		t.Errorf("Ingest right after the death of the leader: %v", err)
	}
	t.Logf("held for %v", time.Since(start))
	if _, err := tracker.Query(context.Background(), connect.NewRequest(&dmtv1.QueryRequest{Metric: "m"})); err != nil {
		t.Errorf("Query: %v", err)
	}
}

func TestUnavailable_WithoutAQuorum(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	ctx := context.Background()
	if _, err := dial(t, cluster.Addr(0)).tracker().Ingest(ctx, ingest(batchOf(1, 1, entry(t, "m", "a", 1)))); err != nil {
		t.Fatal(err)
	}
	cluster.WaitEqual()
	cluster.Kill(0)
	cluster.Kill(1)
	tracker := dial(t, cluster.Addr(2)).tracker()
	f := func(what string, call func(context.Context) error, want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if got := refusalOf(call(ctx)).String(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: no answer before its deadline", what)
		}
	}
	query := func(read string) func(context.Context) error {
		return func(ctx context.Context) error {
			res, err := tracker.Query(ctx, connect.NewRequest(&dmtv1.QueryRequest{Metric: "m", Read: read}))
			if err == nil && (res.Msg.Results[0].Count != 1 || res.Msg.Read != read) {
				t.Errorf("%s query answers %v", read, res.Msg)
			}
			return err
		}
	}
	f("write", func(ctx context.Context) error {
		_, err := tracker.Ingest(ctx, ingest(batchOf(1, 2, entry(t, "m", "a", 2))))
		return err
	}, "unavailable no_leader ")
	f("linearizable read", query("linearizable"), "unavailable no_leader ")
	f("leader read", query("leader"), "unavailable no_leader ")
	f("stale read", query("stale"), "ok  ")
	f("status", func(ctx context.Context) error {
		res, err := tracker.Status(ctx, connect.NewRequest(&dmtv1.StatusRequest{}))
		if err == nil && (res.Msg.LeaderId != "" || !slices.Contains(res.Msg.Alarms, "no_leader")) {
			t.Errorf("status names leader %q, alarms %v; want none, no_leader", res.Msg.LeaderId, res.Msg.Alarms)
		}
		return err
	}, "ok  ")
}

func TestPartition_OldLeaderAnswersNothing(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	ctx := context.Background()
	old := cluster.Leader()
	cluster.Partition(old)
	leader := cluster.Leader()
	if leader == old {
		t.Fatalf("member %d leads although it is cut off", old)
	}
	if _, err := dial(t, cluster.Addr(leader)).tracker().Ingest(ctx, ingest(batchOf(1, 1, entry(t, "m", "a", 1)))); err != nil {
		t.Fatalf("Ingest at the majority: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := cluster.Server(old).Node().ReadIndex(short); err == nil {
		t.Error("the old leader gave a read index")
	}
	cluster.Heal()
	cluster.WaitEqual()
	q, err := dial(t, cluster.Addr(old)).tracker().Query(ctx, connect.NewRequest(&dmtv1.QueryRequest{Metric: "m"}))
	if err != nil || q.Msg.Results[0].Count != 1 {
		t.Errorf("Query at the old leader after healing: %v, %v; want count 1", q, err)
	}
}

func TestAddValues_RetriesOfTheMembersCountOnce(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	leader, follower := cluster.Leader(), cluster.Follower()
	var acked atomic.Int64
	var running sync.WaitGroup
	for i := range 4 {
		tracker := dial(t, cluster.Addr(follower)).tracker()
		running.Go(func() {
			for range 60 {
				_, err := tracker.AddValues(ctx, connect.NewRequest(&dmtv1.AddValuesRequest{Metric: "m", Node: fmt.Sprint(i), Values: []int64{1}}))
				if err != nil {
					t.Errorf("AddValues: %v", err)
					return
				}
				acked.Add(1)
			}
		})
	}
	until(ctx, t, "some values", func() bool { return acked.Load() >= 60 })
	cluster.Kill(leader)
	running.Wait()
	cluster.Restart(leader)
	cluster.WaitReady()
	cluster.WaitEqual()
	if got := counted(t, cluster.Server(leader)); got != uint64(acked.Load()) {
		t.Errorf("%d values counted, %d acknowledged", got, acked.Load())
	}
	// One producer per request at once, not one per request.
	producers := 0
	cluster.Server(follower).Node().Store().Producers(func(storage.ProducerID, storage.ProducerState) { producers++ })
	if producers > 3*4 {
		t.Errorf("%d producers for 4 callers", producers)
	}
}
