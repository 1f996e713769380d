package raftfsm

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

// A simulation that finds nothing proves nothing unless it finds these. Each
// test plants one bug and runs the seeds of TestSim_Seeds until one fails.

// No dedup: every batch counts, whoever sent it before.
func TestSimFinds_NoDedup(t *testing.T) {
	simFinds(t, simPlant{machine: mangled(func(entry *raft.Log, e *storage.Entry) {
		for i := range e.Batches {
			b := &e.Batches[i]
			binary.BigEndian.PutUint64(b.Producer[8:], entry.Index<<16|uint64(i))
			b.Seq = 1
		}
	})})
}

// The producers are left out of what a flush stores, so out of snapshots too.
func TestSimFinds_ProducersLeftOutOfTheFile(t *testing.T) {
	simFinds(t, simPlant{storage: "saveNone"})
}

// A flush stores the producers as they are, not as they were at its index.
func TestSimFinds_LiveProducersInTheFile(t *testing.T) {
	simFinds(t, simPlant{storage: "saveLive"})
}

// An installed snapshot comes on top of what was there.
func TestSimFinds_RestoreMerges(t *testing.T) {
	simFinds(t, simPlant{storage: "keepHead"})
}

// Each member takes its own wall clock for the log's.
func TestSimFinds_WallClockInApply(t *testing.T) {
	simFinds(t, simPlant{machine: mangled(func(_ *raft.Log, e *storage.Entry) { e.ClockMs = time.Now().UnixMilli() })})
}

// The deltas of a batch are applied in the order of a map.
func TestSimFinds_MapOrderInApply(t *testing.T) {
	simFinds(t, simPlant{machine: mangled(func(_ *raft.Log, e *storage.Entry) {
		for i := range e.Batches {
			byNode := make(map[string]storage.Delta)
			for _, d := range e.Batches[i].Deltas {
				byNode[d.Node] = d
			}
			e.Batches[i].Deltas = slices.Collect(maps.Values(byNode))
		}
	})})
}

// Rows are in the file before index and producers are, so that a restart
// replays entries that the file holds.
func TestSimFinds_ReplayOfWhatTheFileHolds(t *testing.T) {
	simFinds(t, simPlant{storage: "lateMeta"})
}

func mangled(edit func(*raft.Log, *storage.Entry)) func(raft.BatchingFSM) raft.BatchingFSM {
	return func(f raft.BatchingFSM) raft.BatchingFSM { return &simMangle{BatchingFSM: f, edit: edit} }
}

func simFinds(t *testing.T, plant simPlant) {
	t.Helper()
	t.Parallel()
	for _, seed := range simSeedList() {
		if r := runSim(t, seed, plant); r.err != nil {
			t.Logf("found by seed %d: %v", seed, r.err)
			return
		}
	}
	t.Error("no seed found it")
}
