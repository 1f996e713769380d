package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/storage"
)

func TestForward_AnyMemberTakesWritesAndAnswers(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	ctx := context.Background()
	for i := range cluster.Len() {
		tracker := dial(t, cluster.Addr(i)).tracker()
		res, err := tracker.Ingest(ctx, ingest(batchOf(byte(i+1), 1, entry(t, "m", "a", int64(i)))))
		if err != nil {
			t.Fatalf("Ingest at member %d: %v", i, err)
		}
		r := res.Msg
		if r.Results[0].Status != dmtv1.BatchResult_APPLIED || r.Results[0].Accepted != 1 || r.Results[0].AppliedIndex == 0 {
			t.Errorf("Ingest at member %d: %v, want one entry applied", i, r.Results[0])
		}
		if r.Precision != 7 || r.ClusterId != cluster.Server(0).Node().ClusterID() || r.ClockMs == 0 {
			t.Errorf("Ingest at member %d: precision %d, cluster %q, clock %d", i, r.Precision, r.ClusterId, r.ClockMs)
		}
		if _, err := tracker.AddValues(ctx, connect.NewRequest(&dmtv1.AddValuesRequest{Metric: "m", Node: "b", Values: []int64{7}})); err != nil {
			t.Errorf("AddValues at member %d: %v", i, err)
		}
		// What was just acknowledged is in every linearizable answer.
		for j := range cluster.Len() {
			q, err := dial(t, cluster.Addr(j)).tracker().Query(ctx, connect.NewRequest(&dmtv1.QueryRequest{Metric: "m"}))
			if err != nil {
				t.Fatalf("Query at member %d: %v", j, err)
			}
			if got, want := q.Msg.Results[0].Count, uint64(2*(i+1)); got != want {
				t.Errorf("Query at member %d after writes at %d: count %d, want %d", j, i, got, want)
			}
		}
	}
	cluster.WaitEqual()
}

// A request that was passed on once is not passed on again.
func TestForward_OnlyOnce(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	leader, follower := cluster.Leader(), cluster.Follower()
	req := ingest(batchOf(1, 1, entry(t, "m", "a", 1)))
	req.Header().Set("Dmt-Forwarded", "somebody")
	_, err := dial(t, cluster.Addr(follower)).tracker().Ingest(context.Background(), req)
	if got, want := refusalOf(err).String(), "unavailable no_leader "; got != want {
		t.Errorf("forwarded request at a follower: %s, want %s", got, want)
	}
	if _, err := dial(t, cluster.Addr(leader)).tracker().Ingest(context.Background(), req); err != nil {
		t.Errorf("forwarded request at the leader: %v", err)
	}
}

// writer sends batches of its own until each is acknowledged, to members in
// random order, always under the same name.
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

// send repeats one batch until it is acknowledged, and says whether it was.
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

// Leaders are killed while many clients write: every acknowledged batch is
// there once, on every member, compared row by row.
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

// until waits for a condition.
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

// A write that arrives while there is no leader waits for the next one.
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

// Without a quorum writes and linearizable reads fail in time and say why;
// stale reads and the status go on.
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

// A leader that is cut off answers no linearizable read from its old state.
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

func TestStatus_TheSameMembersFromEveryMember(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	leader := cluster.Server(cluster.Leader()).Node().ID()
	for i := range cluster.Len() {
		status, answer := dial(t, cluster.Addr(i)).post("Status", `{}`)
		if status != 200 {
			t.Fatalf("Status at member %d: %d %s", i, status, answer)
		}
		var s struct {
			ID       string `json:"id"`
			LeaderID string `json:"leader_id"`
			Members  []struct {
				ID        string
				Address   string
				Voter     bool
				Leader    bool
				Reachable bool
			}
			Tiers []struct{ Width string }
		}
		if err := json.Unmarshal([]byte(answer), &s); err != nil {
			t.Fatalf("Status at member %d: %v", i, err)
		}
		if s.ID != cluster.Server(i).Node().ID() || s.LeaderID != leader || len(s.Members) != 3 || len(s.Tiers) != 5 {
			t.Errorf("Status at member %d: %s", i, answer)
		}
		for j, m := range s.Members {
			if m.Address != cluster.Addr(j) || m.Leader != (m.ID == leader) {
				t.Errorf("Status at member %d shows %+v at %s, leader %s", i, m, cluster.Addr(j), leader)
			}
		}
	}
}

