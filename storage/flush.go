package storage

import (
	"cmp"
	"context"
	"math"
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
	db.flushing, db.sealFrom = nil, f.sealFrom
	again := f.backlog && db.flushEvery > 0 || db.current.bytes > db.headLimit
	db.mu.Unlock()
	if again {
		select {
		case db.wantFlush <- struct{}{}:
		default: // it knows
		}
	}
	db.log.Debug("flushed", "index", h.end.index, "bytes", h.bytes, "rows", f.rows, "rolled_up", f.rolledUp,
		"dropped", f.gone, "took", time.Since(began))
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
	if db.live.index == db.durable.state.index && db.config.index == db.durable.config && !db.durable.backlog {
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
	return db.current.important || db.live.index > db.idleFrom+idleEntries ||
		db.live.index > db.idleFrom && db.cluster.ID != "" && db.live.clockMs/1000 >= db.sealFrom
}

// flusher writes one frozen head, rolls up what the log clock has sealed, and
// drops what has expired.
type flusher struct {
	db        *DB
	h         *head
	tiers     window.Tiers
	precision int
	acc       *sketch.Accumulator
	w         writer
	slab      slab // of what bbolt keeps until the commit

	before  state // of the file, with sealed and progress as this flush has moved them
	end     state // to be stored
	changes map[*metric]*metricRow
	series  []seriesChange

	rows, rolledUp, gone int   // put, read to roll up, and dropped
	backlog              bool  // there is more to roll up or to drop
	sealFrom             int64 // as DB.sealFrom

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
	stored bool // not a new bucket
}

func newFlusher(db *DB, h *head) *flusher {
	return &flusher{
		db: db, h: h, before: db.durable.state, end: h.end, changes: make(map[*metric]*metricRow), sealFrom: math.MaxInt64,
	}
}

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
	d.state, d.config, d.cluster, d.backlog = f.end, f.h.config.index, f.h.cluster, f.backlog
	return nil
}

