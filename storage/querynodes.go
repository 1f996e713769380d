package storage

import (
	"bytes"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/window"
)

const (
	// nodesAtOnce is how many nodes are gathered in one walk over the span. More
	// means fewer walks and more memory.
	nodesAtOnce = 2048

	// gatherAtOnce is how many rows are gathered before they are merged. The
	// gathered ones are slices of the file's mapping, 24 bytes each.
	gatherAtOnce = 1 << 16

	// stepOver is how many rows of other nodes are stepped over before seeking is
	// the shorter way.
	stepOver = 8

	// fewNodes are looked up one by one in the node set of a bucket, without the
	// list of all its nodes.
	fewNodes = 8
)

// selection returns the numbers of the chosen nodes that may have the metric,
// ascending; none for the fleet, whose rows stand for all.
func (s *search) selection() ([]uint32, error) {
	if s.fleet {
		return nil, nil
	}
	if ids, ok := s.matcher.Exact(); ok {
		return s.lookUp(ids), nil
	}
	var numbers []uint32
	err := s.eachSeries(s.ctx, s.metric, func(node uint32, _ counters) { numbers = append(numbers, node) })
	if err != nil {
		return nil, err
	}
	var fresh nodeBits
	for _, cell := range s.cells {
		for _, d := range cell.deltas {
			fresh.add(d.node)
		}
	}
	numbers = fresh.appendTo(numbers)
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	return slices.DeleteFunc(numbers, func(n uint32) bool { return !s.matcher.Match(s.nodes[n]) }), nil
}