func TestMembership_JoinTransferRemove(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	ctx := context.Background()
	if _, err := dial(t, cluster.Addr(0)).tracker().Ingest(ctx, ingest(batchOf(1, 1, entry(t, "m", "a", 1)))); err != nil {
		t.Fatal(err)
	}
	added := cluster.Add()
	cluster.WaitEqual()
	id := cluster.Server(added).Node().ID()
	tracker := dial(t, cluster.Addr(cluster.Follower())).tracker()
	res, err := tracker.Transfer(ctx, connect.NewRequest(&dmtv1.TransferRequest{Id: id}))
	if err != nil {
		t.Fatalf("Transfer to %s: %v", id, err)
	}
	if leader := cluster.Leader(); leader != added {
		t.Errorf("member %d leads after Transfer to %d (answer %v)", leader, added, res.Msg)
	}
	remaining := dial(t, cluster.Addr(0)).tracker()
	if _, err := remaining.Remove(ctx, connect.NewRequest(&dmtv1.RemoveRequest{Id: id})); err != nil {
		t.Fatalf("Remove %s: %v", id, err)
	}
	status, err := remaining.Status(ctx, connect.NewRequest(&dmtv1.StatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range status.Msg.Members {
		if m.Id == id {
			t.Errorf("%s is still a member after Remove", id)
		}
	}
	if _, err := remaining.Ingest(ctx, ingest(batchOf(1, 2, entry(t, "m", "a", 2)))); err != nil {
		t.Errorf("Ingest after Remove: %v", err)
	}
}

// One body of JSON is one connection, whoever answers it in the end.
func TestForward_JSONErrorsKeepTheirDetail(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 3)
	c := dial(t, cluster.Addr(cluster.Follower()))
	body := `{"metric":"m","node":"a","values":[1],"request_id":"r"}`
	if status, answer := c.post("AddValues", body); status != 200 {
		t.Fatalf("AddValues: %d %s", status, answer)
	}
	status, answer := c.post("AddValues", strings.Replace(body, "[1]", "[2]", 1))
	if got, want := parseRefusal(t, status, answer).String(), "already_exists conflict request_id"; got != want {
		t.Errorf("same request_id, other values: %s (%s), want %s", got, answer, want)
	}
}

// Values without a request_id are counted once by the retries of the members
// themselves, whoever dies meanwhile.
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

func TestPeer_RefusesOtherClusters(t *testing.T) {
	t.Parallel()
	cluster := clustertest.Start(t, 1)
	c := dial(t, cluster.Addr(0))
	peer := dmtv1connect.NewPeerClient(c.http, "http://"+c.address)
	ctx := context.Background()
	f := func(what string, err error, want string) {
		t.Helper()
		if got := refusalOf(err).String(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	ours := cluster.Server(0).Node().ClusterID()
	for _, id := range []string{"", "other"} {
		_, err := peer.Heartbeat(ctx, connect.NewRequest(&dmtv1.HeartbeatRequest{ClusterId: id}))
		f("Heartbeat of cluster "+id, err, "failed_precondition cluster_id cluster_id")
		_, err = peer.ReadIndex(ctx, connect.NewRequest(&dmtv1.ReadIndexRequest{ClusterId: id}))
		f("ReadIndex of cluster "+id, err, "failed_precondition cluster_id cluster_id")
	}
	_, err := peer.Heartbeat(ctx, connect.NewRequest(&dmtv1.HeartbeatRequest{ClusterId: ours}))
	f("Heartbeat", err, "ok  ")
	_, err = peer.ReadIndex(ctx, connect.NewRequest(&dmtv1.ReadIndexRequest{ClusterId: ours}))
	f("ReadIndex", err, "ok  ")
	_, err = peer.Hello(ctx, connect.NewRequest(&dmtv1.HelloRequest{JoinList: make([]string, 65)}))
	f("Hello with 65 addresses", err, "invalid_argument too_many_entries join_list")
	hello, err := peer.Hello(ctx, connect.NewRequest(&dmtv1.HelloRequest{ClusterId: "other"}))
	f("Hello", err, "ok  ")
	if err == nil && (hello.Msg.ClusterId != ours || hello.Msg.Empty) {
		t.Errorf("Hello says %v", hello.Msg)
	}
}
