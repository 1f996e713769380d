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
//	+--------------+----------+-----------------+------------------------+
//	| uvarint size | node set | CRC-32C, u32 LE | sketch, ends in a CRC  |
//	+--------------+----------+-----------------+------------------------+
//
// The first checksum covers table, key, the set with its size, and the last four
// bytes of the sketch: the sketch belongs to this key.
type fleetRow struct {
	set    []byte
	sketch []byte
}

func fleetChecksum(table string, key, front, sketch []byte) uint32 {
	return crc32.Update(checksum(table, key, front), castagnoli, sketch[len(sketch)-sealSize:])
}

func appendFleetRow(b []byte, table string, key, set, sketch []byte) []byte {
	at := len(b)
	b = appendBytes(b, set)
	b = binary.LittleEndian.AppendUint32(b, fleetChecksum(table, key, b[at:], sketch))
	return append(b, sketch...)
}

// parseFleetRow checks the row but for the sketch's own checksum.
func parseFleetRow(table string, key, value []byte) (fleetRow, error) {
	size, n := binary.Uvarint(value)
	if n <= 0 || size > uint64(len(value)-n) {
		return fleetRow{}, errors.New("node set: cut off")
	}
	front, rest := value[:n+int(size)], value[n+int(size):]
	if len(rest) < 2*sealSize {
		return fleetRow{}, errors.New("sketch: cut off")
	}
	row := fleetRow{set: front[n:], sketch: rest[sealSize:]}
	if binary.LittleEndian.Uint32(rest) != fleetChecksum(table, key, front, row.sketch) {
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

// writeFleet merges a cell into its fleet row, and sets c.stored and c.sorted. It
// reports whether there was no row yet.
func (f *flusher) writeFleet(c *cell) (isNew bool, err error) {
	table := fleetTable(f.base)
	k := fleetKey{c.metric.number, c.bucket.start}
	f.key = k.append(f.key[:0])
	old := f.w.table(table).Get(f.key)
	c.sorted = byNode(nil, c.bucket.deltas)
	f.set.reset()
	if old != nil {
		row, err := parseFleetRow(table, f.key, old)
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
	} else if err := f.mergeFleet(c, nil); err != nil {
		return false, f.damaged(table, c, allNodes, err)
	}
	for _, d := range c.sorted {
		f.set.add(d.node)
	}
	f.numbers = f.set.appendTo(f.numbers[:0])
	f.front = appendNodeSet(f.front[:0], f.numbers)
	f.row = appendFleetRow(f.row[:0], table, f.key, f.front, f.fleet)
	f.w.putValue(table, f.key, f.slab.copy(f.row))
	return old == nil, f.w.err
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
