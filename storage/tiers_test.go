package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// fact is one delta that was applied.
type fact struct {
	metric, node string
	start        int64
	values       []int64
	late         bool // the fleet's base bucket was not kept any more
}

// tierModel is what must be so, computed from all deltas that were ever applied.
type tierModel struct {
	tiers    window.Tiers
	facts    []fact
	clockMs  int64
	expiryMs int64
	heldMs   int64
	kept     horizons
	index    uint64
	entries  []*Entry
	seq      uint64
}

// clock follows the rules of the guard.
func (m *tierModel) clock(ms int64, accept bool) {
	jump := m.clockMs != 0 && ms-m.clockMs > 3600_000
	m.clockMs = max(m.clockMs, ms)
	switch {
	case accept:
		m.heldMs = 0
	case jump:
		m.heldMs = m.clockMs
	case m.clockMs >= m.heldMs+24*3600_000:
		m.heldMs = 0
	}
	if m.heldMs == 0 {
		m.expiryMs = m.clockMs
	}
	m.expire()
}

func (m *tierModel) expire() {
	node, fleet := m.tiers.Horizons(m.expiryMs / 1000)
	if m.kept.node == nil {
		m.kept = horizons{node, fleet}
	}
	kept := horizons{slices.Clone(m.kept.node), slices.Clone(m.kept.fleet)}
	for i := range node {
		kept.node[i], kept.fleet[i] = max(kept.node[i], node[i]), max(kept.fleet[i], fleet[i])
	}
	m.kept = kept
}

// interval returns the step that holds t, joined with its neighbours where they
// cut a bucket of the finest tier that is kept.
func (m *tierModel) interval(t int64, q window.Query, span window.Span, kept []int64) window.Span {
	step := int64(q.Step / time.Second)
	if step == 0 {
		return span
	}
	cuts := func(b int64) bool {
		if b%step != 0 {
			return false
		}
		for i := range kept {
			if b >= kept[i] {
				return b%int64(m.tiers[i].Width) == 0
			}
		}
		return false
	}
	from, to := t, t+10
	for from > span.From && !cuts(from) {
		from -= 10
	}
	for to < span.To && !cuts(to) {
		to += 10
	}
	return window.Span{From: from, To: to}
}

func (m *tierModel) answer(q window.Query) (window.Answer, error) {
	a := window.Answer{Metric: q.Metric, Asked: q.Span, Read: q.Read}
	match, err := window.CompileNodes(q.Nodes)
	if err != nil {
		return a, err
	}
	kept := m.kept.of(match.All() && !q.ByNode)
	known := false
	ever := window.Span{From: window.MaxTime, To: window.MinTime}
	for _, f := range m.facts {
		known = known || f.metric == string(q.Metric)
		if f.metric == string(q.Metric) && match.Match(f.node) {
			ever.From, ever.To = min(ever.From, f.start), max(ever.To, f.start+10)
		}
	}
	if !known {
		return a, window.ErrUnknownMetric
	}
	if !q.Span.IsAll() {
		a.Span = m.tiers.Kept(q.Span, kept)
	} else if ever.From < ever.To {
		a.Span = m.tiers.Kept(ever, kept)
	}
	type key struct {
		node string
		from int64
	}
	sketches, spans, nodes := map[key]*sketch.Sketch{}, map[key]window.Span{}, map[key]map[string]bool{}
	for _, f := range m.facts {
		if f.metric != string(q.Metric) || !match.Match(f.node) || a.Span.Empty() || !a.Span.Contains(f.start) {
			continue
		}
		at := m.interval(f.start, q, a.Span, kept)
		k := key{window.AllNodes, at.From}
		if q.ByNode {
			k.node = f.node
		}
		if sketches[k] == nil {
			sketches[k], spans[k], nodes[k] = sketch.New(testPrecision), at, map[string]bool{}
		}
		for _, v := range f.values {
			sketches[k].AddInt(v)
		}
		nodes[k][f.node] = true
	}
	for k, s := range sketches {
		r := window.Result{Node: k.node, Span: spans[k], Count: s.Count(), Min: s.Min(), Max: s.Max(), Nodes: len(nodes[k])}
		for _, p := range q.Quantiles {
			r.Estimates = append(r.Estimates, window.QuantileEstimate{Q: p, Estimate: s.Quantile(p)})
		}
		a.Results = append(a.Results, r)
	}
	slices.SortFunc(a.Results, func(x, y window.Result) int {
		if c := strings.Compare(x.Node, y.Node); c != 0 {
			return c
		}
		return int(x.Span.From - y.Span.From)
	})
	return a, nil
}

