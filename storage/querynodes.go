package storage

import (
	"bytes"
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
)

// selection returns the numbers of the chosen nodes that have the metric,
// ascending.
func (s *search) selection() ([]uint32, error) {
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
	return numbers
}

// gatherer finds the rows of some nodes, bucket by bucket.
type gatherer struct {
	*search
	selected []uint32
	cursor   *bbolt.Cursor // nil when the file has no node rows
	take     func(at int, start int64, sketch []byte) error

	stored []uint32
	seen   []int64 // by node: serial of the bucket that was counted last
	serial int64
	key    []byte
}

func (s *search) gatherer(selected []uint32, take func(at int, start int64, sketch []byte) error) *gatherer {
	g := &gatherer{search: s, selected: selected, take: take, seen: make([]int64, len(selected))}
	if t := s.table(nodeTable(s.base)); t != nil {
		g.cursor = t.Cursor()
	}
	return g
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
				if err := g.found(at, src.start, d.sketch); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// found takes a sketch, and counts its row the first time.
func (g *gatherer) found(at int, start int64, sketch []byte) error {
	if g.seen[at] != g.serial {
		g.seen[at] = g.serial
		g.merged++
		g.cover(start)
	}
	if err := g.tick(); err != nil {
		return err
	}
	return g.take(at, start, sketch)
}

func (g *gatherer) fromFile(src source) error {
	var err error
	g.stored, err = appendNumbers(g.stored[:0], src.row.set, uint32(len(g.nodes)))
	if err != nil {
		return g.damaged(fleetTable(g.base), window.AllNodes, src.start, err)
	}
	table := nodeTable(g.base)
	var key, value []byte
	stored := g.stored
	for at, node := range g.selected {
		i, ok := slices.BinarySearch(stored, node)
		if stored = stored[i:]; !ok {
			continue
		}
		want := nodeKey{src.start, g.metric.number, node}
		g.key = want.append(g.key[:0])
		if key, value = g.seek(key, value); !bytes.Equal(key, g.key) {
			return g.damaged(table, g.nodes[node], src.start, errMissing)
		}
		if err := g.found(at, src.start, value); err != nil {
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

// together answers for the chosen nodes as one.
func (s *search) together() error {
	selected, err := s.selection()
	if err != nil || len(selected) == 0 {
		return err
	}
	var nodes nodeBits
	var at, start int64
	g := s.gatherer(selected, func(i int, t int64, sketch []byte) error {
		if p := s.point(t); s.steps == 0 || p != at {
			if err := s.emit(window.AllNodes, start, nodes.count); err != nil {
				return err
			}
			nodes.reset()
			at = p
			if err := s.countStep(); err != nil {
				return err
			}
		}
		start = t
		nodes.add(selected[i])
		if err := s.acc.MergeBinary(sketch); err != nil {
			return s.damaged(nodeTable(s.base), s.nodes[selected[i]], t, err)
		}
		return nil
	})
	if err := s.sources(g.bucket); err != nil {
		return err
	}
	return s.emit(window.AllNodes, start, nodes.count)
}

// byNode answers for each chosen node. It gathers the rows of many nodes in the
// order in which they are stored, and merges node by node.
func (s *search) byNode() error {
	selected, err := s.selection()
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(selected, nodesAtOnce) {
		s.steps = 0
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
	at       int64    // the step they belong to
	start    int64    // of the last one
}

type gathered struct {
	start  int64
	sketch []byte
}

func (m *nodeMerger) take(i int, start int64, sketch []byte) error {
	if p := m.point(start); m.steps == 0 || p != m.at {
		if err := m.emit(); err != nil {
			return err
		}
		m.at = p
		if err := m.countStep(); err != nil {
			return err
		}
	}
	m.start = start
	m.rows[i] = append(m.rows[i], gathered{start, sketch})
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
			return m.damaged(nodeTable(m.base), m.nodes[m.selected[i]], g.start, err)
		}
		if err := m.tick(); err != nil {
			return err
		}
	}
	m.rows[i] = m.rows[i][:0]
	return nil
}

// emit ends a step: one result per node that has rows.
func (m *nodeMerger) emit() error {
	for i, node := range m.selected {
		if len(m.rows[i]) == 0 && len(m.partial[i]) == 0 {
			continue
		}
		if err := m.merge(i); err != nil {
			return err
		}
		m.partial[i] = m.partial[i][:0]
		if err := m.search.emit(m.nodes[node], m.start, 1); err != nil {
			return err
		}
	}
	m.size = 0
	return nil
}
