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

var epoch = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// rowID names a base row of the model.
type rowID struct {
	metric, node string
	start        int64
}

// model is what must be so: every acknowledged value, in the open.
type model struct {
	rows    map[rowID][]int64
	settled map[ProducerID]map[uint64]Batch
	entries []*Entry // the log
	index   uint64
	clockMs int64
}

func newModel() *model {
	return &model{rows: make(map[rowID][]int64), settled: make(map[ProducerID]map[uint64]Batch)}
}

// expect says what must become of a batch, from the rule and not from the code.
func (m *model) expect(b Batch) Status {
	settled := m.settled[b.Producer]
	low := uint64(0)
	for settled[low+1].Seq != 0 {
		low++
	}
	if old, ok := settled[b.Seq]; ok {
		switch {
		case b.Seq+keptRecords <= low:
			return TooOldToDeduplicate
		case old.Hash != b.Hash:
			return Conflict
		}
		return Duplicate
	}
	if b.Seq > low+WindowSize {
		return SeqWindow
	}
	return Applied
}

// apply adds a batch that was applied; values are those of its deltas.
func (m *model) apply(b Batch, values [][]int64) {
	if m.settled[b.Producer] == nil {
		m.settled[b.Producer] = make(map[uint64]Batch)
	}
	m.settled[b.Producer][b.Seq] = b
	for i, d := range b.Deltas {
		id := rowID{d.Metric, d.Node, d.Start}
		m.rows[id] = append(m.rows[id], values[i]...)
	}
}

// machine runs a DB beside its model.
type machine struct {
	t     *rapid.T
	dir   string
	db    *DB
	model *model
	files int
	live  bool // flushes save the live producers: the planted bug
}

func (m *machine) open(path string) {
	db, err := Open(path, Options{FlushEvery: -1, OnFatal: func(err error) { m.t.Errorf("fatal: %v", err) }})
	if err != nil {
		m.t.Fatalf("Open: %v", err)
	}
	db.saveLive = m.live
	m.db = db
}

func (m *machine) newPath() string {
	m.files++
	return filepath.Join(m.dir, fmt.Sprintf("state-%d.db", m.files))
}

var (
	genMetric = rapid.SampledFrom([]string{"latency_us", `latency_us{route="/cart"}`, "size"})
	genNode   = rapid.SampledFrom([]string{"a", "b", "c", "node-1", "node-2", "ü"})
	genStart  = rapid.Custom(func(t *rapid.T) int64 {
		return rapid.SampledFrom([]int64{-20, 0, 1_000_000}).Draw(t, "era") + 10*rapid.Int64Range(0, 5).Draw(t, "bucket")
	})
	genValues = rapid.SliceOfN(rapid.Int64Range(-1000, 100_000), 1, 5)
)

// append puts an entry into the log and applies it.
func (m *machine) append(e *Entry) []Outcome {
	m.model.index += rapid.Uint64Range(1, 3).Draw(m.t, "gap")
	m.model.clockMs += rapid.Int64Range(-500, 5000).Draw(m.t, "clock")
	e.Index, e.Term, e.ClockMs = m.model.index, 1, m.model.clockMs
	m.model.entries = append(m.model.entries, e)
	out, err := m.db.Apply(e)
	if err != nil {
		m.t.Fatalf("Apply(%d): %v", e.Index, err)
	}
	return out
}

// apply applies one entry of random batches: new ones, in and out of order, far
// ahead, retries and conflicts.
func (m *machine) apply() {
	e := &Entry{Kind: KindBatches}
	var want []Status
	for range rapid.IntRange(1, 3).Draw(m.t, "batches") {
		id := rapid.IntRange(0, 2).Draw(m.t, "producer")
		seq := rapid.OneOf(rapid.Uint64Range(1, 12), rapid.Uint64Range(1, 80)).Draw(m.t, "seq")
		old, known := m.model.settled[producerID(id)][seq]
		b := old
		var values [][]int64
		if !known || rapid.IntRange(0, 3).Draw(m.t, "retry") == 0 {
			var deltas []Delta
			for range rapid.IntRange(0, 4).Draw(m.t, "deltas") {
				vs := genValues.Draw(m.t, "values")
				values = append(values, vs)
				deltas = append(deltas, newDelta(genMetric.Draw(m.t, "metric"), genNode.Draw(m.t, "node"), genStart.Draw(m.t, "start"), vs...))
			}
			b = batch(id, seq, m.model.clockMs, deltas...)
		}
		status := m.model.expect(b)
		if status == Applied {
			m.model.apply(b, values)
		}
		e.Batches, want = append(e.Batches, b), append(want, status)
	}
	out := m.append(e)
	for i, o := range out {
		if o.Status != want[i] {
			m.t.Fatalf("batch %d of producer %v: %v, want %v", e.Batches[i].Seq, e.Batches[i].Producer, o.Status, want[i])
		}
	}
}

