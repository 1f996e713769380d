package raftfsm

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// silence swallows what is written to a member, as a stopped process or a
// network that drops packets does.
type silence struct {
	net.Conn
	of *atomic.Bool
}

func (c silence) Write(p []byte) (int, error) {
	if c.of.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// A follower falls silent, and reads at the leader go on with the other: the
// silent one holds a handful of connections, however many reads there are.
func TestReadIndex_BesideASilentFollower(t *testing.T) {
	silent := make(map[string]*atomic.Bool) // by address
	var mu sync.Mutex
	of := func(addr string) *atomic.Bool {
		mu.Lock()
		defer mu.Unlock()
		if silent[addr] == nil {
			silent[addr] = new(atomic.Bool)
		}
		return silent[addr]
	}
	var dials atomic.Int64
	c := newCluster(t, 3, func(o *Options) {
		dial := o.Dial
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			if of(addr).Load() {
				dials.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			conn, err := dial(ctx, addr)
			return silence{conn, of(addr)}, err
		}
	})
	c.startAll()
	c.ingest(testBatch(t, 1, 1, "n", 1))
	leader := c.leader()
	of(c.followers()[0].addr).Store(true)
	var reads atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for began := time.Now(); time.Since(began) < 2*time.Second; {
				if _, err := leader.running().ReadIndex(t.Context()); err == nil {
					reads.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if r, d := reads.Load(), dials.Load(); r < 100 || d > 50 {
		t.Errorf("%d reads dialled the silent member %d times, want many and a few", r, d)
	}
}