// rows returns the logical content: each time in the finest tier that keeps it.
func (m *tierModel) rows() map[string][]byte {
	values := make(map[string][]int64)
	for _, f := range m.facts {
		for _, fleet := range []bool{false, true} {
			kept := m.kept.of(fleet)
			if f.start < kept[len(kept)-1] {
				continue
			}
			b := m.tiers[m.tiers.Finest(f.start, kept)].Width.Bucket(f.start)
			node := f.node
			if fleet {
				node = window.AllNodes
			}
			id := rowName(f.metric, node, b)
			values[id] = append(values[id], f.values...)
		}
	}
	rows := make(map[string][]byte)
	for id, vs := range values {
		rows[id] = encode(vs...)
	}
	return rows
}

var tierSets = []window.Tiers{
	window.StandardTiers(),
	window.ForeverTiers(),
	{{Width: 10, KeepNode: 60, KeepFleet: 300}, {Width: 60, KeepNode: 600, KeepFleet: 7200}, {Width: 600, KeepNode: 7200, KeepFleet: 14400}, {Width: 3600, KeepNode: 36000, KeepFleet: 0}},
	{{Width: 10, KeepNode: 600, KeepFleet: 600}, {Width: 3600, KeepNode: 7200, KeepFleet: 14400}},
	{{Width: 10, KeepNode: 3600, KeepFleet: 7200}},
}

// tierMachine runs a DB beside its model, over hours of log clock.
type tierMachine struct {
	t     *rapid.T
	dir   string
	db    *DB
	files int
	*tierModel
}

func (m *tierMachine) newPath() string {
	m.files++
	return filepath.Join(m.dir, fmt.Sprintf("tiers-%d.db", m.files))
}

func (m *tierMachine) open(path string) {
	db, err := Open(path, Options{FlushEvery: -1, OnFatal: func(err error) { m.t.Errorf("fatal: %v", err) }})
	if err != nil {
		m.t.Fatalf("Open: %v", err)
	}
	m.db = db
}

func (m *tierMachine) append(e *Entry, stepMs int64) {
	m.index++
	e.Index, e.Term, e.ClockMs = m.index, 1, m.clockMs+stepMs
	m.entries = append(m.entries, e)
	m.clock(e.ClockMs, e.Kind == KindAcceptClock)
	out, err := m.db.Apply(e)
	if err != nil {
		m.t.Fatalf("Apply(%d): %v", e.Index, err)
	}
	for _, o := range out {
		if o.Status != Applied {
			m.t.Fatalf("Apply(%d): %v", e.Index, o.Status)
		}
	}
}

func (m *tierMachine) ingest() {
	e := &Entry{Kind: KindBatches}
	var facts []fact
	m.seq++
	b := Batch{Producer: producerID(1), Seq: m.seq, SeenMs: m.clockMs, Hash: m.seq}
	age := rapid.SampledFrom([]int64{20, 20, 200, 2000, 20_000, 200_000}).Draw(m.t, "age")
	for range rapid.IntRange(1, 8).Draw(m.t, "deltas") {
		f := fact{
			metric: rapid.SampledFrom([]string{"m", "n"}).Draw(m.t, "metric"), node: genNode.Draw(m.t, "node"),
			start:  window.TenSeconds.Floor(m.clockMs/1000 - rapid.Int64Range(-20, age).Draw(m.t, "before")),
			values: genValues.Draw(m.t, "values"),
		}
		facts = append(facts, f)
		b.Deltas = append(b.Deltas, newDelta(f.metric, f.node, f.start, f.values...))
	}
	e.Batches = []Batch{b}
	m.append(e, rapid.Int64Range(0, 10_000).Draw(m.t, "clock"))
	for _, f := range facts {
		f.late = f.start < m.kept.fleet[0]
		m.facts = append(m.facts, f)
	}
}

// tick lets time pass: seconds to hours, now and then a jump.
func (m *tierMachine) tick() {
	steps := rapid.SampledFrom([]int64{1, 1, 2, 20, 70}).Draw(m.t, "steps")
	step := rapid.SampledFrom([]int64{5, 31, 300, 1800}).Draw(m.t, "step")
	for range steps {
		m.append(&Entry{Kind: KindTick}, step*1000)
	}
}

