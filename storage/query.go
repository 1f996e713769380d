package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	cluster, ok := db.Cluster()
	if !ok {
		return window.Answer{}, ErrNotInitialised
	}
	fleet := nodes.All() && !q.ByNode
	var span reach
	if !q.Span.IsAll() {
		span = func(s *state) window.Span { return cluster.Tiers.Kept(q.Span, s.kept.of(fleet)) }
	}
	begin := db.begin
	if fleet {
		begin = func(m *metric, r reach) (*view, error) { return db.fleetView(ctx, m, r) }
	}
	v, err := begin(m, span)
	if err != nil {
		return window.Answer{}, err
	}
	defer v.close()
	acc := db.accumulator(v.cluster.Precision)
	defer db.accumulators.Put(acc)
	s := &search{view: v, ctx: ctx, query: q, fleet: fleet, matcher: nodes, acc: acc}
	if err := guarded(func() error { return s.run(m) }); err != nil {
		return window.Answer{}, err
	}
	return s.answer(), nil
}

// run answers.
func (s *search) run(m *metric) error {
	if err := s.look(m); err != nil {
		return err
	}
	selected, err := s.selection()
	if err != nil {
		return err
	}
	if s.query.Span.IsAll() {
		if err := s.narrow(selected); err != nil {
			return err
		}
	} else {
		s.span = s.cluster.Tiers.Kept(s.query.Span, s.kept())
		if err := s.checkAlign(); err != nil {
			return err
		}
	}
	s.plan()
	switch {
	case s.fleet:
		return s.together(s.fleetRows)
	case s.query.ByNode:
		return s.byNode(selected)
	}
	return s.together(func() error { return s.nodeRows(selected) })
}

// checkAlign refuses a strict query whose span cuts a bucket of the finest tier
// that is kept, or reaches beyond all of them: the check of the query knew only
// the base width.
func (s *search) checkAlign() error {
	asked := s.query.Span
	if s.query.Align != window.Strict || s.span == asked {
		return nil
	}
	e := &window.InputError{Field: "from", Reason: window.ReasonNotAligned}
	t := asked.From
	if !s.span.Empty() && s.span.From == t {
		e.Field, t = "to", asked.To
	}
	tiers, kept := s.cluster.Tiers, s.kept()
	if t < kept[len(kept)-1] {
		e.Message = fmt.Sprintf("%s is not kept any more, the oldest kept is %s", window.FormatTime(t), window.FormatTime(kept[len(kept)-1]))
		return e
	}
	e.Message = fmt.Sprintf("%s lies inside a bucket of %s, the finest kept for that time", window.FormatTime(t), tiers[tiers.Finest(t, kept)].Width)
	return e
}

// search answers one query from one view.
type search struct {
	*view
	ctx     context.Context
	query   window.Query
	fleet   bool // asks for all nodes together
	matcher window.NodeMatcher
	acc     *sketch.Accumulator

	metric *metric
	row    metricRow    // the metric's in the file
	cells  []bucketView // of the head, by start
	span   window.Span  // whole buckets of what is kept
	runs   []window.Run // its cover

	results []window.Result
	merged  int         // rows
	at      window.Span // of the result at hand
	nodeSet nodeBits    // of the result at hand
	points  int         // so far, of one node
	rows    int         // since the last look at the context
}

// look turns to a metric.
func (s *search) look(m *metric) error {
	var err error
	s.metric, s.cells = m, s.view.cells(m.number)
	s.row, err = s.fileRow(m)
	return err
}

// kept returns from when on there are rows of the kind that is asked for.
func (s *search) kept() []int64 { return s.shown.kept.of(s.fleet) }

// narrow turns all time into the span of the buckets in which the metric, or the
// selected nodes, ever had a value, as far as they are kept.
func (s *search) narrow(selected []uint32) error {
	var all counters
	if s.fleet {
		all = s.row.counters
	} else if err := s.extent(selected, &all); err != nil {
		return err
	}
	for _, c := range s.cells {
		for _, d := range c.deltas {
			if _, ok := slices.BinarySearch(selected, d.node); ok || s.fleet {
				all.add(d.count, c.start, false)
			}
		}
	}
	s.span = window.Span{}
	if all.count > 0 {
		s.span = s.cluster.Tiers.Kept(all.span(s.cluster.Tiers.Base()), s.kept())
	}
	s.cells = slices.DeleteFunc(s.cells, func(c bucketView) bool { return s.span.Empty() || !s.span.Contains(c.start) })
	return nil
}

// plan finds the cover of the span. Where the step is no multiple of a tier's
// width, its buckets serve only times that no finer tier is kept for.
func (s *search) plan() {
	s.runs = nil
	if s.span.Empty() {
		return
	}
	tiers, sealed := s.cluster.Tiers, slices.Clone(s.file.sealed)
	for i := 1; i < len(sealed); i++ {
		if s.query.Step%tiers[i].Width.Duration() != 0 {
			sealed[i] = min(sealed[i], s.kept()[i-1])
		}
	}
	s.runs = tiers.CoverKept(s.span, sealed, s.file.dropped(s.fleet))
}

