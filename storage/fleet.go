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

// writeFleet merges a part into its fleet row, and sets p.stored and p.isNew.
func (f *flusher) writeFleet(p *part) error {
	table := fleetTable(f.tiers[p.tier].Width)
	k := fleetKey{p.metric.number, p.start}
	f.key = k.append(f.key[:0])
	old := f.w.table(table).Get(f.key)
	f.set.reset()
	var gap uint64
	var sketch []byte
	var err error
	if p.isNew = old == nil; !p.isNew {
		var row fleetRow
		row, err = parseFleetRow(table, f.key, old)
		gap, sketch = row.gap, row.sketch
		if err == nil {
			p.stored, err = appendNumbers(nil, row.set, f.h.end.nodes)
		}
		for _, n := range p.stored {
			f.set.add(n)
		}
	} else {
		gap, err = f.link(p.tier, p.metric, k)
	}
	if err == nil {
		err = f.mergeFleet(p, sketch)
	}
	if err != nil {
		return f.damaged(p.tier, p.metric, allNodes, p.start, err)
	}
	for i := range p.cells {
		for _, d := range p.cells[i].sorted {
			f.set.add(d.node)
		}
	}
	f.putFleet(table, k, gap)
	return f.w.err
}

// putFleet stores the fleet row of the nodes in f.set and the sketch in f.fleet.
func (f *flusher) putFleet(table string, k fleetKey, gap uint64) {
	f.numbers = f.set.appendTo(f.numbers[:0])
	f.front = appendNodeSet(f.front[:0], f.numbers)
	f.key = k.append(f.key[:0])
	row := fleetRow{gap, f.front, f.fleet}
	f.row = row.append(f.row[:0], table, f.key)
	f.w.putValue(table, f.key, f.slab.copy(f.row))
	f.rows++
}

// link puts a new row into the chain of its metric and tier: it returns the gap
// of the row, and makes the one behind it, which late data have, point at it.
func (f *flusher) link(tier int, m *metric, k fleetKey) (gap uint64, err error) {
	stored, err := f.metricRow(m)
	if err != nil {
		return 0, err
	}
	w := f.tiers[tier].Width
	table := fleetTable(w)
	ends := &stored.chains[tier]
	f.key = k.append(f.key[:0])
	key, value := f.w.table(table).Cursor().Seek(f.key)
	next, err := parseFleetKey(key)
	if key == nil || err == nil && next.metric != k.metric {
		if ends.some {
			gap = uint64(k.start-ends.last) / uint64(w)
		}
		ends.extend(k.start)
		return gap, nil
	}
	var row fleetRow
	if err == nil {
		row, err = parseFleetRow(table, key, value)
	}
	if err != nil {
		return 0, fmt.Errorf("the row behind it: %w", err)
	}
	step := uint64(next.start-k.start) / uint64(w)
	if row.gap > 0 {
		gap = row.gap - step
	}
	row.gap = step
	ends.extend(k.start)
	f.key = append(f.key[:0], key...)
	f.row = row.append(f.row[:0], table, f.key)
	f.w.putValue(table, f.key, f.slab.copy(f.row))
	return gap, f.w.err
}

// mergeFleet sets f.fleet to the fleet sketches of the part's cells merged with
// what is stored.
func (f *flusher) mergeFleet(p *part, stored []byte) error {
	sketches := make([][]byte, 0, len(p.cells)+1)
	if stored != nil {
		sketches = append(sketches, stored)
	}
	for i := range p.cells {
		b := p.cells[i].bucket
		p.metric.fleetMu.Lock()
		err := error(nil)
		if b.merged < len(b.deltas) {
			err = b.merge(b.deltas, f.acc, f.precision)
		}
		sketches = append(sketches, b.fleet)
		p.metric.fleetMu.Unlock()
		if err != nil {
			return err
		}
	}
	if len(sketches) == 1 {
		f.fleet = append(f.fleet[:0], sketches[0]...)
		return nil
	}
	return f.merge(&f.fleet, sketches...)
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