func (m *tierMachine) flush() {
	m.db.work = rapid.SampledFrom([]int{0, 3, 1 << 16}).Draw(m.t, "work")
	if rapid.IntRange(0, 3).Draw(m.t, "busy") == 0 {
		m.db.onFrozen = func() { m.db.onFrozen = nil; m.ingest(); m.query() }
	}
	if err := m.db.Flush(context.Background()); err != nil {
		m.t.Fatalf("Flush: %v", err)
	}
	m.db.onFrozen = nil
}

func (m *tierMachine) replay() {
	for _, e := range m.entries {
		if _, err := m.db.Apply(e); err != nil {
			m.t.Fatalf("replay %d: %v", e.Index, err)
		}
	}
}

func (m *tierMachine) crash() {
	path := m.newPath()
	copyFile(m.t, m.db.path, path)
	if err := m.db.Kill(); err != nil {
		m.t.Fatalf("Kill: %v", err)
	}
	if _, err := VerifyFile(path); err != nil {
		m.t.Fatalf("VerifyFile: %v", err)
	}
	m.open(path)
	m.replay()
}

func (m *tierMachine) install() {
	path := m.newPath()
	out, err := os.Create(path)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.db.Stream(context.Background(), out); err != nil {
		m.t.Fatalf("Stream: %v", err)
	}
	if err := out.Close(); err != nil {
		m.t.Fatal(err)
	}
	f, err := VerifyFile(path)
	if err != nil {
		m.t.Fatalf("VerifyFile: %v", err)
	}
	if f.Index == 0 {
		return
	}
	if err := m.db.Replace(path); err != nil {
		m.t.Fatalf("Replace: %v", err)
	}
	m.replay()
}

func (m *tierMachine) retention() {
	tiers := slices.Clone(m.tiers)
	last := int64(0)
	for i := range tiers {
		tiers[i].KeepNode = max(last, int64(tiers[i].Width)) + rapid.SampledFrom([]int64{0, 100, 5000}).Draw(m.t, "node")
		last = tiers[i].KeepNode
		tiers[i].KeepFleet = 0
	}
	m.tiers = tiers // what the entry's clock expires goes by the old ones, which keep less or the same
	m.append(&Entry{Kind: KindRetention, Tiers: tiers}, 0)
}

func (m *tierMachine) query() {
	q := window.Query{Metric: window.Metric(rapid.SampledFrom([]string{"m", "n"}).Draw(m.t, "metric"))}
	if rapid.IntRange(0, 3).Draw(m.t, "bounded") > 0 {
		age := rapid.SampledFrom([]int64{100, 1000, 10_000, 300_000}).Draw(m.t, "age")
		from := m.clockMs/1000 - rapid.Int64Range(0, age).Draw(m.t, "from")
		q.Span = window.Between(time.Unix(from, 0), time.Unix(from+rapid.Int64Range(1, age).Draw(m.t, "length"), 0))
	}
	q.Nodes = rapid.SampledFrom([][]string{nil, nil, {"a"}, {"node-*"}, {"a", "ü", "nobody"}, {"[abc]"}}).Draw(m.t, "nodes")
	q.ByNode = rapid.Bool().Draw(m.t, "by node")
	q.Step = time.Duration(rapid.SampledFrom([]int64{0, 0, 60, 600, 3600, 420, 7200, 90}).Draw(m.t, "step")) * time.Second
	q.Quantiles = []float64{0.5, 0, 0.9, 1}
	q, err := q.Check(epoch, window.TenSeconds)
	if err != nil {
		return // more points than are answered
	}
	got, err := m.db.Query(context.Background(), q)
	want, wantErr := m.answer(q)
	var tooMany *window.InputError
	if errors.As(err, &tooMany) {
		return
	}
	if !errors.Is(err, wantErr) {
		m.t.Fatalf("Query(%+v): %v, want %v", q, err, wantErr)
	}
	if err != nil {
		return
	}
	if got.AppliedIndex != m.index {
		m.t.Fatalf("Query: index %d, want %d", got.AppliedIndex, m.index)
	}
	got.AppliedIndex, got.BucketsMerged = 0, 0
	if len(got.Results) == 0 {
		got.Results, want.Results = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		m.t.Fatalf("Query(%+v) at clock %d, kept %v\n got %+v\nwant %+v", q, m.clockMs/1000, m.kept, got, want)
	}
}

