package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// maxEstimates bounds an answer: results times quantiles.
const maxEstimates = 1 << 19

// checkEvery is how many rows are read between two looks at the context.
const checkEvery = 256

// Query answers a checked query, whose span is resolved. The answer shows one
// state: everything applied up to its AppliedIndex and nothing else. It returns
// window.ErrUnknownMetric for a metric that was never counted, and a
// *DamagedError rather than an answer that leaves a record out. No data is an
// answer without results.
//
// Memory is bounded by the answer, not by the rows that are read.
func (db *DB) Query(ctx context.Context, q window.Query) (window.Answer, error) {
	nodes, err := window.CompileNodes(q.Nodes)
	if err != nil {
		return window.Answer{}, err
	}
	for {
		m, err := db.metric(q.Metric)
		if err != nil {
			return window.Answer{}, err
		}
		if m == nil {
			return window.Answer{}, fmt.Errorf("%q: %w", q.Metric, window.ErrUnknownMetric)
		}
		a, err := db.query(ctx, q, m, nodes)
		if !errors.Is(err, errSwapped) {
			return a, err
		}
	}
}

func (db *DB) query(ctx context.Context, q window.Query, m *metric, nodes window.NodeMatcher) (window.Answer, error) {
	base, ok := db.Cluster()
	if !ok {
		return window.Answer{}, ErrNotInitialised
	}
	span := q.Span.Outward(base.Tiers.Base())
	begin := db.begin
	fleet := nodes.All() && !q.ByNode
	if fleet {
		begin = func(m *metric, s window.Span) (*view, error) { return db.fleetView(ctx, m, s) }
	}
	v, err := begin(m, span)
	if err != nil {
		return window.Answer{}, err
	}
	defer v.close()
	acc := db.accumulator(v.cluster.Precision)
	defer db.accumulators.Put(acc)
	s := &search{
		view: v, ctx: ctx, query: q, metric: m, span: span, base: v.cluster.Tiers.Base(), matcher: nodes, acc: acc,
		cells: v.cells(m.number),
	}
	err = guarded(func() error {
		switch {
		case fleet:
			return s.fleet()
		case q.ByNode:
			return s.byNode()
		}
		return s.together()
	})
	if err != nil {
		return window.Answer{}, err
	}
	return s.answer(), nil
}

// search answers one query from one view.
type search struct {
	*view
	ctx     context.Context
	query   window.Query
	metric  *metric
	span    window.Span // widened to base buckets
	base    window.Width
	matcher window.NodeMatcher
	acc     *sketch.Accumulator
	cells   []bucketView // of the head, by start

	results []window.Result
	merged  int         // rows
	covered window.Span // of the rows read
	steps   int         // points so far, of one node
	rows    int         // since the last look at the context
}

// tick looks at the context now and then.
func (s *search) tick() error {
	if s.rows++; s.rows%checkEvery == 0 {
		return s.alive(s.ctx)
	}
	return nil
}

// point returns the start of the step that holds t: the key by which rows belong
// to one result. Without steps all do.
func (s *search) point(t int64) int64 {
	if s.query.Step == 0 {
		return 0
	}
	return s.query.Point(t, everything).From
}

// cover notes a bucket that was read.
func (s *search) cover(start int64) {
	if s.covered == (window.Span{}) {
		s.covered = window.Span{From: start, To: start + int64(s.base)}
	}
	s.covered.From = min(s.covered.From, start)
	s.covered.To = max(s.covered.To, start+int64(s.base))
}

// emit appends what the accumulator holds as a result, and empties it. t lies in
// the step of the result.
func (s *search) emit(node string, t int64, nodes int) error {
	if s.acc.Count() == 0 {
		return nil
	}
	sk := s.acc.Sketch()
	s.acc.Reset(s.cluster.Precision)
	if (len(s.results)+1)*len(s.query.Quantiles) > maxEstimates {
		return tooMuch("nodes", maxEstimates, "estimates")
	}
	r := window.Result{Node: node, Span: window.Span{From: t}, Count: sk.Count(), Min: sk.Min(), Max: sk.Max(), Nodes: nodes}
	r.Estimates = make([]window.QuantileEstimate, len(s.query.Quantiles))
	for i, q := range s.query.Quantiles {
		r.Estimates[i] = window.QuantileEstimate{Q: q, Estimate: sk.Quantile(q)}
	}
	s.results = append(s.results, r)
	return nil
}

// countStep bounds the points of all time, which the check of the query could
// not know.
func (s *search) countStep() error {
	if s.steps++; s.query.Step > 0 && s.steps > window.MaxPoints {
		return tooMuch("step", window.MaxPoints, "points")
	}
	return nil
}

func tooMuch(field string, limit int, unit string) error {
	return &window.InputError{
		Field: field, Reason: window.ReasonTooMany, Limit: fmt.Sprint(limit),
		Message: fmt.Sprintf("the answer has more than %d %s: ask for a shorter span, fewer nodes or a longer step", limit, unit),
	}
}

