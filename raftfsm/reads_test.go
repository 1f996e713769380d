package raftfsm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

func askCount(t testing.TB, n *Node, read window.Read, within time.Duration) (uint64, error) {
	t.Helper()
	q, err := window.Query{Metric: "m", Read: read}.Check(time.Now(), 10)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	a, err := n.Query(ctx, q)
	if err != nil || len(a.Results) == 0 {
		return 0, err
	}
	return a.Results[0].Count, nil
}

// Every member answers a linearizable read right after an election, on a
// cluster where nobody writes: the term's own entry makes the index readable.
func TestRead_LinearizableAfterElectionOnIdleCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	c.ingest(testBatch(t, 1, 1, "n", 7))
	for range 3 {
		dead := c.leader()
		dead.kill()
		for _, m := range c.members {
			if n := m.running(); n != nil {
				if got, err := askCount(t, n, window.Linearizable, 10*time.Second); err != nil || got != 7 {
					t.Errorf("member %s answers %d, %v, want 7", m.id, got, err)
				}
			}
		}
		dead.start()
		c.ready()
	}
}

// What was acknowledged before a read began is in its answer, at any member.
func TestRead_SeesEveryAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	var acked, invoked atomic.Uint64
	var load sync.WaitGroup
	stop := make(chan struct{})
	load.Go(func() {
		for seq := uint64(1); ; seq++ {
			select {
			case <-stop:
				return
			default:
			}
			invoked.Add(2)
			if _, err := c.send(testBatch(t, 1, seq, "n", 2)); err != nil {
				t.Error(err)
				return
			}
			acked.Add(2)
		}
	})
	eventually(t, 10*time.Second, func() string {
		if acked.Load() == 0 {
			return "nothing is acknowledged"
		}
		return ""
	})
	var readers sync.WaitGroup
	for _, m := range c.members {
		readers.Go(func() {
			for range 60 {
				least := acked.Load()
				got, err := askCount(t, m.running(), window.Linearizable, 10*time.Second)
				if most := invoked.Load(); err != nil || got < least || got > most {
					t.Errorf("member %s answers %d, %v, want %d to %d", m.id, got, err, least, most)
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	load.Wait()
}

// A leader that is cut off must not answer: the others may have gone on.
func TestRead_CutOffLeaderDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newInmemCluster(t, 3, nil)
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 1))
		old := c.leader()
		c.partition(old)
		// Not even by a heartbeat that was answered before the cut.
		if got, err := askCount(t, old.running(), window.Linearizable, time.Second); !errors.Is(err, ErrNoLeader) {
			t.Errorf("the cut-off leader answers %d, %v, want ErrNoLeader", got, err)
		}
		if _, err := askCount(t, old.running(), window.Stale, time.Second); err != nil {
			t.Errorf("a stale read at the cut-off member = %v", err)
		}
		eventually(t, 10*time.Second, func() string {
			for _, m := range c.members {
				if m != old && m.running().IsLeader() {
					return ""
				}
			}
			return "the others elect nobody"
		})
		c.ingest(testBatch(t, 1, 2, "n", 1))
		for _, m := range c.members {
			if m == old {
				continue
			}
			if got, err := askCount(t, m.running(), window.Linearizable, 5*time.Second); err != nil || got != 2 {
				t.Errorf("member %s answers %d, %v, want 2", m.id, got, err)
			}
		}
		if got, err := askCount(t, old.running(), window.Linearizable, time.Second); !errors.Is(err, ErrNoLeader) {
			t.Errorf("the cut-off member answers %d, %v, want ErrNoLeader", got, err)
		}
		c.heal()
		if got, err := askCount(t, old.running(), window.Linearizable, 10*time.Second); err != nil || got != 2 {
			t.Errorf("the old leader answers %d, %v after it is back, want 2", got, err)
		}
		c.equal(map[string]uint64{"n": 2})
	})
}

func TestRead_LeaderLevelAndStaleness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newInmemCluster(t, 3, nil)
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 1))
		for _, m := range c.members {
			if got, err := askCount(t, m.running(), window.Leader, 5*time.Second); err != nil || got != 1 {
				t.Errorf("read leader at %s = %d, %v, want 1", m.id, got, err)
			}
		}
		follower := c.followers()[0]
		n := follower.running()
		if err := n.gate(context.Background(), window.Stale, 5*time.Second); err != nil {
			t.Errorf("a follower in touch is too stale: %v (age %v)", err, n.age())
		}
		c.partition(follower)
		eventually(t, 10*time.Second, func() string {
			if err := n.gate(context.Background(), window.Stale, 100*time.Millisecond); !errors.Is(err, ErrTooStale) {
				return "a follower out of touch is fresh"
			}
			return ""
		})
		if err := n.gate(context.Background(), window.Stale, 0); err != nil {
			t.Errorf("a stale read of any age = %v", err)
		}
	})
}