func (m *tierMachine) checkRows() {
	want := m.rows()
	var wrong string
	_, err := m.db.Walk(context.Background(), func(r Row) error {
		id := rowName(string(r.Metric), r.Node, r.Bucket)
		if string(want[id]) != string(r.Sketch) {
			wrong = fmt.Sprintf("%s is %x, want %x, once", id, r.Sketch, want[id])
		}
		delete(want, id)
		return nil
	})
	if err != nil || wrong != "" || len(want) > 0 {
		m.t.Fatalf("Walk: %v, %s, and %d rows do not come, %v", err, wrong, len(want), slices.Sorted(maps.Keys(want)))
	}
}

func (m *tierMachine) checkLists() {
	want := make(map[string]*counters)
	buckets := make(map[string]bool)
	for _, f := range m.facts {
		for _, id := range []string{f.metric, f.metric + "/" + f.node} {
			if want[id] == nil {
				want[id] = new(counters)
			}
			bucket := fmt.Sprintf("%s/%d", id, f.start)
			want[id].add(uint64(len(f.values)), f.start, f.late || buckets[bucket])
			buckets[bucket] = buckets[bucket] || !f.late
		}
	}
	got := make(map[string]*counters)
	infos, _, err := m.db.Metrics(context.Background())
	if err != nil {
		m.t.Fatalf("Metrics: %v", err)
	}
	for _, i := range infos {
		got[string(i.Metric)] = &counters{i.Count, i.Buckets, i.Span.From, i.Span.To - 10}
		nodes, _, err := m.db.Nodes(context.Background(), i.Metric)
		if err != nil || len(nodes) != i.Nodes {
			m.t.Fatalf("Nodes(%s): %v, %v, want %d", i.Metric, nodes, err, i.Nodes)
		}
		for _, n := range nodes {
			got[string(i.Metric)+"/"+n.Node] = &counters{n.Count, n.Buckets, n.Span.From, n.Span.To - 10}
		}
	}
	if !reflect.DeepEqual(got, want) {
		m.t.Fatalf("listings differ from what was ever counted: %d, want %d", len(got), len(want))
	}
}

// checkHash compares with a store that applied the same log and never flushed.
func (m *tierMachine) checkHash() {
	db := m.db
	a, i, err := db.Hash(context.Background())
	m.open(m.newPath())
	defer func() { _ = m.db.Kill(); m.db = db }()
	m.replay()
	b, j, err2 := m.db.Hash(context.Background())
	if err != nil || err2 != nil || a != b || i != j {
		m.t.Fatalf("Hash = %x at %d (%v), want that of the log alone, %x at %d (%v)", a, i, err, b, j, err2)
	}
	m.query()
}

func (m *tierMachine) run() {
	m.tiers = rapid.SampledFrom(tierSets).Draw(m.t, "tiers")
	m.open(m.newPath())
	defer func() { _ = m.db.Kill() }()
	m.append(&Entry{Kind: KindInit, Cluster: &Cluster{ID: "test", Precision: testPrecision, Tiers: m.tiers}}, epoch.UnixMilli())
	m.t.Repeat(map[string]func(*rapid.T){
		"ingest": func(*rapid.T) { m.ingest() },
		"more":   func(*rapid.T) { m.ingest() },
		"tick":   func(*rapid.T) { m.tick() },
		"jump": func(*rapid.T) {
			m.append(&Entry{Kind: KindTick}, rapid.Int64Range(3000_000, 9000_000).Draw(m.t, "jump"))
		},
		"accept":  func(*rapid.T) { m.append(&Entry{Kind: KindAcceptClock}, 0) },
		"flush":   func(*rapid.T) { m.flush() },
		"again":   func(*rapid.T) { m.flush() },
		"crash":   func(*rapid.T) { m.crash() },
		"install": func(*rapid.T) { m.install() },
		"retain":  func(*rapid.T) { m.retention() },
		"query":   func(*rapid.T) { m.query() },
		"ask":     func(*rapid.T) { m.query() },
		"":        func(*rapid.T) {},
	})
	m.checkRows()
	m.checkLists()
	m.checkHash()
}

// Hours of log clock, data of any age, flushes that leave work behind, crashes,
// installs, changes of retention, jumps of the clock: every answer and every row
// is that of all deltas that were ever applied.
func TestTiers_AnyPathGivesTheSameAnswer(t *testing.T) {
	dir, files := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		m := &tierMachine{t: rt, dir: dir, files: files, tierModel: new(tierModel)}
		defer func() { files = m.files }()
		m.run()
	})
}