func (m *machine) flush() {
	if rapid.Bool().Draw(m.t, "busy") {
		m.db.onFrozen = func() { // the head is frozen, the next one is being filled
			m.apply()
			m.query()
		}
	}
	if err := m.db.Flush(context.Background()); err != nil {
		m.t.Fatalf("Flush: %v", err)
	}
	m.db.onFrozen = nil
}

// crash goes on with the file as it is on disk, and replays the log.
func (m *machine) crash() {
	path := m.newPath()
	copyFile(m.t, m.db.path, path)
	if err := m.db.Kill(); err != nil {
		m.t.Fatalf("Kill: %v", err)
	}
	m.open(path)
	f, _ := m.db.FlushedState()
	// Raft may hand over entries that the file holds.
	from := f.Index
	if from > 0 {
		from -= rapid.Uint64Range(0, from).Draw(m.t, "overlap")
	}
	for _, e := range m.model.entries {
		if e.Index <= from {
			continue
		}
		out, err := m.db.Apply(e)
		if err != nil {
			m.t.Fatalf("replay %d: %v", e.Index, err)
		}
		if e.Index <= f.Index && out != nil {
			m.t.Fatalf("replay %d: outcomes for an entry that the file holds, up to %d", e.Index, f.Index)
		}
	}
}

// restart closes, which flushes, and opens.
func (m *machine) restart() {
	if err := m.db.Close(); err != nil {
		m.t.Fatalf("Close: %v", err)
	}
	m.open(m.db.path)
	if i, _ := m.db.Applied(); i != m.model.index {
		m.t.Fatalf("after a restart index %d is applied, want %d", i, m.model.index)
	}
}

// install streams the file into a new one, which replaces the DB's own.
func (m *machine) install() {
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
	if f, err := VerifyFile(path); err != nil {
		m.t.Fatalf("VerifyFile: %v", err)
	} else if f.Index == 0 {
		return // nothing was flushed: a file that belongs to no cluster
	}
	if err := m.db.Replace(path); err != nil {
		m.t.Fatalf("Replace: %v", err)
	}
	applied, _ := m.db.Applied()
	for _, e := range m.model.entries {
		if e.Index > applied {
			if _, err := m.db.Apply(e); err != nil {
				m.t.Fatalf("replay %d: %v", e.Index, err)
			}
		}
	}
}

// query asks a random question and compares with sketches made from scratch.
func (m *machine) query() {
	q := window.Query{Metric: window.Metric(genMetric.Draw(m.t, "metric"))}
	if rapid.Bool().Draw(m.t, "bounded") {
		from := genStart.Draw(m.t, "from") + rapid.Int64Range(-5, 5).Draw(m.t, "offset")
		q.Span = window.Between(time.Unix(from, 0), time.Unix(from+rapid.Int64Range(1, 100).Draw(m.t, "length"), 0))
	}
	q.Nodes = rapid.SampledFrom([][]string{nil, {"a"}, {"node-*"}, {"a", "ü", "nobody"}, {"*"}, {"[abc]"}}).Draw(m.t, "nodes")
	q.ByNode = rapid.Bool().Draw(m.t, "by node")
	q.Step = time.Duration(rapid.SampledFrom([]int64{0, 0, 10, 30}).Draw(m.t, "step")) * time.Second
	q.Quantiles = []float64{0.5, 0, 0.9, 1}
	q, err := q.Check(epoch, window.TenSeconds)
	if err != nil {
		m.t.Fatalf("Check: %v", err)
	}
	got, err := m.db.Query(context.Background(), q)
	want, wantErr := m.model.answer(q)
	if !errors.Is(err, wantErr) {
		m.t.Fatalf("Query(%+v): %v, want %v", q, err, wantErr)
	}
	if err != nil {
		return
	}
	if got.AppliedIndex != m.model.index {
		m.t.Fatalf("Query: index %d, want %d", got.AppliedIndex, m.model.index)
	}
	got.AppliedIndex = 0
	if len(got.Results) == 0 {
		got.Results, want.Results = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		m.t.Fatalf("Query(%+v)\n got %+v\nwant %+v", q, got, want)
	}
}