func (f *flusher) write() error {
	if f.h.cluster.ID != "" {
		if err := f.writeTiers(); err != nil {
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

// writeTiers writes the rows of all tiers: first the head's deltas into the rows
// that the file has now, then what is to be sealed, then what is to go.
func (f *flusher) writeTiers() error {
	f.tiers, f.precision = f.h.cluster.Tiers, f.h.cluster.Precision
	f.acc = f.db.accumulator(f.precision)
	defer f.db.accumulators.Put(f.acc)
	if len(f.before.sealed) == 0 { // the file was not initialised
		f.before.begin(len(f.tiers))
	}
	f.before.sealed, f.before.progress = slices.Clone(f.before.sealed), slices.Clone(f.before.progress)
	if err := f.writeRows(); err != nil {
		return err
	}
	if err := f.seal(); err != nil {
		return err
	}
	f.end.sealed, f.end.progress = f.before.sealed, f.before.progress
	if err := f.drop(); err != nil {
		return err
	}
	return f.writeCounters()
}

// writeRows writes the head tier by tier, and in each fleet rows and node rows in
// the order of their keys.
func (f *flusher) writeRows() error {
	cells := f.cells()
	for tier := range f.tiers {
		parts := f.parts(tier, cells)
		for i := range parts {
			if err := f.writeFleet(&parts[i]); err != nil {
				return err
			}
		}
		if tier == 0 {
			if err := f.count(cells, parts); err != nil {
				return err
			}
		}
		slices.SortFunc(parts, func(a, b part) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.metric.number, b.metric.number))
		})
		from := f.before.dropped(false)[tier]
		for i := range parts {
			if parts[i].cells[0].bucket.start < from {
				continue
			}
			if err := f.writeNodes(&parts[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// cell is a head bucket on its way into the file.
type cell struct {
	metric *metric
	bucket *headBucket
	sorted []delta // by node
}

// cells returns the buckets of the head by metric and start.
func (f *flusher) cells() []cell {
	var cells []cell
	for number, buckets := range f.h.metrics {
		m := f.db.metricNumbered(number)
		for _, b := range buckets {
			cells = append(cells, cell{metric: m, bucket: b, sorted: byNode(nil, b.deltas)})
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

// part is the cells of one bucket of a tier on their way into its rows.
type part struct {
	metric *metric
	tier   int
	start  int64 // of the tier's bucket
	cells  []cell
	stored []uint32 // the nodes that the file's fleet row had
	isNew  bool     // the file had no fleet row
}

// parts groups cells by the buckets of a tier, as far as the file has rows for
// them: the base tier all that are not dropped, the others those that are rolled
// up already. What is not will find the deltas in the finer rows.
func (f *flusher) parts(tier int, cells []cell) []part {
	var parts []part
	w := f.tiers[tier].Width
	from := f.before.dropped(true)[tier]
	for i := range cells {
		c := &cells[i]
		start := w.Floor(c.bucket.start)
		if c.bucket.start < from || tier > 0 && !f.isSealed(tier, start, c.metric.number) {
			continue
		}
		if n := len(parts); n > 0 && parts[n-1].metric == c.metric && parts[n-1].start == start {
			p := &parts[n-1]
			p.cells = p.cells[:len(p.cells)+1] // neighbours: no cell between is left out
			continue
		}
		parts = append(parts, part{metric: c.metric, tier: tier, start: start, cells: cells[i : i+1]})
	}
	return parts
}

// isSealed reports whether the bucket of a tier at start is rolled up.
func (f *flusher) isSealed(tier int, start int64, metric uint32) bool {
	w, sealed := f.tiers[tier].Width, f.before.sealed[tier]
	return start+int64(w) <= sealed || start == w.Floor(sealed) && metric < f.before.progress[tier]
}

// count adds the cells to the counters. parts are those of the base tier.
func (f *flusher) count(cells []cell, parts []part) error {
	for i := range cells {
		c := &cells[i]
		row, err := f.metricRow(c.metric)
		if err != nil {
			return err
		}
		var stored []uint32
		isNew := false
		if len(parts) > 0 && parts[0].metric == c.metric && parts[0].start == c.bucket.start {
			stored, isNew = parts[0].stored, parts[0].isNew
			parts = parts[1:]
		}
		var count uint64
		inTime := false
		for deltas := c.sorted; len(deltas) > 0; {
			change := seriesChange{seriesKey: seriesKey{c.metric.number, deltas[0].node}, start: c.bucket.start}
			late := true
			for len(deltas) > 0 && deltas[0].node == change.node {
				change.count += deltas[0].count
				late = late && deltas[0].late
				deltas = deltas[1:]
			}
			var had bool
			stored, had = member(stored, change.node)
			change.stored = had || late
			inTime = inTime || !late
			count += change.count
			f.series = append(f.series, change)
		}
		row.add(count, c.bucket.start, !isNew || !inTime)
	}
	return nil
}

// member looks for a number in an ascending set, and returns what of the set
// comes behind it.
func member(set []uint32, n uint32) (rest []uint32, ok bool) {
	for len(set) > 0 && set[0] < n {
		set = set[1:]
	}
	return set, len(set) > 0 && set[0] == n
}

// writeNodes writes the node rows of a part. One delta and no row: it is stored
// as it came, not even decoded.
func (f *flusher) writeNodes(p *part) error {
	deltas := p.cells[0].sorted
	if len(p.cells) > 1 {
		deltas = nil
		for i := range p.cells {
			deltas = append(deltas, p.cells[i].sorted...)
		}
		slices.SortFunc(deltas, func(a, b delta) int { return cmp.Compare(a.node, b.node) })
	}
	stored := p.stored
	for len(deltas) > 0 {
		node, n := deltas[0].node, 1
		for n < len(deltas) && deltas[n].node == node {
			n++
		}
		var isStored bool
		stored, isStored = member(stored, node)
		if err := f.writeNode(p, deltas[:n], isStored); err != nil {
			return err
		}
		deltas = deltas[n:]
	}
	return f.w.err
}

func (f *flusher) writeNode(p *part, deltas []delta, stored bool) error {
	table := nodeTable(f.tiers[p.tier].Width)
	k := nodeKey{p.start, p.metric.number, deltas[0].node}
	f.key = k.append(f.key[:0])
	value := deltas[0].sketch
	if stored || len(deltas) > 1 {
		sketches := make([][]byte, 0, len(deltas)+1)
		if stored {
			old := f.w.table(table).Get(f.key)
			if old == nil {
				return f.damaged(p.tier, p.metric, k.node, k.start, errMissing)
			}
			sketches = append(sketches, old)
		}
		for _, d := range deltas {
			sketches = append(sketches, d.sketch)
		}
		if err := f.merge(&f.merged, sketches...); err != nil {
			return f.damaged(p.tier, p.metric, k.node, k.start, err)
		}
		value = f.slab.copy(f.merged)
	}
	f.w.putValue(table, f.key, value)
	f.rows++
	return f.w.err
}

// allNodes stands for the fleet where a node number is asked for.
const allNodes = ^uint32(0)

func (f *flusher) damaged(tier int, m *metric, node uint32, start int64, err error) error {
	w := f.tiers[tier].Width
	id, table := window.AllNodes, fleetTable(w)
	if node != allNodes {
		f.db.mu.RLock()
		id, table = f.db.names.nodes[node], nodeTable(w)
		f.db.mu.RUnlock()
	}
	return &DamagedError{table, rowName(m.name, id, window.Bucket{Start: start, Width: w}), err}
}
