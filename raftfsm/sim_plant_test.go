package raftfsm

import (
	"io"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

// simPlant is a bug that a simulation must find. The zero value is none.
type simPlant struct {
	storage string                                  // a field of storage.DB that plants it
	machine func(raft.BatchingFSM) raft.BatchingFSM // or a state machine around the right one
}

// simCounts notes what a simulation went through.
type simCounts struct {
	raft.BatchingFSM
	s *sim
	m *simMember
}

// ApplyBatch compares the members at every 32nd index: a later install would
// hide that they were different once.
func (c *simCounts) ApplyBatch(entries []*raft.Log) (responses []any) {
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n-1].Index%32 != 0 {
			n++
		}
		last := entries[n-1]
		c.s.terms.LoadOrStore(last.Term, true)
		responses = append(responses, c.BatchingFSM.ApplyBatch(entries[:n])...)
		if last.Index%32 == 0 {
			c.s.compare(c.m)
		}
		entries = entries[n:]
	}
	return responses
}

func (c *simCounts) Restore(r io.ReadCloser) error {
	c.s.installs.Add(1)
	return c.BatchingFSM.Restore(r)
}

// simMangle edits entries before the state machine sees them.
type simMangle struct {
	raft.BatchingFSM
	names interner
	edit  func(*raft.Log, *storage.Entry)
}

func (m *simMangle) ApplyBatch(entries []*raft.Log) []any {
	edited := make([]*raft.Log, len(entries))
	for i, entry := range entries {
		c := *entry
		edited[i] = &c
		if c.Type == raft.LogCommand {
			c.Data = m.mangle(entry)
		}
	}
	return m.BatchingFSM.ApplyBatch(edited)
}

func (m *simMangle) mangle(entry *raft.Log) []byte {
	e, err := decodeEntry(entry.Data, &m.names)
	if err != nil || e.Kind != storage.KindBatches {
		return entry.Data
	}
	m.edit(entry, &e)
	var body []byte
	for i := range e.Batches {
		if body, err = appendBatch(body, &e.Batches[i]); err != nil {
			panic(err)
		}
	}
	return encodeBatches(e.ClockMs, len(e.Batches), body)
}