// answer computes the answer from the values.
func (m *model) answer(q window.Query) (window.Answer, error) {
	a := window.Answer{Metric: q.Metric, Asked: q.Span, Span: q.Span.Outward(10), Read: q.Read}
	match, err := window.CompileNodes(q.Nodes)
	if err != nil {
		return a, err
	}
	type point struct {
		node string
		from int64
	}
	type part struct {
		sketch *sketch.Sketch
		nodes  map[string]bool
		start  int64
	}
	parts := make(map[point]*part)
	buckets := make(map[rowID]bool)
	known := false
	var covered window.Span
	for id, values := range m.rows {
		if id.metric != string(q.Metric) {
			continue
		}
		known = true
		if !a.Span.Contains(id.start) || !match.Match(id.node) {
			continue
		}
		if len(buckets) == 0 {
			covered = window.Span{From: id.start, To: id.start + 10}
		}
		covered = window.Span{From: min(covered.From, id.start), To: max(covered.To, id.start+10)}
		key := point{node: window.AllNodes, from: q.Point(id.start, a.Span).From}
		bucket := id
		if q.ByNode {
			key.node = id.node
		} else if match.All() {
			bucket.node = window.AllNodes // the fleet's rows are merged, not the nodes'
		}
		buckets[bucket] = true
		p := parts[key]
		if p == nil {
			p = &part{sketch: sketch.New(testPrecision), nodes: make(map[string]bool), start: id.start}
			parts[key] = p
		}
		p.nodes[id.node] = true
		for _, v := range values {
			p.sketch.AddInt(v)
		}
	}
	if !known {
		return a, window.ErrUnknownMetric
	}
	if q.Span.IsAll() {
		a.Span = covered
	}
	a.BucketsMerged = len(buckets)
	for key, p := range parts {
		r := window.Result{
			Node: key.node, Span: q.Point(p.start, a.Span), Count: p.sketch.Count(),
			Min: p.sketch.Min(), Max: p.sketch.Max(), Nodes: len(p.nodes),
		}
		for _, f := range q.Quantiles {
			r.Estimates = append(r.Estimates, window.QuantileEstimate{Q: f, Estimate: p.sketch.Quantile(f)})
		}
		a.Results = append(a.Results, r)
	}
	slices.SortFunc(a.Results, func(x, y window.Result) int {
		return strings.Compare(fmt.Sprintf("%s/%020d", x.Node, x.Span.From+1<<40), fmt.Sprintf("%s/%020d", y.Node, y.Span.From+1<<40))
	})
	return a, nil
}

// check compares everything: every row byte for byte, listings and producers.
func (m *machine) check() {
	m.checkRows()
	m.checkLists()
	got := make(map[ProducerID]ProducerState)
	m.db.Producers(func(id ProducerID, s ProducerState) { got[id] = s })
	for id, settled := range m.model.settled {
		s := got[id]
		numbers := slices.Sorted(maps.Keys(settled))
		if want := append(upTo(s.Low), s.Ahead...); !slices.Equal(numbers, want) {
			m.t.Fatalf("producer %v settled %v, want %v", id, want, numbers)
		}
	}
}

func upTo(n uint64) []uint64 {
	numbers := make([]uint64, n)
	for i := range numbers {
		numbers[i] = uint64(i) + 1
	}
	return numbers
}

