package storage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"

	"github.com/distributed-median-tracker/dmt/window"
)

// Walk calls fn for every row of the logical content, head and file merged, as
// of the index that it returns: first the fleet rows, by metric and time, then
// the node rows by time, metric and node, where metrics and nodes come in the
// order in which the log first named them. It ends at the first error of fn.
func (db *DB) Walk(ctx context.Context, fn func(Row) error) (index uint64, err error) {
	v, err := db.begin(nil, everything)
	if err != nil {
		return 0, err
	}
	defer v.close()
	return v.index, v.walk(ctx, fn)
}

func (v *view) walk(ctx context.Context, fn func(Row) error) error {
	acc := v.db.accumulator(v.cluster.Precision)
	defer v.db.accumulators.Put(acc)
	w := &walker{search: search{view: v, ctx: ctx, span: everything, base: v.cluster.Tiers.Base(), acc: acc}}
	w.fn = func(r Row) error { return calling(func() error { return fn(r) }) }
	return guarded(func() error {
		for _, m := range v.metrics {
			w.metric, w.cells = m, v.cells(m.number)
			if err := w.sources(w.fleetRow); err != nil {
				return err
			}
		}
		return w.nodeRows()
	})
}

// walker walks over all rows.
type walker struct {
	search
	fn      func(Row) error
	bits    nodeBits
	encoded []byte
}

// fleetRow hands over the fleet row of one bucket.
func (w *walker) fleetRow(src source) error {
	if err := w.alive(w.ctx); err != nil {
		return err
	}
	w.acc.Reset(w.cluster.Precision)
	w.bits.reset()
	if src.row.sketch != nil {
		err := w.acc.MergeBinary(src.row.sketch)
		if err == nil {
			err = w.bits.union(src.row.set, uint32(len(w.nodes)))
		}
		if err != nil {
			return w.damaged(fleetTable(w.base), window.AllNodes, src.start, err)
		}
	}
	if err := w.mergeCells(src.cells, &w.bits); err != nil {
		return err
	}
	var err error
	if w.encoded, err = w.acc.AppendBinary(w.encoded[:0]); err != nil {
		return err
	}
	row := Row{
		Metric: window.Metric(w.metric.name), Node: window.AllNodes,
		Bucket: window.Bucket{Start: src.start, Width: w.base}, Sketch: w.encoded,
	}
	for _, n := range w.bits.appendTo(nil) {
		row.Nodes = append(row.Nodes, w.nodes[n])
	}
	return w.fn(row)
}

// headCell is the head's part of one bucket of one metric.
type headCell struct {
	metric uint32
	bucketView
}

// nodeRows hands over all node rows: a merge of the table with the head.
func (w *walker) nodeRows() error {
	var cells []headCell
	for _, m := range w.metrics {
		for _, c := range w.view.cells(m.number) {
			cells = append(cells, headCell{m.number, c})
		}
	}
	slices.SortStableFunc(cells, func(a, b headCell) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.metric, b.metric))
	})
	head := headRows{cells: cells}
	head.next()
	if t := w.table(nodeTable(w.base)); t != nil {
		cursor := t.Cursor()
		for key, value := cursor.First(); key != nil; key, value = cursor.Next() {
			k, err := parseNodeKey(key)
			if err != nil || int(k.metric) >= len(w.metrics) || int(k.node) >= len(w.nodes) {
				return &DamagedError{nodeTable(w.base), "a key that names nothing", cmp.Or(err, errNodeSet)}
			}
			for head.ok && bytes.Compare(head.encoded, key) < 0 {
				if err := w.nodeRow(head.key, nil, head.sketches); err != nil {
					return err
				}
				head.next()
			}
			var more [][]byte
			if head.ok && bytes.Equal(head.encoded, key) {
				more = head.sketches
			}
			if err := w.nodeRow(k, value, more); err != nil {
				return err
			}
			if more != nil {
				head.next()
			}
		}
	}
	for ; head.ok; head.next() {
		if err := w.nodeRow(head.key, nil, head.sketches); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) nodeRow(k nodeKey, stored []byte, deltas [][]byte) error {
	if err := w.alive(w.ctx); err != nil {
		return err
	}
	w.metric = w.metrics[k.metric]
	w.acc.Reset(w.cluster.Precision)
	if stored != nil {
		deltas = append([][]byte{stored}, deltas...)
	}
	for _, b := range deltas {
		if err := w.acc.MergeBinary(b); err != nil {
			return w.damaged(nodeTable(w.base), w.nodes[k.node], k.start, err)
		}
	}
	var err error
	if w.encoded, err = w.acc.AppendBinary(w.encoded[:0]); err != nil {
		return err
	}
	return w.fn(Row{
		Metric: window.Metric(w.metric.name), Node: w.nodes[k.node],
		Bucket: window.Bucket{Start: k.start, Width: w.base}, Sketch: w.encoded,
	})
}

