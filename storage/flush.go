package storage

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// Flush moves everything applied before the call into the file, in one fsynced
// transaction. When it returns nil the log up to there is not needed any more.
// ctx ends the wait for another flush; a flush that runs is not cut short.
func (db *DB) Flush(ctx context.Context) error {
	select {
	case db.turn <- struct{}{}:
		defer func() { <-db.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	h, gen, err := db.freeze()
	if err != nil || h == nil {
		return err
	}
	defer gen.release()
	if db.onFrozen != nil {
		db.onFrozen()
	}
	began := time.Now()
	f := newFlusher(db, h)
	if err := guarded(func() error { return f.run(gen) }); err != nil {
		return db.fail(err)
	}
	db.mu.Lock()
	db.flushing = nil
	overLimit := db.current.bytes > db.headLimit
	db.mu.Unlock()
	if overLimit {
		select {
		case db.wantFlush <- struct{}{}:
		default: // it knows
		}
	}
	db.log.Debug("flushed", "index", h.end.index, "bytes", h.bytes, "took", time.Since(began))
	return nil
}

// freeze makes the current head the flushing one, with the state as of its last
// entry. It returns nil when the file holds everything already. turn is held.
func (db *DB) freeze() (*head, *generation, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err := db.usable(); err != nil {
		return nil, nil, err
	}
	if db.live.index == db.durable.state.index && db.config.index == db.durable.config {
		return nil, nil, nil
	}
	if !db.gen.acquire() {
		return nil, nil, ErrClosed
	}
	h := db.current
	h.end, h.cluster, h.config = db.live, db.cluster, db.config
	db.current, db.flushing, db.idleFrom = newHead(), h, h.end.index
	return h, db.gen, nil
}

// flushLoop flushes when time or the size of the head says so.
func (db *DB) flushLoop() {
	var tick <-chan time.Time
	if db.flushEvery > 0 {
		timer := time.NewTimer(db.stagger)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-db.quit:
			return
		}
		ticker := time.NewTicker(db.flushEvery)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-db.quit:
			return
		case <-db.done:
			return
		case <-db.wantFlush:
		case <-tick:
			if !db.worthFlushing() {
				continue
			}
		}
		// An error has stopped the DB and was reported by fail.
		_ = db.Flush(context.Background())
	}
}

// idleEntries is how many entries without content wait in the log before they
// are worth two fsyncs.
const idleEntries = 100

func (db *DB) worthFlushing() bool {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.current.important || db.live.index > db.idleFrom+idleEntries
}

// flusher writes one frozen head.
type flusher struct {
	db        *DB
	h         *head
	base      window.Width
	precision int
	acc       *sketch.Accumulator
	w         writer
	slab      slab // of what bbolt keeps until the commit

	series []seriesChange

	// scratch
	key, front, row, fleet, merged []byte
	set                            nodeBits
	numbers                        []uint32
}

// seriesChange is what a flush adds to the counters of a series.
type seriesChange struct {
	seriesKey
	start  int64
	count  uint64
	stored bool // the bucket had a row
}

func newFlusher(db *DB, h *head) *flusher { return &flusher{db: db, h: h} }