func (m *machine) checkRows() {
	want := make(map[rowID][]int64)
	nodes := make(map[rowID]map[string]bool)
	for id, values := range m.model.rows {
		want[id] = values
		fleet := rowID{id.metric, window.AllNodes, id.start}
		want[fleet] = append(want[fleet], values...)
		if nodes[fleet] == nil {
			nodes[fleet] = make(map[string]bool)
		}
		nodes[fleet][id.node] = true
	}
	got := make(map[rowID]bool)
	var wrong string
	index, err := m.db.Walk(context.Background(), func(r Row) error {
		id := rowID{string(r.Metric), r.Node, r.Bucket.Start}
		if b := encode(want[id]...); string(b) != string(r.Sketch) || r.Bucket.Width != 10 || got[id] {
			wrong = fmt.Sprintf("%v: %x, want the sketch of %v, once", id, r.Sketch, want[id])
		}
		if sorted := slices.Sorted(slices.Values(r.Nodes)); !slices.Equal(sorted, slices.Sorted(maps.Keys(nodes[id]))) {
			wrong = fmt.Sprintf("%v: nodes %v, want %v", id, sorted, nodes[id])
		}
		got[id] = true
		return nil
	})
	switch {
	case err != nil:
		m.t.Fatalf("Walk: %v", err)
	case wrong != "":
		m.t.Fatalf("Walk: %s", wrong)
	case len(got) != len(want):
		m.t.Fatalf("Walk: %d rows, want %d", len(got), len(want))
	case index != m.model.index:
		m.t.Fatalf("Walk: index %d, want %d", index, m.model.index)
	}
}

func (m *machine) checkLists() {
	type sums struct {
		counters
		nodes   map[string]*counters
		buckets map[int64]bool
	}
	want := make(map[string]*sums)
	for id, values := range m.model.rows {
		s := want[id.metric]
		if s == nil {
			s = &sums{nodes: make(map[string]*counters), buckets: make(map[int64]bool)}
			want[id.metric] = s
		}
		s.add(uint64(len(values)), id.start, s.buckets[id.start])
		s.buckets[id.start] = true
		if s.nodes[id.node] == nil {
			s.nodes[id.node] = new(counters)
		}
		s.nodes[id.node].add(uint64(len(values)), id.start, false)
	}
	infos, _, err := m.db.Metrics(context.Background())
	if err != nil || len(infos) != len(want) {
		m.t.Fatalf("Metrics: %v, %v, want %d", infos, err, len(want))
	}
	for _, i := range infos {
		s := want[string(i.Metric)]
		if w := (MetricInfo{i.Metric, len(s.nodes), s.count, s.span(10), s.counters.buckets}); i != w {
			m.t.Fatalf("Metrics: %+v, want %+v", i, w)
		}
		nodes, _, err := m.db.Nodes(context.Background(), i.Metric)
		if err != nil || len(nodes) != len(s.nodes) {
			m.t.Fatalf("Nodes(%s): %v, %v, want %d", i.Metric, nodes, err, len(s.nodes))
		}
		for _, n := range nodes {
			c := s.nodes[n.Node]
			if w := (NodeInfo{n.Node, c.count, c.span(10), c.buckets}); n != w {
				m.t.Fatalf("Nodes(%s): %+v, want %+v", i.Metric, n, w)
			}
		}
	}
}

// run checks random interleavings of everything.
func (m *machine) run() {
	m.open(m.newPath())
	defer func() { _ = m.db.Kill() }()
	m.append(&Entry{Kind: KindInit, Cluster: testCluster()})
	m.t.Repeat(map[string]func(*rapid.T){
		"apply":   func(*rapid.T) { m.apply() },
		"more":    func(*rapid.T) { m.apply() },
		"tick":    func(*rapid.T) { m.append(&Entry{Kind: KindTick}) },
		"flush":   func(*rapid.T) { m.flush() },
		"crash":   func(*rapid.T) { m.crash() },
		"restart": func(*rapid.T) { m.restart() },
		"install": func(*rapid.T) { m.install() },
		"query":   func(*rapid.T) { m.query() },
		"":        func(*rapid.T) {},
	})
	m.check()
	m.checkHash()
}

// checkHash compares with a store that applied the same log and never flushed.
func (m *machine) checkHash() {
	other := &machine{t: m.t, dir: m.dir, model: m.model, files: 1_000_000}
	other.open(other.newPath())
	defer func() { _ = other.db.Kill() }()
	for _, e := range m.model.entries {
		if _, err := other.db.Apply(e); err != nil {
			m.t.Fatal(err)
		}
	}
	a, i, err := m.db.Hash(context.Background())
	b, j, err2 := other.db.Hash(context.Background())
	if err != nil || err2 != nil || a != b || i != j {
		m.t.Fatalf("Hash = %x at %d (%v), want that of the log alone, %x at %d (%v)", a, i, err, b, j, err2)
	}
}

func TestModel_AnyInterleaving(t *testing.T) {
	dir := t.TempDir()
	files := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{t: rt, dir: dir, model: newModel(), files: files}
		defer func() { files = m.files }()
		m.run()
	})
}