// headRows yields the head's deltas row by row, in the order of node keys.
type headRows struct {
	cells  []headCell // by start and metric
	deltas []delta    // of the first cells, by node

	ok       bool
	key      nodeKey
	encoded  []byte
	sketches [][]byte
}

func (h *headRows) next() {
	for len(h.deltas) == 0 {
		if len(h.cells) == 0 {
			h.ok = false
			return
		}
		first := h.cells[0]
		var all []delta
		for len(h.cells) > 0 && h.cells[0].start == first.start && h.cells[0].metric == first.metric {
			all = append(all, h.cells[0].deltas...)
			h.cells = h.cells[1:]
		}
		h.deltas = byNode(nil, all)
		h.key.start, h.key.metric = first.start, first.metric
	}
	h.ok, h.key.node = true, h.deltas[0].node
	h.encoded = h.key.append(h.encoded[:0])
	h.sketches = h.sketches[:0]
	for len(h.deltas) > 0 && h.deltas[0].node == h.key.node {
		h.sketches = append(h.sketches, h.deltas[0].sketch)
		h.deltas = h.deltas[1:]
	}
}

// Producers calls fn for every producer that is remembered, in no order. fn must
// not call methods of db.
func (db *DB) Producers(fn func(ProducerID, ProducerState)) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	for id, p := range db.producers {
		if !p.forgotten(db.live.clockMs) {
			fn(id, p.state())
		}
	}
}

// Hash returns a SHA-256 over the logical content as of the index it returns:
// cluster, log clock, catalogue, producers and every row. Members that applied
// the same entries have the same, whatever they flushed when.
func (db *DB) Hash(ctx context.Context) ([32]byte, uint64, error) {
	v, err := db.beginWithProducers(ctx)
	if err != nil {
		return [32]byte{}, 0, err
	}
	defer v.close()
	d := digest{Hash: sha256.New()}
	d.bytes([]byte("dmt content 1"))
	d.bytes(v.cluster.append(nil))
	d.number(uint64(v.live.clockMs))
	d.number(v.live.total)
	d.number(uint64(v.live.metrics))
	for _, m := range v.metrics[:v.live.metrics] {
		d.bytes([]byte(m.name))
	}
	d.number(uint64(v.live.nodes))
	for _, id := range v.nodes[:v.live.nodes] {
		d.bytes([]byte(id))
	}
	d.bytes(v.producers)
	err = v.walk(ctx, func(r Row) error {
		d.bytes([]byte(r.Metric))
		d.bytes([]byte(r.Node))
		d.number(uint64(r.Bucket.Width))
		d.number(uint64(r.Bucket.Start))
		d.number(uint64(len(r.Nodes)))
		for _, id := range r.Nodes {
			d.bytes([]byte(id))
		}
		d.bytes(r.Sketch)
		return nil
	})
	return [32]byte(d.Sum(nil)), v.index, err
}

// digest hashes numbers and byte strings so that their bounds are hashed too. A
// hash never returns an error.
type digest struct{ hash.Hash }

func (d digest) number(n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	d.Write(b[:])
}

func (d digest) bytes(b []byte) {
	d.number(uint64(len(b)))
	d.Write(b)
}
