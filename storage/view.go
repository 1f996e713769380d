package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// view is the state at one index: a read transaction, and how long the deltas
// of both heads were. It holds the file open and is to be closed.
type view struct {
	db      *DB
	gen     *generation
	tx      *bbolt.Tx
	file    state  // of the transaction
	live    state  // when the heads were taken
	index   uint64 // that the view shows
	shown   *state // at that index: file or live
	cluster Cluster
	names   *catalogue
	metrics []*metric // at least those of the view
	nodes   []string  // likewise

	// table is that of the producers when the heads were taken, encoded. Only
	// begin with producers sets it.
	producers []byte

	heads [2]headView // the flushing and the current one, oldest first
}

// headView is one head. A head that the transaction holds has no buckets.
type headView struct {
	last    uint64 // index of its last entry
	buckets map[uint32][]bucketView
}

// errSwapped says that another file was swapped in, and what was looked up
// before is void.
var errSwapped = errors.New("swapped")

// reach says from a state what span a reader wants to see. Nil is all time.
type reach func(*state) window.Span

// begin takes a view of one metric in a span, or of all metrics when m is nil.
//
// The order makes it consistent without a lock: first the heads, then the
// transaction, then away with each head that the transaction already holds. A
// flush that commits in between is seen as a whole, in the file.
func (db *DB) begin(m *metric, r reach) (*view, error) {
	v := &view{db: db}
	db.mu.RLock()
	err := v.take(m, r)
	db.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	v.step()
	if err := v.finish(); err != nil {
		return nil, err
	}
	return v, nil
}

// beginWithProducers is begin for everything, with the producers at the index of
// the view.
func (db *DB) beginWithProducers(ctx context.Context) (*view, error) {
	for {
		v := &view{db: db}
		db.mu.RLock()
		err := v.take(nil, nil)
		if err == nil {
			v.producers = db.producers.append(nil, db.live.expiryMs)
		}
		db.mu.RUnlock()
		if err == nil {
			v.step()
			err = v.finish()
		}
		if err == nil {
			err = v.alive(ctx)
		}
		if err != nil {
			v.close()
			return nil, err
		}
		if v.file.index <= v.live.index {
			return v, nil
		}
		v.close() // a flush of later entries came between
	}
}

// everything is all time.
var everything = window.Span{From: window.MinTime, To: window.MaxTime}

// finish begins the transaction and drops the heads that it holds.
func (v *view) finish() error {
	if err := guarded(v.open); err != nil {
		v.close()
		return err
	}
	for i := range v.heads {
		if v.heads[i].last <= v.file.index {
			v.heads[i].buckets = nil
		}
	}
	v.shown = &v.live
	if v.file.index > v.live.index {
		v.shown = &v.file
	}
	v.index = v.shown.index
	// The transaction may know names that came after the heads were taken.
	v.db.mu.RLock()
	v.metrics, v.nodes = slices.Clip(v.names.metrics), slices.Clip(v.names.nodes)
	v.db.mu.RUnlock()
	return nil
}

// take takes the heads. DB.mu is held.
func (v *view) take(m *metric, r reach) error {
	db := v.db
	if err := db.usable(); err != nil {
		return err
	}
	if db.cluster.ID == "" {
		return ErrNotInitialised
	}
	if m != nil && db.names.metricNumbers[m.name] != m {
		return errSwapped
	}
	if !db.gen.acquire() {
		return ErrClosed
	}
	v.gen, v.cluster, v.names, v.live, v.index = db.gen, db.cluster, db.names, db.live, db.live.index
	span := everything
	if r != nil {
		span = r(&v.live)
	}
	if db.flushing != nil {
		v.heads[0] = takeHead(db.flushing, db.flushing.end.index, m, span)
	}
	v.heads[1] = takeHead(db.current, db.live.index, m, span)
	return nil
}

func takeHead(h *head, last uint64, m *metric, span window.Span) headView {
	hv := headView{last: last, buckets: make(map[uint32][]bucketView)}
	if m != nil {
		hv.buckets[m.number] = h.view(nil, m.number, span)
		return hv
	}
	for number := range h.metrics {
		hv.buckets[number] = h.view(nil, number, span)
	}
	return hv
}

func (v *view) open() error {
	var err error
	if v.tx, err = v.gen.bolt.Begin(false); err != nil {
		return err
	}
	v.step()
	v.file, err = readState(v.tx)
	return err
}

