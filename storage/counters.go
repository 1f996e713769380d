package storage

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/distributed-median-tracker/dmt/window"
)

// counters say what was ever counted for a metric, or for one node of it, so
// that listings need not read sketches. They are written by the flush that
// writes the sketches.
//
//	uvarint count . uvarint buckets . zigzag first . uvarint (last - first)
//
// first and last are the starts of base buckets.
type counters struct {
	count, buckets uint64
	first, last    int64
}

// add counts values in the bucket at start; stored says that the bucket has
// values already.
func (c *counters) add(count uint64, start int64, stored bool) {
	if c.count == 0 {
		c.first, c.last = start, start
	}
	c.first, c.last = min(c.first, start), max(c.last, start)
	c.count += count
	if !stored {
		c.buckets++
	}
}

func (c *counters) span(base window.Width) window.Span {
	return window.Span{From: c.first, To: c.last + int64(base)}
}

func (c *counters) append(b []byte) []byte {
	b = binary.AppendUvarint(b, c.count)
	b = binary.AppendUvarint(b, c.buckets)
	b = binary.AppendVarint(b, c.first)
	return binary.AppendUvarint(b, uint64(c.last-c.first))
}

func (r *reader) counters() counters {
	c := counters{
		count:   r.number("count", MaxTotal),
		buckets: r.number("buckets", MaxTotal),
		first:   r.varint("first"),
	}
	length := r.uvarint("last")
	if r.err == nil && (c.first < window.MinTime || c.first > window.MaxTime || length > uint64(window.MaxTime-c.first)) {
		r.fail("first and last: out of range")
	}
	c.last = c.first + int64(length)
	if r.err == nil && (c.count == 0 || c.buckets == 0 || c.buckets > c.count) {
		r.fail("%d values in %d buckets", c.count, c.buckets)
	}
	return c
}

func parseCounters(b []byte) (counters, error) {
	r := reader{b: b}
	c := r.counters()
	return c, r.done()
}

// metricRow is a metric in the catalogue.
//
//	uvarint length . name . uvarint nodes . counters
type metricRow struct {
	name  string
	nodes uint32 // that ever sent a value of it
	counters
}

func (m *metricRow) append(b []byte) []byte {
	b = appendBytes(b, m.name)
	b = binary.AppendUvarint(b, uint64(m.nodes))
	return m.counters.append(b)
}

func parseMetricRow(b []byte) (metricRow, error) {
	r := reader{b: b}
	m := metricRow{name: string(r.bytes("name", window.MaxMetricBytes)), nodes: uint32(r.number("nodes", math.MaxUint32))}
	m.counters = r.counters()
	if r.err == nil && m.name == "" {
		r.fail("name: empty")
	}
	return m, r.done()
}

// A node in the catalogue is its id, sealed.
func parseNodeRow(b []byte) (string, error) {
	if len(b) == 0 || len(b) > window.MaxNodeBytes {
		return "", fmt.Errorf("node id of %d bytes", len(b))
	}
	return string(b), nil
}
