package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/window"
)

// defaultWork is how many rows a flush reads to roll up, and how many it drops,
// beside twice those that it wrote: more makes a flush longer, and its transaction
// larger, when there is much to catch up with; less takes more flushes.
const defaultWork = 1 << 16

// seal rolls up every bucket that the log clock at the head's end has sealed, tier
// by tier, each from the next finer one. What is too much for one transaction
// stays for the next: the watermark is that of what is done.
//
// A damaged row stays where it is, found by whoever asks for it: nothing behind it
// is rolled up, and nothing of it dropped, until the member gets another file.
func (f *flusher) seal() error {
	budget := f.db.work + 2*f.rows
	for tier := 1; tier < len(f.tiers); tier++ {
		w := f.tiers[tier].Width
		for target := f.target(tier); f.before.sealed[tier] < target; {
			if f.rolledUp >= budget {
				f.backlog = true
				return nil
			}
			err := f.sealNext(tier, target)
			var damaged *DamagedError
			if errors.As(err, &damaged) {
				f.db.noteDamage(err)
				return nil
			}
			if err != nil {
				return err
			}
		}
		if start, ok := f.nextStart(tier-1, f.before.sealed[tier]); ok {
			f.sealFrom = min(f.sealFrom, w.Floor(start)+int64(w)+int64(window.SealGrace.Seconds()))
		}
	}
	return f.w.err
}

// target returns up to when a tier is to be sealed.
func (f *flusher) target(tier int) int64 {
	target := f.tiers.Sealed(f.end.clockMs / 1000)[tier]
	if tier > 1 {
		target = min(target, f.tiers[tier].Width.Floor(f.before.sealed[tier-1]))
	}
	return target
}

// sealNext rolls up one metric of the bucket that is next, or goes on to the next
// bucket that has rows.
func (f *flusher) sealNext(tier int, target int64) error {
	w := f.tiers[tier].Width
	sealed, progress := &f.before.sealed[tier], &f.before.progress[tier]
	start := w.Floor(*sealed)
	end := start + int64(w)
	if number, ok := f.nextMetric(tier-1, start, end, *progress); ok {
		if number >= f.h.end.metrics {
			return &DamagedError{nodeTable(f.tiers[tier-1].Width), "a key that names nothing", errNodeSet}
		}
		if err := f.sealMetric(tier, start, f.db.metricNumbered(number)); err != nil {
			return err
		}
		*progress = number + 1
		return nil
	}
	if next, ok := f.nextStart(tier-1, end); ok {
		*sealed = min(target, max(end, w.Floor(next)))
	} else {
		*sealed = target
	}
	*progress = 0
	return nil
}

// nextStart returns the start of a tier's first bucket at or after from.
func (f *flusher) nextStart(tier int, from int64) (int64, bool) {
	t := f.w.tx.Bucket([]byte(nodeTable(f.tiers[tier].Width)))
	if t == nil {
		return 0, false
	}
	key, _ := t.Cursor().Seek(nodeKey{start: from}.append(f.key[:0]))
	k, err := parseNodeKey(key)
	return k.start, err == nil
}

// nextMetric returns the least metric, at or above from, that a tier has in
// [start, end).
func (f *flusher) nextMetric(tier int, start, end int64, from uint32) (uint32, bool) {
	t := f.w.tx.Bucket([]byte(nodeTable(f.tiers[tier].Width)))
	if t == nil {
		return 0, false
	}
	least, found := uint32(math.MaxUint32), false
	cursor := t.Cursor()
	for at := start; at < end; {
		key, _ := cursor.Seek(nodeKey{at, from, 0}.append(f.key[:0]))
		k, err := parseNodeKey(key)
		switch {
		case err != nil || k.start >= end:
			return least, found
		case k.start > at:
			at = k.start
			continue
		}
		if !found || k.metric < least {
			least, found = k.metric, true
		}
		at += int64(f.tiers[tier].Width)
	}
	return least, found
}

// strand is the finer bucket of one metric on its way into a coarser one.
type strand struct {
	start   int64
	numbers []uint32 // of the nodes that are still to come
	cursor  *bbolt.Cursor
	fresh   bool // the cursor is not at its first row yet
}

// noteDamage tells the operator of a damaged row once.
func (db *DB) noteDamage(err error) {
	if !db.durable.damaged {
		db.durable.damaged = true
		db.log.Error("a damaged row cannot be rolled up; this member needs another snapshot", "path", db.path, "error", err)
	}
}

// sealMetric rolls up one bucket of one metric: everything is read before the
// first row is written.
func (f *flusher) sealMetric(tier int, start int64, m *metric) error {
	strands, fleets, err := f.strands(tier, start, m)
	if err != nil {
		return err
	}
	if len(strands) == 0 {
		return f.damaged(tier-1, m, allNodes, start, errMissing)
	}
	if err := f.rollUp(&f.fleet, fleets); err != nil {
		return f.damaged(tier-1, m, allNodes, start, err)
	}
	nodes := f.set.appendTo(nil)
	rows := make([][]byte, len(nodes))
	var sketches [][]byte
	for at, node := range nodes {
		sketches = sketches[:0]
		for i := range strands {
			value, err := f.take(tier-1, m, node, &strands[i])
			if err != nil {
				return err
			}
			if value != nil {
				sketches = append(sketches, value)
			}
		}
		if err := f.rollUp(&f.merged, sketches); err != nil {
			return f.damaged(tier-1, m, node, start, err)
		}
		rows[at] = f.slab.copy(f.merged)
	}
	k := fleetKey{m.number, start}
	gap, err := f.link(tier, m, k)
	if err != nil {
		return f.damaged(tier, m, allNodes, start, err)
	}
	f.putFleet(fleetTable(f.tiers[tier].Width), k, gap)
	table := nodeTable(f.tiers[tier].Width)
	for at, node := range nodes {
		f.key = nodeKey{start, m.number, node}.append(f.key[:0])
		f.w.putValue(table, f.key, rows[at])
	}
	f.rows += len(nodes)
	return f.w.err
}

