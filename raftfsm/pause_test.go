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

// A leader whose process is stopped and goes on later still leads as far as it
// knows: its timers stood still, and answers from before may lie in its sockets.
// Here its timers run a three-hundredth as fast as those of the others, and the
// network holds what it sends and what is sent to it.
func TestRead_PausedLeaderDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := newSimNet(1)
		net.setWeather(simWeather{})
		net.rpc = time.Minute // a process that is stopped gives nothing up
		c := newInmemCluster(t, 3, func(o *Options) {
			addr := o.Address
			o.Peers = simPeers{net, addr}
			o.Transport = func(Identity) (raft.Transport, error) { return net.listen(addr), nil }
		})
		t.Cleanup(net.close)
		for _, m := range c.members {
			net.nodes[m.addr] = m.running
		}
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 1))

		old, calm := slowLeader(t, c)
		n := old.running()
		// Its heartbeats go out, and the answers stay on the way.
		release := net.holdLinks(c.addrs(), func(_, to string) bool { return to == old.addr })
		time.Sleep(100 * time.Millisecond)
		calm()
		net.holdLinks(c.addrs(), func(from, _ string) bool { return from == old.addr })
		next := otherLeader(t, c, old)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := next.Ingest(ctx, []storage.Batch{testBatch(t, 1, 2, "n", 1)}); err != nil {
			t.Fatal(err)
		}
		if n.raft.State() != raft.Leader {
			t.Fatal("the paused leader knows that it does not lead: this test shows nothing")
		}

		type answer struct {
			count uint64
			err   error
		}
		asked := make(chan answer, 1)
		go func() {
			count, err := askCount(t, n, window.Linearizable, 2*time.Second)
			asked <- answer{count, err}
		}()
		synctest.Wait()
		release() // it goes on, and finds answers to what it asked before the pause
		if a := <-asked; a.err == nil && a.count != 2 || a.err != nil && !errors.Is(a.err, ErrNoLeader) {
			t.Errorf("a read after the pause answers %d, %v, want 2 or ErrNoLeader", a.count, a.err)
		}
		net.heal(c.addrs())
		if got, err := askCount(t, n, window.Linearizable, 10*time.Second); err != nil || got != 2 {
			t.Errorf("a read later answers %d, %v, want 2", got, err)
		}
	})
}

// slowLeader makes a leader of a member whose timers are slow. The others stay
// calm only because it is asked all the time, until the function is called.
func slowLeader(t *testing.T, c *testCluster) (m *testMember, calm func()) {
	t.Helper()
	m = c.followers()[0]
	m.kill()
	m.start(func(o *Options) { o.TimeoutScale = 100 })
	eventually(t, 10*time.Second, func() string {
		if m.running().hasLeader() {
			return ""
		}
		return "the slow member finds no leader"
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			asking.Go(func() { _, _ = m.running().ReadIndex(ctx) }) // for the heartbeats that it sends
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	if err := c.leader().running().Transfer(ctx, m.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() string {
		if got, err := askCount(t, m.running(), window.Linearizable, time.Second); err != nil || got != 1 || !m.running().IsLeader() {
			return "the slow member does not lead"
		}
		return ""
	})
	return m, sync.OnceFunc(func() {
		close(stop)
		cancel()
		asking.Wait()
	})
}

func otherLeader(t *testing.T, c *testCluster, old *testMember) (next *Node) {
	t.Helper()
	eventually(t, 10*time.Second, func() string {
		for _, m := range c.members {
			if m != old && m.running().IsLeader() {
				next = m.running()
				return ""
			}
		}
		return "the others elect nobody"
	})
	return next
}