func (v *view) step() {
	if v.db.onView != nil {
		v.db.onView()
	}
}

func (v *view) close() {
	if v.tx != nil {
		// A read transaction that ends twice is the only error there is.
		_ = v.tx.Rollback()
		v.tx = nil
	}
	if v.gen != nil {
		v.gen.release()
		v.gen = nil
	}
}

// alive returns why a reader has to stop.
func (v *view) alive(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-v.db.done:
		return v.db.stopped()
	default:
		return nil
	}
}

// cells returns the head's buckets of a metric, oldest first. Several of one
// start, from both heads, are neighbours.
func (v *view) cells(number uint32) []bucketView {
	cells := slices.Concat(v.heads[0].buckets[number], v.heads[1].buckets[number])
	slices.SortStableFunc(cells, func(a, b bucketView) int { return cmp.Compare(a.start, b.start) })
	return cells
}

// table returns a table of rows; nil when it has none yet.
func (v *view) table(name string) *bbolt.Bucket { return v.tx.Bucket([]byte(name)) }

// fleetTable returns a tier's table of fleet rows: nil when no row of the metric
// can be in it, an error when there must be. row is the metric's in the file.
func (v *view) fleetTable(m *metric, row *metricRow, tier int) (*bbolt.Bucket, error) {
	if !row.chain(tier).some {
		return nil, nil
	}
	name := fleetTable(v.cluster.Tiers[tier].Width)
	t := v.table(name)
	if t == nil {
		return nil, &DamagedError{name, fmt.Sprintf("metric %q", m.name), errNoTable}
	}
	return t, nil
}

// fileRow returns the catalogue row of a metric in the file, the zero one when it
// has none.
func (v *view) fileRow(m *metric) (metricRow, error) {
	if m.number >= v.file.metrics {
		return metricRow{name: m.name}, nil
	}
	return readMetricRow(v.tx, m.number)
}

// metric returns the metric of a name, nil when it was never counted.
func (db *DB) metric(name window.Metric) (*metric, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if err := db.usable(); err != nil {
		return nil, err
	}
	if db.cluster.ID == "" {
		return nil, ErrNotInitialised
	}
	return db.names.metricNumbers[string(name)], nil
}

// accumulator returns an empty one from the pool.
func (db *DB) accumulator(precision int) *sketch.Accumulator {
	a, ok := db.accumulators.Get().(*sketch.Accumulator)
	if !ok {
		return sketch.NewAccumulator(precision)
	}
	a.Reset(precision)
	return a
}

// mergeNow is how many deltas of a bucket a query merges itself before it lets
// the bucket's fleet sketch be brought up to date for all.
const mergeNow = 16

// fleetView takes a view for fleet rows, with the fleet sketches of the head
// brought up to it: so that a delta is decoded for the fleet once, however many
// ask, and at the latest by the flush.
func (db *DB) fleetView(ctx context.Context, m *metric, r reach) (*view, error) {
	m.fleetMu.Lock()
	defer m.fleetMu.Unlock()
	v, err := db.begin(m, r)
	if err != nil {
		return nil, err
	}
	acc := db.accumulator(v.cluster.Precision)
	defer db.accumulators.Put(acc)
	for h := range v.heads {
		cells := v.heads[h].buckets[m.number]
		for i := range cells {
			c := &cells[i]
			if len(c.deltas)-c.bucket.merged > mergeNow {
				if err = v.alive(ctx); err == nil {
					err = c.bucket.merge(c.deltas, acc, v.cluster.Precision)
				}
				if err != nil {
					v.close()
					return nil, err
				}
			}
			c.merged, c.fleet = c.bucket.merged, c.bucket.fleet
		}
	}
	return v, nil
}

// merge brings the fleet sketch of a head bucket up to the given deltas.
// metric.fleetMu is held.
func (b *headBucket) merge(deltas []delta, acc *sketch.Accumulator, precision int) error {
	acc.Reset(precision)
	if b.merged > 0 {
		if err := acc.MergeBinary(b.fleet); err != nil {
			return err
		}
	}
	for _, d := range deltas[b.merged:] {
		if err := acc.MergeBinary(d.sketch); err != nil {
			return err
		}
	}
	fleet, err := acc.AppendBinary(nil)
	b.fleet, b.merged = fleet, len(deltas)
	return err
}
