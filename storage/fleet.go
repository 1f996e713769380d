package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/distributed-median-tracker/dmt/window"
)

// A fleet row is the merge of all nodes of a metric in one bucket, and which
// nodes they are, so that an answer says how many it stands for, and who is
// missing, without a look at node rows.
//
//	0
//	+-------------+--------------+----------+-----------------+-----------------+
//	| uvarint gap | uvarint size | node set | CRC-32C, u32 LE | sketch, ends in |
//	|             | of the set   |          |                 | a CRC of its own|
//	+-------------+--------------+----------+-----------------+-----------------+
//
// gap is how many widths back the metric's row before this one starts, 0 for its
// first row. So the rows of a metric are a chain whose end its counters name, and
// a scan knows that no row in its span is missing: not for a flipped key, nor for
// a page that holds what it held before.
//
// The first checksum covers table, key, all before it, and the last four bytes
// of the sketch: the sketch belongs to this key.
type fleetRow struct {
	gap    uint64
	set    []byte
	sketch []byte
}

var errChain = errors.New("a row before this one is missing")

// before returns the start of the metric's row before this one.
func (r *fleetRow) before(start int64, w window.Width) (int64, bool) {
	return start - int64(r.gap)*int64(w), r.gap > 0
}

func fleetChecksum(table string, key, front, sketch []byte) uint32 {
	return crc32.Update(checksum(table, key, front), castagnoli, sketch[len(sketch)-sealSize:])
}

func (r *fleetRow) append(b []byte, table string, key []byte) []byte {
	at := len(b)
	b = binary.AppendUvarint(b, r.gap)
	b = appendBytes(b, r.set)
	b = binary.LittleEndian.AppendUint32(b, fleetChecksum(table, key, b[at:], r.sketch))
	return append(b, r.sketch...)
}

// maxGap is more than there are base buckets in all time.
const maxGap = uint64(window.MaxTime - window.MinTime)

// parseFleetRow checks the row but for the sketch's own checksum.
func parseFleetRow(table string, key, value []byte) (fleetRow, error) {
	r := reader{b: value}
	row := fleetRow{gap: r.number("gap", maxGap), set: r.bytes("node set", len(value))}
	front := value[:len(value)-len(r.b)]
	sum := r.take("checksum", sealSize)
	switch {
	case r.err != nil:
		return fleetRow{}, r.err
	case len(r.b) < sealSize:
		return fleetRow{}, errors.New("sketch: cut off")
	}
	row.sketch = r.b
	if binary.LittleEndian.Uint32(sum) != fleetChecksum(table, key, front, row.sketch) {
		return fleetRow{}, errChecksum
	}
	return row, nil
}

// cell is a head bucket on its way into the file.
type cell struct {
	metric *metric
	bucket *headBucket
	stored []uint32 // the nodes that the file's fleet row had
	sorted []delta  // by node
}

// writeFleet merges a cell into its fleet row, and sets c.stored and c.sorted. m
// is of all rows of the metric before. It reports whether the row is new.
func (f *flusher) writeFleet(c *cell, m *metricRow) (isNew bool, err error) {
	table := fleetTable(f.base)
	k := fleetKey{c.metric.number, c.bucket.start}
	f.key = k.append(f.key[:0])
	old := f.w.table(table).Get(f.key)
	c.sorted = byNode(nil, c.bucket.deltas)
	f.set.reset()
	var gap uint64
	if old != nil {
		row, err := parseFleetRow(table, f.key, old)
		gap = row.gap
		if err == nil {
			c.stored, err = appendNumbers(nil, row.set, f.h.end.nodes)
		}
		if err == nil {
			err = f.mergeFleet(c, row.sketch)
		}
		if err != nil {
			return false, f.damaged(table, c, allNodes, err)
		}
		for _, n := range c.stored {
			f.set.add(n)
		}
	} else {
		if gap, err = f.link(table, m, k); err == nil {
			err = f.mergeFleet(c, nil)
		}
		if err != nil {
			return false, f.damaged(table, c, allNodes, err)
		}
	}
	for _, d := range c.sorted {
		f.set.add(d.node)
	}
	f.numbers = f.set.appendTo(f.numbers[:0])
	f.front = appendNodeSet(f.front[:0], f.numbers)
	f.key = k.append(f.key[:0])
	row := fleetRow{gap, f.front, f.fleet}
	f.row = row.append(f.row[:0], table, f.key)
	f.w.putValue(table, f.key, f.slab.copy(f.row))
	return old == nil, f.w.err
}

// link puts a new row into the chain of its metric: it returns the gap of the
// row, and makes the one behind it, which late data have, point at it.
func (f *flusher) link(table string, m *metricRow, k fleetKey) (gap uint64, err error) {
	key, value := f.w.table(table).Cursor().Seek(f.key)
	next, err := parseFleetKey(key)
	if key == nil || err == nil && next.metric != k.metric {
		if m.count == 0 {
			return 0, nil
		}
		return uint64(k.start-m.last) / uint64(f.base), nil
	}
	var row fleetRow
	if err == nil {
		row, err = parseFleetRow(table, key, value)
	}
	if err != nil {
		return 0, fmt.Errorf("the row behind it: %w", err)
	}
	step := uint64(next.start-k.start) / uint64(f.base)
	if row.gap > 0 {
		gap = row.gap - step
	}
	row.gap = step
	f.key = append(f.key[:0], key...)
	f.row = row.append(f.row[:0], table, f.key)
	f.w.putValue(table, f.key, f.slab.copy(f.row))
	return gap, f.w.err
}

// mergeFleet sets f.fleet to the bucket's fleet sketch merged with what is
// stored.
func (f *flusher) mergeFleet(c *cell, stored []byte) error {
	c.metric.fleetMu.Lock()
	err := error(nil)
	if c.bucket.merged < len(c.bucket.deltas) {
		err = c.bucket.merge(c.bucket.deltas, f.acc, f.precision)
	}
	fleet := c.bucket.fleet
	c.metric.fleetMu.Unlock()
	if err != nil || stored == nil {
		f.fleet = append(f.fleet[:0], fleet...)
		return err
	}
	return f.merge(&f.fleet, stored, fleet)
}

// merge merges sketches into dst[:0].
func (f *flusher) merge(dst *[]byte, sketches ...[]byte) error {
	f.acc.Reset(f.precision)
	for _, b := range sketches {
		if err := f.acc.MergeBinary(b); err != nil {
			return err
		}
	}
	var err error
	*dst, err = f.acc.AppendBinary((*dst)[:0])
	return err
}

// rowName names a row for people.
func rowName(metric, node string, b window.Bucket) string {
	return fmt.Sprintf("metric %q, node %q, bucket %v", metric, node, b)
}