// tick looks at the context now and then.
func (s *search) tick() error {
	if s.rows++; s.rows%checkEvery == 0 {
		return s.alive(s.ctx)
	}
	return nil
}

// enter turns to the result that t belongs to. done ends the one before.
func (s *search) enter(t int64, done func() error) error {
	if s.at.Contains(t) {
		return nil
	}
	if s.points > 0 {
		if err := done(); err != nil {
			return err
		}
	}
	s.at = s.interval(t)
	return s.countPoint()
}

// interval returns the times that share a result with t: its step. A step that
// begins or ends inside a bucket of the finest tier that is kept there is joined
// with its neighbour: what the bucket holds cannot be told apart.
func (s *search) interval(t int64) window.Span {
	if s.query.Step == 0 {
		return s.span
	}
	tiers, kept := s.cluster.Tiers, s.kept()
	inside := func(t int64) bool {
		w := tiers[tiers.Finest(t, kept)].Width
		return w.Floor(t) != t
	}
	step := window.Width(s.query.Step / time.Second)
	at := step.Bucket(t).Span()
	for at.From > s.span.From && inside(at.From) {
		at.From -= int64(step)
	}
	for at.To < s.span.To && inside(at.To) {
		at.To += int64(step)
	}
	return at.Intersect(s.span)
}

// emit appends what the accumulator holds as a result, and empties it.
func (s *search) emit(node string, nodes int) error {
	if s.acc.Count() == 0 {
		return nil
	}
	sk := s.acc.Sketch()
	s.acc.Reset(s.cluster.Precision)
	if (len(s.results)+1)*len(s.query.Quantiles) > maxEstimates {
		return tooMuch("nodes", maxEstimates, "estimates")
	}
	r := window.Result{Node: node, Span: s.at, Count: sk.Count(), Min: sk.Min(), Max: sk.Max(), Nodes: nodes}
	r.Estimates = make([]window.QuantileEstimate, len(s.query.Quantiles))
	for i, q := range s.query.Quantiles {
		r.Estimates[i] = window.QuantileEstimate{Q: q, Estimate: sk.Quantile(q)}
	}
	s.results = append(s.results, r)
	return nil
}

// countPoint bounds the points of all time, which the check of the query could
// not know.
func (s *search) countPoint() error {
	if s.points++; s.query.Step > 0 && s.points > window.MaxPoints {
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

// answer puts the results in order.
func (s *search) answer() window.Answer {
	a := window.Answer{
		Metric: s.query.Metric, Asked: s.query.Span, Span: s.span, Read: s.query.Read,
		AppliedIndex: s.index, BucketsMerged: s.merged, Results: s.results,
	}
	slices.SortStableFunc(a.Results, func(x, y window.Result) int { return strings.Compare(x.Node, y.Node) })
	return a
}

// damaged names a row of the file.
func (s *search) damaged(table string, node string, b window.Bucket, err error) error {
	return &DamagedError{table, rowName(s.metric.name, node, b), err}
}

// together answers for all chosen nodes as one. merge goes through their rows,
// entering result after result.
func (s *search) together(merge func() error) error {
	if err := merge(); err != nil {
		return err
	}
	return s.emitTogether()
}

func (s *search) emitTogether() error {
	defer s.nodeSet.reset()
	return s.emit(window.AllNodes, s.nodeSet.count)
}

// fleetRows merges the fleet rows and the head's fleet sketches.
func (s *search) fleetRows() error {
	limit := uint32(len(s.nodes))
	return s.sources(func(src source) error {
		if err := s.enter(src.Start, s.emitTogether); err != nil {
			return err
		}
		s.merged++
		if src.row.sketch != nil {
			err := s.acc.MergeBinary(src.row.sketch)
			if err == nil {
				err = s.nodeSet.union(src.row.set, limit)
			}
			if err != nil {
				return s.damaged(fleetTable(src.Width), window.AllNodes, src.Bucket, err)
			}
		}
		if err := s.mergeCells(src.cells, &s.nodeSet); err != nil {
			return err
		}
		return s.tick()
	})
}

// mergeCells merges the head's deltas of one bucket.
func (s *search) mergeCells(cells []bucketView, nodes *nodeBits) error {
	for _, c := range cells {
		if c.merged > 0 {
			if err := s.acc.MergeBinary(c.fleet); err != nil {
				return s.damaged("head", window.AllNodes, s.cluster.Tiers.Base().Bucket(c.start), err)
			}
		}
		for _, d := range c.deltas[c.merged:] {
			if err := s.acc.MergeBinary(d.sketch); err != nil {
				return s.damaged("head", s.nodes[d.node], s.cluster.Tiers.Base().Bucket(c.start), err)
			}
		}
		for _, d := range c.deltas {
			nodes.add(d.node)
		}
	}
	return nil
}
