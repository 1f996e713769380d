package storage

import (
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
// order in which the log first named them. Every time comes once, in the finest
// tier that still keeps it. It ends at the first error of fn.
func (db *DB) Walk(ctx context.Context, fn func(Row) error) (index uint64, err error) {
	v, err := db.begin(nil, nil)
	if err != nil {
		return 0, err
	}
	defer v.close()
	return v.index, v.walk(ctx, fn)
}

func (v *view) walk(ctx context.Context, fn func(Row) error) error {
	acc := v.db.accumulator(v.cluster.Precision)
	defer v.db.accumulators.Put(acc)
	w := &walker{search: search{view: v, ctx: ctx, fleet: true, acc: acc}}
	w.fn = func(r Row) error { return calling(func() error { return fn(r) }) }
	return guarded(func() error {
		for _, m := range v.metrics {
			if err := w.look(m); err != nil {
				return err
			}
			if err := w.regions(w.fleetRegion); err != nil {
				return err
			}
		}
		w.fleet = false
		return w.regions(w.nodeRegion)
	})
}

// walker walks over all rows.
type walker struct {
	search
	fn      func(Row) error
	encoded []byte
}

// regions calls fn for each tier, the coarsest and so the oldest first, after it
// has set span and runs to the times that no finer tier keeps.
func (w *walker) regions(fn func(tier int) error) error {
	kept := w.kept()
	for tier := len(kept) - 1; tier >= 0; tier-- {
		w.span = window.Span{From: kept[tier], To: window.MaxTime}
		if tier > 0 {
			w.span.To = kept[tier-1]
		}
		if w.span.Empty() {
			continue
		}
		sealed := w.file.sealed[:min(tier+1, len(w.file.sealed))]
		w.runs = w.cluster.Tiers.CoverKept(w.span, sealed, w.file.dropped(w.fleet))
		if err := fn(tier); err != nil {
			return err
		}
	}
	return nil
}

// fleetRegion hands over the fleet rows of a metric in the buckets of one tier.
func (w *walker) fleetRegion(tier int) error {
	width := w.cluster.Tiers[tier].Width
	var at window.Bucket
	w.acc.Reset(w.cluster.Precision)
	w.nodeSet.reset()
	err := w.sources(func(src source) error {
		if err := w.alive(w.ctx); err != nil {
			return err
		}
		if b := width.Bucket(src.Start); b != at {
			if err := w.emitFleet(at); err != nil {
				return err
			}
			at = b
		}
		if src.row.sketch != nil {
			err := w.acc.MergeBinary(src.row.sketch)
			if err == nil {
				err = w.nodeSet.union(src.row.set, uint32(len(w.nodes)))
			}
			if err != nil {
				return w.damaged(fleetTable(src.Width), window.AllNodes, src.Bucket, err)
			}
		}
		return w.mergeCells(src.cells, &w.nodeSet)
	})
	if err != nil {
		return err
	}
	return w.emitFleet(at)
}

// emitFleet hands over what was merged, if anything was.
func (w *walker) emitFleet(b window.Bucket) error {
	if w.acc.Count() == 0 {
		return nil
	}
	var err error
	if w.encoded, err = w.acc.AppendBinary(w.encoded[:0]); err != nil {
		return err
	}
	row := Row{Metric: window.Metric(w.metric.name), Node: window.AllNodes, Bucket: b, Sketch: w.encoded}
	for _, n := range w.nodeSet.appendTo(nil) {
		row.Nodes = append(row.Nodes, w.nodes[n])
	}
	w.acc.Reset(w.cluster.Precision)
	w.nodeSet.reset()
	return w.fn(row)
}

// piece is a node row of the file, or a delta of the head.
type piece struct {
	metric, node uint32
	bucket       window.Bucket
	sketch       []byte
}

// nodeRegion hands over the node rows of all metrics in the buckets of one tier,
// a bucket at a time.
func (w *walker) nodeRegion(tier int) error {
	width := w.cluster.Tiers[tier].Width
	head := w.headPieces()
	for len(head) > 0 && head[0].bucket.Start < w.span.From { // they are sorted by time
		head = head[1:]
	}
	var pieces []piece
	var at window.Bucket
	add := func(p piece) error {
		if b := width.Bucket(p.bucket.Start); b != at {
			if err := w.emitNodes(at, pieces); err != nil {
				return err
			}
			pieces, at = pieces[:0], b
		}
		pieces = append(pieces, p)
		return nil
	}
	until := func(t int64) error {
		for ; len(head) > 0 && head[0].bucket.Start < t; head = head[1:] {
			if err := add(head[0]); err != nil {
				return err
			}
		}
		return nil
	}
	for _, run := range w.runs {
		err := w.nodeScan(run, func(p piece) error {
			if err := until(p.bucket.Start); err != nil {
				return err
			}
			return add(p)
		})
		if err != nil {
			return err
		}
	}
	if err := until(w.span.To); err != nil {
		return err
	}
	return w.emitNodes(at, pieces)
}

// headPieces returns the deltas of the head by time.
func (w *walker) headPieces() []piece {
	base := w.cluster.Tiers.Base()
	var pieces []piece
	for _, m := range w.metrics {
		for _, c := range w.view.cells(m.number) {
			for _, d := range c.deltas {
				pieces = append(pieces, piece{m.number, d.node, base.Bucket(c.start), d.sketch})
			}
		}
	}
	slices.SortStableFunc(pieces, func(a, b piece) int { return cmp.Compare(a.bucket.Start, b.bucket.Start) })
	return pieces
}

// nodeScan calls fn for the node rows of one run.
func (w *walker) nodeScan(run window.Run, fn func(piece) error) error {
	table := nodeTable(run.Width)
	t := w.table(table)
	if t == nil {
		return nil
	}
	cursor := t.Cursor()
	for key, value := cursor.Seek(nodeKey{start: run.Span.From}.append(nil)); key != nil; key, value = cursor.Next() {
		k, err := parseNodeKey(key)
		if err == nil && k.start >= run.Span.To {
			break
		}
		if err != nil || int(k.metric) >= len(w.metrics) || int(k.node) >= len(w.nodes) {
			return &DamagedError{table, "a key that names nothing", cmp.Or(err, errNodeSet)}
		}
		if err := fn(piece{k.metric, k.node, window.Bucket{Start: k.start, Width: run.Width}, value}); err != nil {
			return err
		}
	}
	return nil
}

// emitNodes merges the pieces of one bucket row by row and hands the rows over.
func (w *walker) emitNodes(b window.Bucket, pieces []piece) error {
	byRow := func(x, y piece) int {
		return cmp.Or(cmp.Compare(x.metric, y.metric), cmp.Compare(x.node, y.node))
	}
	if !slices.IsSortedFunc(pieces, byRow) {
		slices.SortStableFunc(pieces, byRow)
	}
	for len(pieces) > 0 {
		if err := w.alive(w.ctx); err != nil {
			return err
		}
		row := pieces[0]
		w.metric = w.metrics[row.metric]
		w.acc.Reset(w.cluster.Precision)
		for len(pieces) > 0 && byRow(pieces[0], row) == 0 {
			p := pieces[0]
			if err := w.acc.MergeBinary(p.sketch); err != nil {
				return w.damaged(nodeTable(p.bucket.Width), w.nodes[p.node], p.bucket, err)
			}
			pieces = pieces[1:]
		}
		var err error
		if w.encoded, err = w.acc.AppendBinary(w.encoded[:0]); err != nil {
			return err
		}
		err = w.fn(Row{Metric: window.Metric(w.metric.name), Node: w.nodes[row.node], Bucket: b, Sketch: w.encoded})
		if err != nil {
			return err
		}
	}
	return nil
}

// Producers calls fn for every producer that is remembered, in no order. fn must
// not call methods of db.
func (db *DB) Producers(fn func(ProducerID, ProducerState)) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	for id, p := range db.producers {
		if !p.forgotten(db.live.expiryMs) {
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
	d.number(uint64(v.live.expiryMs))
	d.number(uint64(v.live.heldMs))
	for i := range v.live.kept.node {
		d.number(uint64(v.live.kept.node[i]))
		d.number(uint64(v.live.kept.fleet[i]))
	}
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
