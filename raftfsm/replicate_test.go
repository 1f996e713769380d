package raftfsm

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

func TestIngest_LeaderKilledAcknowledgedOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	l := &load{c: c}
	l.start(4)
	for range 3 {
		l.more(60)
		dead := c.leader()
		dead.kill()
		l.more(60)
		dead.start()
		c.ready()
	}
	l.end()
	c.equal(l.acked)
}

func TestIngest_RetryUnderTheSameNameIsCountedOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	first := c.ingest(testBatch(t, 1, 1, "n", 5))
	if first.Status != storage.Applied {
		t.Errorf("first try is %v", first.Status)
	}
	if again := c.ingest(testBatch(t, 1, 1, "n", 5)); again.Status != storage.Duplicate {
		t.Errorf("second try is %v, want duplicate", again.Status)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.leader().running().Transfer(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if again := c.ingest(testBatch(t, 1, 1, "n", 5)); again.Status != storage.Duplicate {
		t.Errorf("try at the next leader is %v, want duplicate", again.Status)
	}
	c.equal(map[string]uint64{"n": 5})
}

func TestIngest_FollowerNamesTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	follower := c.followers()[0].running()
	_, err := follower.Ingest(context.Background(), []storage.Batch{testBatch(t, 1, 1, "n", 1)})
	var not NotLeaderError
	if !errors.As(err, &not) || not.Leader != c.leader().addr {
		t.Errorf("Ingest at a follower = %v, want a NotLeaderError with %s", err, c.leader().addr)
	}
}

// Many calls at once share entries; each gets the outcomes of its own batches.
func TestIngest_CoalescesAndDealsOutcomes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	n := c.members[0].running()
	before := n.raft.LastIndex()
	const calls = 400
	// Producers sort into good and bad numbers, so that outcomes differ.
	status := make([][]storage.Outcome, calls)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			bad := testBatch(t, byte(i), 1, "n", 1)
			bad.Producer[2], bad.Seq = byte(i>>8), 1000
			good := testBatch(t, byte(i), 1, "n", 2)
			good.Producer[2] = byte(i >> 8)
			outs, err := n.Ingest(context.Background(), []storage.Batch{bad, good})
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			status[i] = outs
		})
	}
	wg.Wait()
	for i, outs := range status {
		if len(outs) != 2 || outs[0].Status != storage.SeqWindow || outs[1].Status != storage.Applied {
			t.Errorf("call %d got %+v, want the first refused and the second applied", i, outs)
		}
	}
	if entries := n.raft.LastIndex() - before; entries > calls/2 {
		t.Errorf("%d calls took %d log entries", calls, entries)
	}
	c.equal(map[string]uint64{"n": 2 * calls})
}

func TestIngest_RefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	n := c.members[0].running()
	big := testBatch(t, 1, 1, "n", 1)
	big.Deltas[0].Sketch = make([]byte, MaxEntryBytes)
	if _, err := n.Ingest(context.Background(), []storage.Batch{big}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a batch of %d bytes = %v, want ErrTooLarge", MaxEntryBytes, err)
	}
	if _, err := n.Ingest(context.Background(), []storage.Batch{{}}); err == nil {
		t.Error("a batch without a number was accepted")
	}
	n.members.setFull(true)
	if _, err := n.Ingest(context.Background(), []storage.Batch{testBatch(t, 1, 1, "n", 1)}); !errors.Is(err, ErrDiskFull) {
		t.Errorf("with a voter short of disk = %v, want ErrDiskFull", err)
	}
	c.equal(nil)
}

func TestDiskGuard_RaisedAndLifted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(o *Options) { o.MinFreeDisk = 1 << 62 })
	c.startAll()
	n := c.members[0].running()
	eventually(t, 10*time.Second, func() string {
		if _, err := n.Ingest(context.Background(), []storage.Batch{testBatch(t, 1, 1, "n", 1)}); !errors.Is(err, ErrDiskFull) {
			return "values are accepted with less free disk than wanted"
		}
		return ""
	})
	if a := n.Status().Alarms; len(a) == 0 || a[0] != "disk_full" {
		t.Errorf("alarms = %v, want disk_full", a)
	}
	n.members.setFull(false) // as the next round does when there is space
	c.ingest(testBatch(t, 1, 1, "n", 1))
}

