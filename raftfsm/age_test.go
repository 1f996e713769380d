package raftfsm

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// starved delivers heartbeats to one member and no entries: as when a snapshot
// streams to it, or its disk hangs.
type starved struct {
	*raft.InmemTransport
	member *atomic.Pointer[raft.ServerAddress]
}

func (s starved) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	heartbeat := len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.LeaderCommitIndex == 0
	if m := s.member.Load(); m != nil && *m == to && !heartbeat {
		return io.ErrClosedPipe
	}
	return s.InmemTransport.AppendEntries(id, to, req, resp)
}

func (s starved) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func TestCheckAge_HeartbeatsAloneDoNotMakeFresh(t *testing.T) {
	var member atomic.Pointer[raft.ServerAddress]
	c := newInmemCluster(t, 3, func(o *Options) {
		inner := o.Transport
		o.Transport = func(i Identity) (raft.Transport, error) {
			tr, err := inner(i)
			if err != nil {
				return nil, err
			}
			return starved{tr.(*raft.InmemTransport), &member}, nil
		}
	})
	c.startAll()
	c.ingest(testBatch(t, 1, 1, "n", 7))
	f := c.followers()[0]
	eventually(t, 10*time.Second, func() string {
		if err := f.running().CheckAge(time.Second); err != nil {
			return err.Error()
		}
		return ""
	})
	addr := raft.ServerAddress(f.addr)
	member.Store(&addr)
	c.ingest(testBatch(t, 1, 2, "n", 5))
	eventually(t, 15*time.Second, func() string {
		if err := f.running().CheckAge(time.Second); err == nil {
			return "seconds behind an acknowledged write it says that it is fresh"
		}
		return ""
	})
}
