package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Apply brings the state one entry further and returns one outcome per batch.
// Entries at or below the applied index have no effect and return nil: the log
// is replayed from there. It is deterministic: two members that apply the same
// entries hold the same content. An error means that the member has to stop.
func (db *DB) Apply(e *Entry) ([]Outcome, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.usable(); err != nil {
		return nil, err
	}
	if e.Index <= db.live.index {
		return nil, nil
	}
	if err := db.checkEntry(e); err != nil {
		return nil, fmt.Errorf("storage: entry %d: %w", e.Index, err)
	}
	var outcomes []Outcome
	db.live.advanceClock(e.ClockMs)
	db.sweep()
	db.expire()
	switch e.Kind {
	case KindInit:
		db.initialise(e.Cluster)
	case KindRetention:
		db.changeRetention(e.Tiers)
	case KindAcceptClock:
		db.acceptClock()
	case KindBatches:
		outcomes = make([]Outcome, len(e.Batches))
		for i := range e.Batches {
			outcomes[i] = db.applyBatch(&e.Batches[i], e.Index)
		}
	}
	db.advance(e.Index, e.Term)
	return outcomes, nil
}

// checkEntry refuses what no member may skip, since others would not.
func (db *DB) checkEntry(e *Entry) error {
	switch {
	case e.Kind == KindTick, e.Kind == KindAcceptClock:
		return nil
	case e.Kind == KindRetention:
		return e.Tiers.Check()
	case e.Kind == KindInit && e.Cluster == nil:
		return errors.New("init without a cluster")
	case e.Kind == KindInit:
		return e.Cluster.check()
	case e.Kind == KindBatches && db.cluster.ID == "":
		return ErrNotInitialised
	case e.Kind == KindBatches:
		return nil
	}
	return fmt.Errorf("kind %d is not known to this version: update this member", e.Kind)
}

// sweepEvery is how often, on the log clock, forgotten producers leave memory.
const sweepEvery = time.Hour

func (db *DB) sweep() {
	if db.live.expiryMs >= db.sweptMs+sweepEvery.Milliseconds() {
		db.producers.dropForgotten(db.live.expiryMs)
		db.sweptMs = db.live.expiryMs
	}
}

// initialise fixes the cluster. Who lost the race to do it changes nothing.
func (db *DB) initialise(c *Cluster) {
	if db.cluster.ID != "" {
		return
	}
	db.cluster = Cluster{ID: c.ID, Precision: c.Precision, Tiers: slices.Clone(c.Tiers)}
	db.live.begin(len(c.Tiers))
	db.live.heldMs, db.live.expiryMs = 0, db.live.clockMs // nothing was there to expire before
	db.current.important = true
	db.expire()
}

// advance sets the applied index and wakes who waits for it.
func (db *DB) advance(index, term uint64) {
	db.live.index, db.live.term = index, term
	db.live.metrics, db.live.nodes = uint32(len(db.names.metrics)), uint32(len(db.names.nodes))
	db.waiters = slices.DeleteFunc(db.waiters, func(w waiter) bool {
		if w.index > index {
			return false
		}
		close(w.reached)
		return true
	})
	if db.current.bytes > db.headLimit && db.flushing == nil {
		select {
		case db.wantFlush <- struct{}{}:
		default: // it knows
		}
	}
}

func (db *DB) applyBatch(b *Batch, index uint64) Outcome {
	status, refused := db.producers.judge(b, db.live.expiryMs)
	if status != Applied {
		return Outcome{Status: status, Refused: refused, Index: index}
	}
	total := db.live.total
	for i := range b.Deltas {
		if b.Deltas[i].Count > MaxTotal-total {
			return Outcome{Status: TotalOverflow, Index: index}
		}
		total += b.Deltas[i].Count
	}
	db.live.total = total
	s := settlement{id: b.Producer, seq: b.Seq, clockMs: db.live.clockMs, expiryMs: db.live.expiryMs, record: record{b.Hash, b.Refused}}
	db.producers.settle(s)
	db.current.settled = append(db.current.settled, s)
	db.current.bytes += deltaOverhead
	db.current.important = true
	for i := range b.Deltas {
		db.applyDelta(&b.Deltas[i])
	}
	return Outcome{Status: Applied, Refused: refused, Index: index}
}

func (db *DB) applyDelta(d *Delta) {
	if d.Count == 0 {
		return
	}
	m, newMetric := db.names.metric(d.Metric)
	node, newNode := db.names.node(d.Node)
	if newMetric || newNode {
		db.current.bytes += int64(len(d.Metric) + len(d.Node))
	}
	start := db.cluster.Tiers.Base().Floor(d.Start)
	db.current.add(m.number, start, node, d, start < db.live.kept.fleet[0])
}

// SetConfiguration hands over the consensus configuration that the entry at
// index holds, for the next flush to store. Such an entry counts as applied. One
// at or below the applied index is kept if it is newer than what is known.
func (db *DB) SetConfiguration(index, term uint64, conf []byte) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.usable() != nil {
		return // nothing is stored any more, and Apply says why
	}
	if index > db.config.index {
		db.config = configuration{index: index, bytes: slices.Clone(conf)}
		db.current.important = true
	}
	if index > db.live.index {
		db.advance(index, term)
	}
}

// Applied returns index and term of the last entry that was applied.
func (db *DB) Applied() (index, term uint64) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.live.index, db.live.term
}

// ClockMs returns the log clock, in unix milliseconds.
func (db *DB) ClockMs() int64 {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.live.clockMs
}

// Cluster returns what KindInit fixed; false before that.
func (db *DB) Cluster() (Cluster, bool) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.cluster, db.cluster.ID != ""
}

// waiter is closed when an index is reached.
type waiter struct {
	index   uint64
	reached chan struct{}
}

// WaitApplied returns once the entry at index is applied.
func (db *DB) WaitApplied(ctx context.Context, index uint64) error {
	db.mu.Lock()
	if err := db.usable(); err != nil || db.live.index >= index {
		db.mu.Unlock()
		return err
	}
	w := waiter{index, make(chan struct{})}
	db.waiters = append(db.waiters, w)
	db.mu.Unlock()
	select {
	case <-w.reached:
		return nil
	case <-db.done:
		return db.stopped()
	case <-ctx.Done():
		db.mu.Lock()
		defer db.mu.Unlock()
		db.waiters = slices.DeleteFunc(db.waiters, func(o waiter) bool { return o == w })
		return ctx.Err()
	}
}

// HeadBytes returns how many bytes of deltas the current head holds, and how
// many of them ask for a flush.
func (db *DB) HeadBytes() (current, limit int64) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.current.bytes, db.headLimit
}

// Overloaded says that entries come faster than they can be flushed: the
// current head is over twice its limit while a flush runs. Who feeds the log
// should wait.
func (db *DB) Overloaded() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.flushing != nil && db.current.bytes > 2*db.headLimit
}