// A member must stop at an entry that it cannot read, and apply nothing after it.
func TestFSM_UnknownEntryStopsTheProcess(t *testing.T) {
	t.Parallel()
	fatal := make(chan error, 1)
	c := newCluster(t, 1, func(o *Options) { o.OnFatal = func(err error) { fatal <- err } })
	c.startAll()
	n := c.members[0].running()
	c.ingest(testBatch(t, 1, 1, "n", 1))
	n.raft.Apply(sealed("01 63 00 00"), 0)
	future := n.raft.Apply(encodeAll(t, 1, []storage.Batch{testBatch(t, 1, 2, "n", 1)}), 0)
	select {
	case err := <-fatal:
		var bad *EntryError
		if !errors.As(err, &bad) || bad.Index == 0 {
			t.Errorf("fatal error = %v, want an EntryError with its index", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the process was not stopped")
	}
	if err := future.Error(); err != nil {
		t.Fatal(err)
	}
	if _, ok := future.Response().(error); !ok {
		t.Errorf("an entry after the unknown one was answered %v, want an error", future.Response())
	}
	if got := content(t, n.Store())["n"]; got != 1 {
		t.Errorf("%d values, want 1: an entry after an unknown one was applied", got)
	}
}

func TestFSM_SecondInitChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	n := c.members[0].running()
	before, _ := n.Store().Cluster()
	if err := n.raft.Apply(encodeInit(1, sampleCluster()), 0).Error(); err != nil {
		t.Fatal(err)
	}
	if after, _ := n.Store().Cluster(); after.ID != before.ID || len(after.Tiers) != len(before.Tiers) {
		t.Errorf("cluster is %+v after a second Init, want %+v", after, before)
	}
}

func TestProposer_TicksWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newInmemCluster(t, 1, nil)
		c.startAll()
		n := c.members[0].running()
		before := n.ClockMs()
		eventually(t, 15*time.Second, func() string {
			if n.ClockMs() < before+int64(tickEvery/time.Millisecond) {
				return "the log clock of an idle cluster stands"
			}
			return ""
		})
	})
}

// The state machine must see an entry of every term, or no read of it can be
// linearizable.
func TestTerm_OpensWithAnEntryOfOurs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	for range 3 {
		leader := c.leader().running()
		term := leader.raft.CurrentTerm()
		if _, got := leader.Store().Applied(); got != term {
			t.Errorf("the state is at term %d, the leader at %d", got, term)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := leader.Transfer(ctx, ""); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

func TestMembers_TransferAndRemove(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	c.ingest(testBatch(t, 1, 1, "n", 3))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	follower := c.followers()[0]
	old := c.leader()
	if err := follower.running().Transfer(ctx, ""); !errors.As(err, &NotLeaderError{}) {
		t.Errorf("Transfer at a follower = %v", err)
	}
	if err := old.running().Transfer(ctx, "nobody"); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("Transfer to nobody = %v", err)
	}
	if err := old.running().Transfer(ctx, follower.id); err != nil {
		t.Fatal(err)
	}
	if got := c.leader(); got != follower {
		t.Errorf("leader after the transfer is %s, want %s", got.id, follower.id)
	}
	leader := follower.running()
	if err := leader.Remove(ctx, "nobody"); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("Remove(nobody) = %v", err)
	}
	eventually(t, 10*time.Second, func() string {
		if err := leader.Remove(ctx, old.id); err != nil {
			return err.Error() // until the new leader has heard from everybody
		}
		return ""
	})
	if n := len(leader.Members()); n != 2 {
		t.Errorf("%d members after a removal, want 2", n)
	}
	// With two left, and one of them gone, the other must not be thrown out too.
	for _, m := range c.members {
		if m != old && m != follower {
			m.kill()
		}
	}
	if err := leader.Remove(ctx, leader.ID()); !errors.Is(err, ErrQuorum) && !errors.As(err, &NotLeaderError{}) {
		t.Errorf("removal of one of two with the other gone = %v, want ErrQuorum", err)
	}
}

func TestShutdown_HandsLeadershipOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	leader := c.leader()
	term := leader.running().raft.CurrentTerm()
	start := time.Now()
	leader.stop()
	next := c.leader()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the next leader took %v", d)
	}
	if got := next.running().raft.CurrentTerm(); got != term+1 {
		t.Logf("the transfer took %d terms", got-term) // an election may have been needed on a busy machine
	}
	c.ingest(testBatch(t, 1, 1, "n", 1))
}

func TestClosed_EveryMethodSaysSo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	n := c.members[0].running()
	c.members[0].stop()
	ctx := context.Background()
	_, ingest := n.Ingest(ctx, []storage.Batch{testBatch(t, 1, 1, "n", 1)})
	_, query := n.Query(ctx, window.Query{Metric: "m"})
	_, index := n.ReadIndex(ctx)
	_, join := n.HandleJoin(ctx, Join{})
	for what, err := range map[string]error{"Ingest": ingest, "Query": query, "ReadIndex": index, "HandleJoin": join, "Transfer": n.Transfer(ctx, ""), "Snapshot": n.Snapshot(ctx)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Shutdown = %v, want ErrClosed", what, err)
		}
	}
	if err := n.Shutdown(ctx); err != nil {
		t.Errorf("second Shutdown = %v", err)
	}
	n.Kill()
	if s := n.raft.State(); s != raft.Shutdown {
		t.Errorf("raft is %v", s)
	}
}
