package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/clustertest"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/raftfsm"
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

// send repeats one batch until it is acknowledged, and says whether it was.

// Leaders are killed while many clients write: every acknowledged batch is

// there once, on every member, compared row by row.

// until waits for a condition.

// A write that arrives while there is no leader waits for the next one.

// Without a quorum writes and linearizable reads fail in time and say why;

// stale reads and the status go on.

// A leader that is cut off answers no linearizable read from its old state.

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
	gone := cluster.Server(added)
	select {
	case <-gone.Done():
		if err := gone.Err(); !errors.Is(err, raftfsm.ErrRemoved) {
			t.Errorf("the removed member ended with %v, want ErrRemoved", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the removed member runs on")
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
