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
// first and last are the starts of base buckets. Expiry takes nothing away. A
// value that comes when the fleet's base bucket is not kept any more counts as
// one value and for first and last, but for no bucket: whether it had one is not
// known.
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
	if r.err == nil && (c.count == 0 || c.buckets > c.count) {
		r.fail("%d values in %d buckets", c.count, c.buckets)
	}
	return c
}

func parseCounters(b []byte) (counters, error) {
	r := reader{b: b}
	c := r.counters()
	return c, r.done()
}

// chain names the ends of the fleet rows of a metric in one tier. Rows that were
// dropped stay part of it.
type chain struct {
	some        bool // there are, or were, rows
	first, last int64
}

func (c *chain) extend(start int64) {
	if !c.some {
		*c = chain{true, start, start}
	}
	c.first, c.last = min(c.first, start), max(c.last, start)
}

// metricRow is a metric in the catalogue.
//
//	uvarint length . name . uvarint nodes . counters
//	uvarint tiers . per tier: 0, or 1 . zigzag first . uvarint (last - first)
//
// Without tiers, as the first files were, there are base rows from the first to
// the last bucket that the counters name.
type metricRow struct {
	name  string
	nodes uint32 // that ever sent a value of it
	counters
	chains []chain
}

// chain returns the ends of a tier's rows.
func (m *metricRow) chain(tier int) chain {
	switch {
	case tier < len(m.chains):
		return m.chains[tier]
	case tier == 0 && len(m.chains) == 0 && m.count > 0:
		return chain{true, m.first, m.last}
	}
	return chain{}
}

func (m *metricRow) append(b []byte) []byte {
	b = appendBytes(b, m.name)
	b = binary.AppendUvarint(b, uint64(m.nodes))
	b = m.counters.append(b)
	if len(m.chains) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(m.chains)))
	for _, c := range m.chains {
		if !c.some {
			b = append(b, 0)
			continue
		}
		b = binary.AppendVarint(append(b, 1), c.first)
		b = binary.AppendUvarint(b, uint64(c.last-c.first))
	}
	return b
}

func (r *reader) chains() (chains []chain) {
	if len(r.b) == 0 {
		return nil
	}
	n := r.number("tiers", maxTiers)
	if r.err == nil && n == 0 {
		r.fail("tiers: none")
	}
	for range n {
		c := chain{some: r.number("rows", 1) == 1}
		if c.some {
			c.first = r.varint("first row")
			c.last = c.first + int64(r.number("last row", maxGap))
		}
		chains = append(chains, c)
	}
	return chains
}

func parseMetricRow(b []byte) (metricRow, error) {
	r := reader{b: b}
	m := metricRow{name: string(r.bytes("name", window.MaxMetricBytes)), nodes: uint32(r.number("nodes", math.MaxUint32))}
	m.counters = r.counters()
	m.chains = r.chains()
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