// run writes the head in one transaction. Everything it stores is as of the
// head's last entry, although the next head is being filled meanwhile.
func (f *flusher) run(gen *generation) error {
	tx, err := gen.bolt.Begin(true)
	if err != nil {
		return err
	}
	// After a commit this does nothing; after a panic it lets Close go on.
	defer func() { _ = tx.Rollback() }()
	f.w = writer{tx: tx}
	if err := f.write(); err != nil {
		return err
	}
	if f.db.onCommit != nil {
		f.db.onCommit()
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	d := &f.db.durable
	d.state, d.config, d.clusterSet = f.h.end, f.h.config.index, f.h.cluster.ID != ""
	return nil
}

func (f *flusher) write() error {
	if f.h.cluster.ID != "" {
		f.base, f.precision = f.h.cluster.Tiers.Base(), f.h.cluster.Precision
		f.acc = f.db.accumulator(f.precision)
		defer f.db.accumulators.Put(f.acc)
		if err := f.writeRows(); err != nil {
			return err
		}
	}
	f.writeNames()
	if f.db.lateMeta {
		defer f.writeMetaBefore(f.db.durable.producers.append(nil, f.db.durable.state.clockMs))
	}
	f.writeProducers()
	f.writeMeta()
	return f.w.err
}

// writeRows writes fleet rows, node rows and counters, each in the order of its
// keys.
func (f *flusher) writeRows() error {
	cells := f.cells()
	changes := make(map[*metric]*metricRow)
	for i := range cells {
		c := &cells[i]
		row, err := f.metricRow(changes, c.metric)
		if err != nil {
			return err
		}
		isNew, err := f.writeFleet(c, row)
		if err != nil {
			return err
		}
		var count uint64
		for _, d := range c.sorted {
			count += d.count
		}
		row.add(count, c.bucket.start, !isNew)
	}
	slices.SortFunc(cells, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.bucket.start, b.bucket.start), cmp.Compare(a.metric.number, b.metric.number))
	})
	for i := range cells {
		if err := f.writeNodes(&cells[i]); err != nil {
			return err
		}
		cells[i].sorted = nil
	}
	return f.writeCounters(changes)
}

// cells returns the buckets of the head by metric and start.
func (f *flusher) cells() []cell {
	var cells []cell
	for number, buckets := range f.h.metrics {
		m := f.db.metricNumbered(number)
		for _, b := range buckets {
			cells = append(cells, cell{metric: m, bucket: b})
		}
	}
	slices.SortFunc(cells, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.metric.number, b.metric.number), cmp.Compare(a.bucket.start, b.bucket.start))
	})
	return cells
}

func (db *DB) metricNumbered(number uint32) *metric {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.names.metrics[number]
}

// writeNodes writes the node rows of a cell. One delta and no row: it is stored
// as it came, not even decoded.
func (f *flusher) writeNodes(c *cell) error {
	table := nodeTable(f.base)
	stored := c.stored
	for deltas := c.sorted; len(deltas) > 0; {
		node, n := deltas[0].node, 1
		for n < len(deltas) && deltas[n].node == node {
			n++
		}
		for len(stored) > 0 && stored[0] < node {
			stored = stored[1:]
		}
		isStored := len(stored) > 0 && stored[0] == node
		if err := f.writeNode(table, c, deltas[:n], isStored); err != nil {
			return err
		}
		deltas = deltas[n:]
	}
	return f.w.err
}

func (f *flusher) writeNode(table string, c *cell, deltas []delta, stored bool) error {
	k := nodeKey{c.bucket.start, c.metric.number, deltas[0].node}
	f.key = k.append(f.key[:0])
	value := deltas[0].sketch
	if stored || len(deltas) > 1 {
		sketches := make([][]byte, 0, len(deltas)+1)
		if stored {
			old := f.w.table(table).Get(f.key)
			if old == nil {
				return f.damaged(table, c, k.node, errMissing)
			}
			sketches = append(sketches, old)
		}
		for _, d := range deltas {
			sketches = append(sketches, d.sketch)
		}
		if err := f.merge(&f.merged, sketches...); err != nil {
			return f.damaged(table, c, k.node, err)
		}
		value = f.slab.copy(f.merged)
	}
	f.w.putValue(table, f.key, value)
	change := seriesChange{seriesKey: seriesKey{k.metric, k.node}, start: k.start, stored: stored}
	for _, d := range deltas {
		change.count += d.count
	}
	f.series = append(f.series, change)
	return f.w.err
}

// allNodes stands for the fleet where a node number is asked for.
const allNodes = ^uint32(0)

func (f *flusher) damaged(table string, c *cell, node uint32, err error) error {
	id := window.AllNodes
	if node != allNodes {
		f.db.mu.RLock()
		id = f.db.names.nodes[node]
		f.db.mu.RUnlock()
	}
	return &DamagedError{table, rowName(c.metric.name, id, window.Bucket{Start: c.bucket.start, Width: f.base}), err}
}
