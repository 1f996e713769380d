package raftfsm

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"

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
