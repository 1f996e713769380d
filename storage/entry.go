package storage

import (
	"encoding/hex"
	"fmt"

	"github.com/distributed-median-tracker/dmt/window"
)

// Cluster is what the first entry of a log fixes for ever.
type Cluster struct {
	// ID names the cluster.
	ID string
	// Precision is the precision of every sketch that is stored, 5 to 8.
	Precision int
	// Tiers are the widths of buckets and how long each is kept.
	Tiers window.Tiers
}

// Kind says what an Entry carries. The numbers are part of the log's format.
type Kind uint8

const (
	// KindTick carries nothing but its clock.
	KindTick Kind = 1
	// KindInit carries a Cluster. Only the first one of a log has an effect.
	KindInit Kind = 2
	// KindBatches carries Batches.
	KindBatches Kind = 3
	// KindRetention carries Tiers, with which everything but their widths changes.
	// What is gone does not come back.
	KindRetention Kind = 4
	// KindAcceptClock says that a jump of the log clock was right: expiry goes on.
	KindAcceptClock Kind = 5
)

// Entry is one entry of the replicated log, as the state machine sees it.
type Entry struct {
	// Index and Term are those of the log. Indices rise from entry to entry,
	// with gaps.
	Index, Term uint64
	// ClockMs is the log clock that the entry carries, in unix milliseconds.
	// The clock of the state machine is the greatest it was ever given.
	ClockMs int64
	Kind    Kind
	// Cluster belongs to KindInit.
	Cluster *Cluster
	// Tiers belong to KindRetention. Others than the cluster's widths have no
	// effect.
	Tiers window.Tiers
	// Batches belong to KindBatches.
	Batches []Batch
}

// ProducerID names one life of one client: 128 random bits.
type ProducerID [16]byte

// String returns the id in hex.
func (p ProducerID) String() string { return hex.EncodeToString(p[:]) }

// Batch is what a producer sends at once, and the unit that is counted exactly
// once. A batch without deltas settles its number.
type Batch struct {
	Producer ProducerID
	// Seq numbers the batches of a producer from 1.
	Seq uint64
	// SeenMs is the greatest log clock the producer had been told when it
	// numbered the batch.
	SeenMs int64
	// Hash is taken over the client's bytes, before any refusal: a retry has
	// the same, another batch under the same number has not.
	Hash uint64
	// Refused is how many entries of the client's batch the leader left out.
	Refused uint32
	// RefusedEntries are the indices of those entries in the client's batch,
	// rising, or nil. The log lists them; the state keeps only their number.
	RefusedEntries []uint32
	Deltas         []Delta
}

// Delta is a sketch to be merged into one bucket of one node. Its strings and
// bytes may alias the log entry: Apply copies what it keeps.
type Delta struct {
	Metric, Node string
	// Start is the start of a bucket of the base width, in unix seconds.
	Start int64
	// Sketch is canonical and was checked before it entered the log.
	Sketch []byte
	// Count is how many values Sketch holds. A delta of none has no effect.
	Count uint64
}

// Status is what became of a batch.
type Status uint8

const (
	// Applied batches are counted by this entry.
	Applied Status = iota
	// Duplicate batches were counted by an earlier entry, which is one of the last
	// few of their producer.
	Duplicate
	// Conflict is for a number that was used for other content. Nothing is
	// counted.
	Conflict
	// TooOldToDeduplicate batches come from a producer that is not known (any
	// more) and may have been counted already. Nothing is counted.
	TooOldToDeduplicate
	// SeqWindow batches are numbered more than WindowSize ahead of the oldest
	// batch that is missing. Nothing is counted.
	SeqWindow
	// TotalOverflow batches would bring the number of all values ever counted
	// over MaxTotal. Nothing is counted.
	TotalOverflow
)

var statusNames = [...]string{"applied", "duplicate", "conflict", "too_old_to_deduplicate", "window", "total_overflow"}

// String returns the status as the API names it.
func (s Status) String() string {
	if int(s) >= len(statusNames) {
		return fmt.Sprintf("status(%d)", s)
	}
	return statusNames[s]
}

// Outcome answers one batch.
type Outcome struct {
	Status Status
	// Refused is how many entries were left out when the batch was applied, now
	// or earlier. It is 0 for a duplicate so old that only its number is known.
	Refused uint32
	// Index is the entry that decided: everything counted up to it is visible
	// to a reader that waits for it.
	Index uint64
}

// MaxTotal bounds the number of all values ever counted. Every row and answer
// is a part of that total, so that merging needs no check of its own.
const MaxTotal uint64 = 1 << 62