// answer puts the results in order and fills in their spans, which for all time
// are known only now.
func (s *search) answer() window.Answer {
	a := window.Answer{
		Metric: s.query.Metric, Asked: s.query.Span, Span: s.span, Read: s.query.Read,
		AppliedIndex: s.index, BucketsMerged: s.merged, Results: s.results,
	}
	if s.query.Span.IsAll() {
		a.Span = s.covered
	}
	slices.SortStableFunc(a.Results, func(x, y window.Result) int { return strings.Compare(x.Node, y.Node) })
	for i := range a.Results {
		a.Results[i].Span = s.query.Point(a.Results[i].Span.From, a.Span)
	}
	return a
}

// damaged names a row of the file.
func (s *search) damaged(table string, node string, start int64, err error) error {
	return &DamagedError{table, rowName(s.metric.name, node, window.Bucket{Start: start, Width: s.base}), err}
}

// source is one bucket of the metric: its fleet row, its deltas, or both.
type source struct {
	start int64
	row   fleetRow // empty where the file has none
	cells []bucketView
}

// sources calls fn for every bucket of the metric in the span, oldest first. The
// fleet table tells which buckets there are: it has a row for each.
func (s *search) sources(fn func(source) error) error {
	cells := s.cells
	next := func(until int64) error {
		for len(cells) > 0 && cells[0].start < until {
			n := sameStart(cells)
			if err := fn(source{start: cells[0].start, cells: cells[:n]}); err != nil {
				return err
			}
			cells = cells[n:]
		}
		return nil
	}
	table := fleetTable(s.base)
	t, err := s.fleetTable(s.metric)
	if err != nil {
		return err
	}
	if t == nil {
		return next(s.span.To)
	}
	chain, err := s.chain()
	if err != nil {
		return err
	}
	c := t.Cursor()
	from := fleetKey{s.metric.number, s.span.From}
	for key, value := c.Seek(from.append(nil)); key != nil; key, value = c.Next() {
		k, err := parseFleetKey(key)
		if err != nil {
			return s.damaged(table, window.AllNodes, s.span.From, err)
		}
		if k.metric != s.metric.number {
			break // or a damaged key: then the end of the chain is missing
		}
		row, err := parseFleetRow(table, key, value)
		if err != nil {
			return s.damaged(table, window.AllNodes, k.start, err)
		}
		if err := chain.follow(k.start, &row); err != nil {
			return s.damaged(table, window.AllNodes, k.start, err)
		}
		if k.start >= s.span.To {
			return next(s.span.To)
		}
		if err := next(k.start); err != nil {
			return err
		}
		n := 0
		if len(cells) > 0 && cells[0].start == k.start {
			n = sameStart(cells)
		}
		if err := fn(source{start: k.start, row: row, cells: cells[:n]}); err != nil {
			return err
		}
		cells = cells[n:]
	}
	if err := chain.end(); err != nil {
		return s.damaged(table, window.AllNodes, s.span.From, err)
	}
	return next(s.span.To)
}

// sameStart returns how many of the first cells are of one bucket.
func sameStart(cells []bucketView) int {
	n := 1
	for n < len(cells) && cells[n].start == cells[0].start {
		n++
	}
	return n
}

// fleet answers for all nodes together, from fleet rows and the head's fleet
// sketches.
func (s *search) fleet() error {
	var nodes nodeBits
	var at, start int64
	table := fleetTable(s.base)
	limit := uint32(len(s.nodes))
	flush := func() error {
		defer nodes.reset()
		return s.emit(window.AllNodes, start, nodes.count)
	}
	err := s.sources(func(src source) error {
		if p := s.point(src.start); s.steps == 0 || p != at {
			if err := flush(); err != nil {
				return err
			}
			at = p
			if err := s.countStep(); err != nil {
				return err
			}
		}
		start = src.start
		s.merged++
		s.cover(start)
		if src.row.sketch != nil {
			err := s.acc.MergeBinary(src.row.sketch)
			if err == nil {
				err = nodes.union(src.row.set, limit)
			}
			if err != nil {
				return s.damaged(table, window.AllNodes, start, err)
			}
		}
		if err := s.mergeCells(src.cells, &nodes); err != nil {
			return err
		}
		return s.tick()
	})
	if err != nil {
		return err
	}
	return flush()
}

// mergeCells merges the head's deltas of one bucket.
func (s *search) mergeCells(cells []bucketView, nodes *nodeBits) error {
	for _, c := range cells {
		if c.merged > 0 {
			if err := s.acc.MergeBinary(c.fleet); err != nil {
				return s.damaged("head", window.AllNodes, c.start, err)
			}
		}
		for _, d := range c.deltas[c.merged:] {
			if err := s.acc.MergeBinary(d.sketch); err != nil {
				return s.damaged("head", s.nodes[d.node], c.start, err)
			}
		}
		for _, d := range c.deltas {
			nodes.add(d.node)
		}
	}
	return nil
}
