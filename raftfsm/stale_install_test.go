package raftfsm

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// A snapshot that was overtaken on its way comes after the log it stands for is
// cut. Raft takes any from the leader of its term, and would go back.
func TestSnapshot_StaleInstallIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newInmemCluster(t, 3, oneTrailing)
		c.startAll()
		for seq := uint64(1); seq <= 5; seq++ {
			c.ingest(testBatch(t, 1, seq, "n", 1))
		}
		leader := c.leader()
		snapshot(t, leader)
		meta, rc, err := leader.running().snaps.Open(liveID)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		for seq := uint64(6); seq <= 20; seq++ {
			c.ingest(testBatch(t, 1, seq, "n", 1))
		}
		c.equal(map[string]uint64{"n": 20})
		follower := c.followers()[0]
		snapshot(t, follower)

		_, late := raft.NewInmemTransport("late:1")
		late.Connect(raft.ServerAddress(follower.addr), follower.mem)
		n := leader.running()
		var resp raft.InstallSnapshotResponse
		err = late.InstallSnapshot("", raft.ServerAddress(follower.addr), &raft.InstallSnapshotRequest{
			RPCHeader:       raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.server), Addr: []byte(leader.addr)},
			SnapshotVersion: meta.Version, Term: n.raft.CurrentTerm(), Leader: []byte(leader.addr),
			LastLogIndex: meta.Index, LastLogTerm: meta.Term, Size: int64(len(data)),
			Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
		}, &resp, bytes.NewReader(data))
		if err == nil {
			t.Errorf("a snapshot at %d was installed over a later state", meta.Index)
		}
		c.ingest(testBatch(t, 1, 21, "n", 1))
		c.equal(map[string]uint64{"n": 21})
	})
}

// A member whose log ends in an uncommitted entry at the very index of the
// snapshot goes on comparing that entry. The leader must not send the same
// snapshot for ever, on an idle cluster too.
func TestSnapshot_InstallAtTheIndexOfAnUncommittedEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var installs atomic.Int64
		c := newInmemCluster(t, 3, func(o *Options) {
			o.TrailingLogs = 1
			o.machine = func(f raft.FSM) raft.FSM { return &restoreCounter{f.(raft.BatchingFSM), &installs} }
		})
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 1))
		old := c.leader()
		c.partition(old)
		for range 30 { // on the disk of the old leader only
			old.running().raft.Apply(encodeTick(1), 0)
		}
		synctest.Wait()
		last := old.running().raft.LastIndex()
		var next *Node
		eventually(t, 10*time.Second, func() string {
			for _, m := range c.members {
				if m != old && m.running().IsLeader() {
					next = m.running()
					return ""
				}
			}
			return "the others elect nobody"
		})
		var values uint64 = 1
		for next.raft.LastIndex() < last {
			values++
			c.ingest(testBatch(t, 1, values, "n", 1))
		}
		for _, m := range c.members {
			if m != old {
				snapshot(t, m)
			}
		}
		if state, _ := next.Store().FlushedState(); state.Index != last {
			t.Fatalf("the snapshot is at %d, the uncommitted log ends at %d", state.Index, last)
		}
		c.heal()
		c.equal(map[string]uint64{"n": values})
		values++ // of one more batch, which must reach the old leader too
		c.ingest(testBatch(t, 1, values, "n", 1))
		c.equal(map[string]uint64{"n": values})
		if n := installs.Load(); n == 0 || n > 4 {
			t.Errorf("%d installs, want 1 to 4", n)
		}
	})
}

// restoreCounter counts installs.
type restoreCounter struct {
	raft.BatchingFSM
	installs *atomic.Int64
}

func (r *restoreCounter) Restore(rc io.ReadCloser) error {
	r.installs.Add(1)
	return r.BatchingFSM.Restore(rc)
}
