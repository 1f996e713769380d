package storage

import (
	"cmp"
	"fmt"
	"slices"
)

// metricRow returns the counters of a metric as they are to be stored, those of
// the file to begin with.
func (f *flusher) metricRow(m *metric) (*metricRow, error) {
	if row := f.changes[m]; row != nil {
		return row, nil
	}
	row := &metricRow{name: m.name, chains: make([]chain, len(f.tiers))}
	key := numberKey(nil, m.number)
	b, err := f.w.get(tableMetrics, key)
	if err == nil && b != nil {
		*row, err = parseMetricRow(b)
		if first := row.chain(0); len(row.chains) == 0 {
			row.chains = make([]chain, len(f.tiers))
			row.chains[0] = first
		}
	}
	if err != nil {
		return nil, &DamagedError{tableMetrics, fmt.Sprintf("metric %q", m.name), err}
	}
	f.changes[m] = row
	return row, nil
}

// writeCounters stores the counters of all series and metrics that changed.
func (f *flusher) writeCounters() error {
	slices.SortStableFunc(f.series, func(a, b seriesChange) int {
		return cmp.Or(cmp.Compare(a.metric, b.metric), cmp.Compare(a.node, b.node))
	})
	metrics := make([]*metric, 0, len(f.changes))
	for m := range f.changes {
		metrics = append(metrics, m)
	}
	slices.SortFunc(metrics, func(a, b *metric) int { return cmp.Compare(a.number, b.number) })
	rest := f.series
	for _, m := range metrics {
		row := f.changes[m]
		for len(rest) > 0 && rest[0].metric == m.number {
			n := 1
			for n < len(rest) && rest[n].seriesKey == rest[0].seriesKey {
				n++
			}
			isNew, err := f.writeSeries(rest[:n])
			if err != nil {
				return err
			}
			if isNew {
				row.nodes++
			}
			rest = rest[n:]
		}
		f.w.put(tableMetrics, numberKey(nil, m.number), row.append(nil))
	}
	return f.w.err
}

// writeSeries adds changes to the counters of one series, and reports whether it
// had none.
func (f *flusher) writeSeries(changes []seriesChange) (isNew bool, err error) {
	k := changes[0].seriesKey
	f.key = k.append(f.key[:0])
	var c counters
	b, err := f.w.get(tableSeries, f.key)
	if err == nil && b != nil {
		c, err = parseCounters(b)
	}
	if err != nil {
		return false, &DamagedError{tableSeries, fmt.Sprintf("metric %d, node %d", k.metric, k.node), err}
	}
	for _, change := range changes {
		c.add(change.count, change.start, change.stored)
	}
	f.row = seal(tableSeries, f.key, c.append(f.row[:0]))
	f.w.putValue(tableSeries, f.key, f.slab.copy(f.row))
	return b == nil, f.w.err
}

// writeNames stores the nodes that the head named first. New metrics are stored
// with their counters.
func (f *flusher) writeNames() {
	f.db.mu.RLock()
	names := f.db.names.nodes[:f.h.end.nodes]
	f.db.mu.RUnlock()
	for n := f.db.durable.state.nodes; n < f.h.end.nodes; n++ {
		f.w.put(tableNodes, numberKey(nil, n), []byte(names[n]))
	}
}

// writeProducers brings the second table to the head's last entry and stores it.
func (f *flusher) writeProducers() {
	t := f.db.durable.producers
	before := len(t)
	for _, s := range f.h.settled {
		t.settle(s)
	}
	t.dropForgotten(f.h.end.expiryMs)
	if len(f.h.settled) == 0 && len(t) == before {
		return
	}
	if f.db.saveLive {
		f.db.mu.RLock()
		defer f.db.mu.RUnlock()
		t = f.db.producers
	}
	if f.db.saveNone {
		t = nil
	}
	f.w.put(tableProducers, producersKey, t.append(nil, f.h.end.expiryMs))
}

func (f *flusher) writeMeta() {
	d := &f.db.durable
	f.w.put(tableMeta, []byte(metaState), f.end.append(nil))
	if f.h.cluster.ID != "" && !f.h.cluster.equal(d.cluster) {
		f.w.put(tableMeta, []byte(metaCluster), f.h.cluster.append(nil))
	}
	if f.h.config.index != d.config {
		f.w.put(tableMeta, []byte(metaConfiguration), f.h.config.append(nil))
	}
}

// writeMetaBefore puts index and producers back to the flush before this one.
func (f *flusher) writeMetaBefore(producers []byte) {
	f.w.put(tableProducers, producersKey, producers)
	f.w.put(tableMeta, []byte(metaState), f.db.durable.state.append(nil))
}

// FlushedState returns what the file alone holds: where a restart goes on. It is
// false for a file that no flush has written.
func (db *DB) FlushedState() (FlushedState, bool) {
	db.mu.RLock()
	gen := db.gen
	ok := db.usable() == nil && gen.acquire()
	db.mu.RUnlock()
	if !ok {
		return FlushedState{}, false
	}
	defer gen.release()
	var f FlushedState
	err := guarded(func() error {
		tx, err := gen.bolt.Begin(false)
		if err != nil {
			return err
		}
		f, err = flushed(tx)
		// A read transaction that ends twice is the only error there is.
		_ = tx.Rollback()
		return err
	})
	if err != nil {
		db.log.Error("the file's state cannot be read", "path", db.path, "error", err)
		return FlushedState{}, false
	}
	return f, f.Index > 0
}