// lookUp returns the numbers of ids, without those that this view does not have.
func (s *search) lookUp(ids []string) []uint32 {
	var numbers []uint32
	s.db.mu.RLock()
	defer s.db.mu.RUnlock()
	for _, id := range ids {
		if n, ok := s.db.names.nodeNumbers[id]; ok && int(n) < len(s.nodes) && s.nodes[n] == id {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// extent adds up the counters that the file has for the selected nodes.
func (s *search) extent(selected []uint32, all *counters) error {
	add := func(c counters) {
		all.add(c.count, c.first, true)
		all.add(0, c.last, true)
	}
	if len(selected) > fewNodes {
		return s.eachSeries(s.ctx, s.metric, func(node uint32, c counters) {
			if _, ok := slices.BinarySearch(selected, node); ok {
				add(c)
			}
		})
	}
	t := s.table(tableSeries)
	for _, node := range selected {
		key := seriesKey{s.metric.number, node}.append(nil)
		value := t.Get(key)
		if value == nil {
			continue
		}
		_, c, err := parseSeries(key, value, uint32(len(s.nodes)))
		if err != nil {
			return &DamagedError{tableSeries, fmt.Sprintf("metric %q, node %q", s.metric.name, s.nodes[node]), err}
		}
		add(c)
	}
	return nil
}

// gatherer finds the rows of some nodes, bucket by bucket.
type gatherer struct {
	*search
	selected []uint32
	take     func(at int, b window.Bucket, sketch []byte) error

	tier   int // of cursor
	cursor *bbolt.Cursor

	stored []uint32
	seen   []int64 // by node: serial of the bucket that was counted last
	serial int64
	key    []byte
}

func (s *search) gatherer(selected []uint32, take func(at int, b window.Bucket, sketch []byte) error) *gatherer {
	return &gatherer{search: s, selected: selected, take: take, seen: make([]int64, len(selected))}
}

// bucket takes the rows of one bucket: from the file those of its node set that
// are selected, each of which must be there, then the head's.
func (g *gatherer) bucket(src source) error {
	g.serial++
	if src.row.sketch != nil {
		if err := g.fromFile(src); err != nil {
			return err
		}
	}
	for _, c := range src.cells {
		for _, d := range c.deltas {
			if at, ok := slices.BinarySearch(g.selected, d.node); ok {
				if err := g.found(at, src.Bucket, d.sketch); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// found takes a sketch, and counts its row the first time.
func (g *gatherer) found(at int, b window.Bucket, sketch []byte) error {
	if g.seen[at] != g.serial {
		g.seen[at] = g.serial
		g.merged++
	}
	if err := g.tick(); err != nil {
		return err
	}
	return g.take(at, b, sketch)
}

func (g *gatherer) fromFile(src source) error {
	if g.cursor == nil || g.tier != src.tier {
		g.cursor, g.tier = nil, src.tier
		if t := g.table(nodeTable(src.Width)); t != nil {
			g.cursor = t.Cursor()
		}
	}
	var key, value []byte
	var err error
	few := len(g.selected) <= fewNodes
	if !few {
		if g.stored, err = appendNumbers(g.stored[:0], src.row.set, uint32(len(g.nodes))); err != nil {
			return g.damaged(fleetTable(src.Width), window.AllNodes, src.Bucket, err)
		}
	}
	stored := g.stored
	for at, node := range g.selected {
		var ok bool
		if few {
			ok, err = hasNumber(src.row.set, node)
		} else {
			var i int
			i, ok = slices.BinarySearch(stored, node)
			stored = stored[i:]
		}
		if err != nil {
			return g.damaged(fleetTable(src.Width), window.AllNodes, src.Bucket, err)
		}
		if !ok {
			continue
		}
		want := nodeKey{src.Start, g.metric.number, node}
		g.key = want.append(g.key[:0])
		if key, value = g.seek(key, value); !bytes.Equal(key, g.key) {
			return g.damaged(nodeTable(src.Width), g.nodes[node], src.Bucket, errMissing)
		}
		if err := g.found(at, src.Bucket, value); err != nil {
			return err
		}
	}
	return nil
}

// seek moves the cursor from where it is, at key, to g.key or behind it.
func (g *gatherer) seek(key, value []byte) ([]byte, []byte) {
	if g.cursor == nil {
		return nil, nil
	}
	for range stepOver {
		if key == nil {
			break
		}
		if bytes.Compare(key, g.key) >= 0 {
			return key, value
		}
		key, value = g.cursor.Next()
	}
	return g.cursor.Seek(g.key)
}

// nodeRows merges the rows of the chosen nodes.
func (s *search) nodeRows(selected []uint32) error {
	if len(selected) == 0 {
		return nil
	}
	g := s.gatherer(selected, func(i int, b window.Bucket, sketch []byte) error {
		if err := s.enter(b.Start, s.emitTogether); err != nil {
			return err
		}
		s.nodeSet.add(selected[i])
		if err := s.acc.MergeBinary(sketch); err != nil {
			return s.damaged(nodeTable(b.Width), s.nodes[selected[i]], b, err)
		}
		return nil
	})
	return s.sources(g.bucket)
}

// byNode answers for each chosen node. It gathers the rows of many nodes in the
// order in which they are stored, and merges node by node.
func (s *search) byNode(selected []uint32) error {
	for chunk := range slices.Chunk(selected, nodesAtOnce) {
		s.points, s.at = 0, window.Span{To: window.MinTime} // which holds no time
		m := &nodeMerger{search: s, selected: chunk, rows: make([][]gathered, len(chunk)), partial: make([][]byte, len(chunk))}
		g := s.gatherer(chunk, m.take)
		if err := s.sources(g.bucket); err != nil {
			return err
		}
		if err := m.emit(); err != nil {
			return err
		}
	}
	return nil
}

// nodeMerger merges gathered rows, a node at a time with one accumulator.
type nodeMerger struct {
	*search
	selected []uint32
	rows     [][]gathered
	partial  [][]byte // what was merged before, encoded
	size     int      // rows gathered
}

type gathered struct {
	window.Bucket
	sketch []byte
}

func (m *nodeMerger) take(i int, b window.Bucket, sketch []byte) error {
	if err := m.enter(b.Start, m.emit); err != nil {
		return err
	}
	m.rows[i] = append(m.rows[i], gathered{b, sketch})
	if m.size++; m.size < gatherAtOnce {
		return nil
	}
	return m.fold()
}

// fold merges what is gathered into the partial sketches.
func (m *nodeMerger) fold() error {
	for i := range m.rows {
		if len(m.rows[i]) == 0 {
			continue
		}
		if err := m.merge(i); err != nil {
			return err
		}
		var err error
		if m.partial[i], err = m.acc.AppendBinary(m.partial[i][:0]); err != nil {
			return err
		}
		m.acc.Reset(m.cluster.Precision)
	}
	m.size = 0
	return nil
}

// merge merges a node's partial sketch and rows into the accumulator.
func (m *nodeMerger) merge(i int) error {
	if len(m.partial[i]) > 0 {
		if err := m.acc.MergeBinary(m.partial[i]); err != nil {
			return err
		}
	}
	for _, g := range m.rows[i] {
		if err := m.acc.MergeBinary(g.sketch); err != nil {
			return m.damaged(nodeTable(g.Width), m.nodes[m.selected[i]], g.Bucket, err)
		}
		if err := m.tick(); err != nil {
			return err
		}
	}
	m.rows[i] = m.rows[i][:0]
	return nil
}

// emit ends a result: one per node that has rows.
func (m *nodeMerger) emit() error {
	for i, node := range m.selected {
		if len(m.rows[i]) == 0 && len(m.partial[i]) == 0 {
			continue
		}
		if err := m.merge(i); err != nil {
			return err
		}
		m.partial[i] = m.partial[i][:0]
		if err := m.search.emit(m.nodes[node], 1); err != nil {
			return err
		}
	}
	m.size = 0
	return nil
}