// strands finds the rows of the bucket, with their fleet sketches, and sets f.set
// to the nodes of all of them.
func (f *flusher) strands(tier int, start int64, m *metric) (strands []strand, fleets [][]byte, err error) {
	fine := f.tiers[tier-1].Width
	table := fleetTable(fine)
	t, nodes := f.w.tx.Bucket([]byte(table)), f.w.tx.Bucket([]byte(nodeTable(fine)))
	if t == nil || nodes == nil {
		return nil, nil, &DamagedError{table, "all", errNoTable}
	}
	f.set.reset()
	end := start + int64(f.tiers[tier].Width)
	cursor := t.Cursor()
	for key, value := cursor.Seek(fleetKey{m.number, start}.append(f.key[:0])); key != nil; key, value = cursor.Next() {
		k, err := parseFleetKey(key)
		if err == nil && (k.metric != m.number || k.start >= end) {
			break
		}
		row, rowErr := parseFleetRow(table, key, value)
		if err == nil {
			err = rowErr
		}
		var numbers []uint32
		if err == nil {
			numbers, err = appendNumbers(nil, row.set, f.h.end.nodes)
		}
		if err == nil && len(strands) > 0 {
			if before, ok := row.before(k.start, fine); !ok || before != strands[len(strands)-1].start {
				err = errChain
			}
		}
		if err != nil {
			return nil, nil, f.damaged(tier-1, m, allNodes, k.start, err)
		}
		for _, n := range numbers {
			f.set.add(n)
		}
		f.rolledUp += len(numbers) + 1
		fleets = append(fleets, row.sketch)
		strands = append(strands, strand{start: k.start, numbers: numbers, cursor: nodes.Cursor(), fresh: true})
	}
	return strands, fleets, nil
}

// take returns a node's row in a strand, nil when it has none there.
func (f *flusher) take(tier int, m *metric, node uint32, s *strand) ([]byte, error) {
	if len(s.numbers) == 0 || s.numbers[0] != node {
		return nil, nil
	}
	s.numbers = s.numbers[1:]
	f.key = nodeKey{s.start, m.number, node}.append(f.key[:0])
	var key, value []byte
	if s.fresh {
		key, value = s.cursor.Seek(f.key)
	} else {
		key, value = s.cursor.Next()
	}
	s.fresh = false
	if !bytes.Equal(key, f.key) {
		return nil, f.damaged(tier, m, node, s.start, errMissing)
	}
	return value, nil
}

// rollUp merges sketches into dst[:0]. One alone is canonical as it is.
func (f *flusher) rollUp(dst *[]byte, sketches [][]byte) error {
	if len(sketches) == 1 {
		*dst = append((*dst)[:0], sketches[0]...)
		return nil
	}
	return f.merge(dst, sketches...)
}

// drop deletes the rows that have expired and are rolled up, the oldest first, as
// many as a flush is allowed.
func (f *flusher) drop() error {
	budget := f.db.work + 2*f.rows
	nodes, fleets := f.end.dropped(false), f.end.dropped(true)
	done := &f.db.durable.dropped
	if done.node == nil {
		*done = horizons{make([]int64, len(f.tiers)), make([]int64, len(f.tiers))}
		for i := range f.tiers {
			done.node[i], done.fleet[i] = math.MinInt64, math.MinInt64
		}
	}
	for tier := range f.tiers {
		w := f.tiers[tier].Width
		if nodes[tier] > max(done.node[tier], window.MinTime) {
			n, err := f.deleteFrom(nodeTable(w), nil, nodeKey{start: nodes[tier]}.append(nil), budget-f.gone)
			if err != nil {
				return err
			}
			if f.gone += n; f.gone >= budget {
				f.backlog = true
				return nil
			}
			done.node[tier] = nodes[tier]
		}
		if fleets[tier] <= max(done.fleet[tier], window.MinTime) {
			continue
		}
		for number := range f.end.metrics {
			from, to := fleetKey{number, math.MinInt64}, fleetKey{number, fleets[tier]}
			n, err := f.deleteFrom(fleetTable(w), from.append(nil), to.append(nil), budget-f.gone)
			if err != nil {
				return err
			}
			if f.gone += n; f.gone >= budget {
				f.backlog = true
				return nil
			}
		}
		done.fleet[tier] = fleets[tier]
	}
	return nil
}

// deleteFrom deletes at most limit records whose keys lie in [from, to).
func (f *flusher) deleteFrom(table string, from, to []byte, limit int) (int, error) {
	t := f.w.tx.Bucket([]byte(table))
	if t == nil {
		return 0, nil
	}
	t = f.w.table(table) // with its fill percentage
	var keys [][]byte
	cursor := t.Cursor()
	for key, _ := cursor.Seek(from); key != nil && bytes.Compare(key, to) < 0 && len(keys) < limit; key, _ = cursor.Next() {
		keys = append(keys, f.slab.copy(key))
	}
	for _, key := range keys {
		if err := t.Delete(key); err != nil {
			return 0, fmt.Errorf("drop from %s: %w", table, err)
		}
	}
	return len(keys), nil
}
