package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/distributed-median-tracker/dmt/window"
)

// Tables of the file. One per tier and kind of row carries its width in the
// name: "nodes/10s", "fleet/10s".
const (
	tableMeta      = "meta"
	tableMetrics   = "catalogue/metrics" // number -> name and counters
	tableNodes     = "catalogue/nodes"   // number -> id
	tableSeries    = "catalogue/series"  // metric . node -> counters
	tableProducers = "producers"         // one value
	prefixNodes    = "nodes/"
	prefixFleet    = "fleet/"
)

func nodeTable(w window.Width) string  { return prefixNodes + w.String() }
func fleetTable(w window.Width) string { return prefixFleet + w.String() }

// A node row sorts by time first, so that new buckets are appended and expired
// ones leave as one range from the front.
//
//	0                8          12         16
//	+----------------+----------+----------+
//	| start, i64 BE, | metric,  |  node,   |
//	|  sign flipped  |  u32 BE  |  u32 BE  |
//	+----------------+----------+----------+
type nodeKey struct {
	start        int64
	metric, node uint32
}

const nodeKeySize = 16

func (k nodeKey) append(b []byte) []byte {
	b = appendTime(b, k.start)
	b = binary.BigEndian.AppendUint32(b, k.metric)
	return binary.BigEndian.AppendUint32(b, k.node)
}

func parseNodeKey(b []byte) (nodeKey, error) {
	if len(b) != nodeKeySize {
		return nodeKey{}, fmt.Errorf("a key of %d bytes, %d are right", len(b), nodeKeySize)
	}
	return nodeKey{parseTime(b), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])}, nil
}

// A fleet row sorts by metric first: the buckets of a span lie side by side.
//
//	0          4                12
//	+----------+----------------+
//	| metric,  | start, i64 BE, |
//	|  u32 BE  |  sign flipped  |
//	+----------+----------------+
type fleetKey struct {
	metric uint32
	start  int64
}

const fleetKeySize = 12

func (k fleetKey) append(b []byte) []byte {
	return appendTime(binary.BigEndian.AppendUint32(b, k.metric), k.start)
}

func parseFleetKey(b []byte) (fleetKey, error) {
	if len(b) != fleetKeySize {
		return fleetKey{}, fmt.Errorf("a key of %d bytes, %d are right", len(b), fleetKeySize)
	}
	return fleetKey{binary.BigEndian.Uint32(b), parseTime(b[4:])}, nil
}

// A series is one metric of one node.
//
//	0          4          8
//	+----------+----------+
//	| metric,  |  node,   |
//	|  u32 BE  |  u32 BE  |
//	+----------+----------+
type seriesKey struct{ metric, node uint32 }

const seriesKeySize = 8

func (k seriesKey) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(numberKey(b, k.metric), k.node)
}

func parseSeriesKey(b []byte) (seriesKey, error) {
	if len(b) != seriesKeySize {
		return seriesKey{}, fmt.Errorf("a key of %d bytes, %d are right", len(b), seriesKeySize)
	}
	return seriesKey{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}

// numberKey appends the key of a metric or node in the catalogue: its number,
// u32 BE.
func numberKey(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

// appendTime appends a time so that bytes sort as times do, before 1970 too.
func appendTime(b []byte, t int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t)^1<<63)
}

func parseTime(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }
