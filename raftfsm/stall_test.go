package raftfsm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

// stuckDisk makes the appends of one member hang.
type stuckDisk struct {
	mu   sync.Mutex // guards the two below
	id   string
	back chan struct{}
}

func (d *stuckDisk) writing(id string) {
	d.mu.Lock()
	stuck, back := d.id == id, d.back
	d.mu.Unlock()
	if stuck {
		<-back
	}
}

func (d *stuckDisk) stick(id string) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	back := make(chan struct{})
	d.id, d.back = id, back
	return func() {
		d.mu.Lock()
		d.id = ""
		d.mu.Unlock()
		close(back)
	}
}

// A leader whose disk hangs goes on with heartbeats as far as Raft is
// concerned. The others must get a leader that can write all the same.
func TestStall_LeaderLosesLeadership(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var disk stuckDisk
		c := newInmemCluster(t, 3, func(o *Options) {
			id := o.ID
			o.writing = func() { disk.writing(id) }
		})
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 1))
		old := c.leader()
		release := sync.OnceFunc(disk.stick(old.id))
		t.Cleanup(release)
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), stallAfter+time.Second)
		defer cancel()
		if _, err := old.running().Ingest(ctx, []storage.Batch{testBatch(t, 1, 2, "n", 1)}); !errors.Is(err, ErrIndeterminate) {
			t.Errorf("a batch that hangs in the log = %v, want ErrIndeterminate", err)
		}
		if out := c.ingest(testBatch(t, 1, 2, "n", 1)); out.Status != storage.Applied {
			t.Errorf("the same batch at the next leader is %v, want applied", out.Status)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("writes went on after %v", took)
		}
		if next := c.leader(); next == old {
			t.Error("the member with the stalled disk leads")
		}
		n := old.running()
		if n.IsLeader() || !slices.Contains(n.Status().Alarms, "disk_stalled") {
			t.Errorf("the old leader says it leads: %v, alarms %v", n.IsLeader(), n.Status().Alarms)
		}
		var not NotLeaderError
		if _, err := n.Ingest(context.Background(), []storage.Batch{testBatch(t, 1, 3, "n", 1)}); !errors.As(err, &not) {
			t.Errorf("a batch at the old leader = %v, want a NotLeaderError", err)
		}
		if got, err := askCount(t, n, window.Linearizable, time.Second); err == nil && got != 2 {
			t.Errorf("the old leader answers %d, want 2 or an error", got)
		}
		release()
		c.equal(map[string]uint64{"n": 2})
		if a := n.Status().Alarms; slices.Contains(a, "disk_stalled") {
			t.Errorf("alarms with the disk back: %v", a)
		}
	})
}

// A disk that is merely slow costs nobody the leadership.
func TestStall_SlowDiskKeepsLeadership(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		c := newInmemCluster(t, 1, func(o *Options) {
			o.writing = func() {
				if slow.Load() {
					time.Sleep(stallAfter - time.Millisecond)
				}
			}
		})
		c.startAll()
		n := c.leader().running()
		slow.Store(true)
		for seq := uint64(1); seq <= 10; seq++ {
			if _, err := n.Ingest(context.Background(), []storage.Batch{testBatch(t, 1, seq, "n", 1)}); err != nil {
				t.Errorf("batch %d on a slow disk: %v", seq, err)
			}
		}
		if a := n.Status().Alarms; len(a) != 0 || !n.IsLeader() {
			t.Errorf("on a slow disk: leader %v, alarms %v", n.IsLeader(), a)
		}
	})
}
