package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// VerifyFile reads a whole file that nobody else writes, and returns what it
// holds. It checks the structure of the pages, every checksum, that keys name
// something, that each bucket has the node rows which its fleet row counts, and
// that the counters are those of the rows.
func VerifyFile(path string) (FlushedState, error) {
	var f FlushedState
	err := guarded(func() error {
		// Without this bbolt would make a missing or empty file into a database.
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() == 0 {
			return errors.New("not a file with content")
		}
		b, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
		if err != nil {
			return err
		}
		err = guarded(func() error { // so that a panic, too, is followed by Close
			return b.View(func(tx *bbolt.Tx) error {
				if info.Size() < tx.Size() {
					return fmt.Errorf("cut off: %d bytes of %d", info.Size(), tx.Size())
				}
				f, err = verify(tx)
				return err
			})
		})
		return errors.Join(err, b.Close())
	})
	if err != nil {
		return FlushedState{}, fmt.Errorf("verify %s: %w", path, err)
	}
	return f, nil
}

// verify checks the content first: it touches every page in use under guarded,
// where bbolt's own check runs on a goroutine that a fault would end the process
// in.
func verify(tx *bbolt.Tx) (FlushedState, error) {
	var l loaded
	if err := l.read(tx); err != nil {
		return FlushedState{}, err
	}
	f, err := flushed(tx)
	if err != nil {
		return FlushedState{}, err
	}
	v := verifier{tx: tx, loaded: &l, series: make(map[seriesKey]*counters), metrics: make(map[uint32]*metricRow)}
	if err := v.tables(); err != nil {
		return FlushedState{}, err
	}
	var structure []error
	for err := range tx.Check() {
		structure = append(structure, err)
	}
	if len(structure) > 0 {
		return FlushedState{}, fmt.Errorf("page structure: %d errors, first %w", len(structure), structure[0])
	}
	return f, nil
}

type verifier struct {
	*loaded
	tx      *bbolt.Tx
	series  map[seriesKey]*counters // of the node rows
	metrics map[uint32]*metricRow   // of the fleet rows
	rest    []uint32                // nodes of the bucket at hand that are still to come
	sum     uint64                  // values of its nodes so far
	at      nodeKey                 // the bucket
	want    uint64                  // values of its fleet row
}

func (v *verifier) tables() error {
	if v.cluster.ID != "" {
		base := v.cluster.Tiers.Base()
		if err := v.each(fleetTable(base), v.fleetRow); err != nil {
			return err
		}
		if err := v.each(nodeTable(base), v.nodeRow); err != nil {
			return err
		}
		if err := v.endBucket(); err != nil {
			return err
		}
	}
	if err := v.each(tableSeries, v.seriesRow); err != nil {
		return err
	}
	if len(v.series) > 0 {
		return &DamagedError{tableSeries, "counters", fmt.Errorf("%d series have rows and no counters", len(v.series))}
	}
	if err := v.each(tableMetrics, v.metricRow); err != nil {
		return err
	}
	return v.others()
}

// each calls fn for every record of a table.
func (v *verifier) each(table string, fn func(table string, key, value []byte) error) error {
	t := v.tx.Bucket([]byte(table))
	if t == nil {
		return nil
	}
	return t.ForEach(func(key, value []byte) error {
		if err := fn(table, key, value); err != nil {
			return &DamagedError{table, fmt.Sprintf("key %x%s", key, v.describe(table, key)), err}
		}
		return nil
	})
}

// describe names the row of a key in words, where its numbers name something.
func (v *verifier) describe(table string, key []byte) string {
	var metric, node uint32
	var start int64
	id := window.AllNodes
	switch {
	case strings.HasPrefix(table, prefixFleet) && len(key) == fleetKeySize:
		k, _ := parseFleetKey(key) // the length is right
		metric, start = k.metric, k.start
	case strings.HasPrefix(table, prefixNodes) && len(key) == nodeKeySize:
		k, _ := parseNodeKey(key) // the length is right
		metric, node, start = k.metric, k.node, k.start
		if int(node) >= len(v.names.nodes) {
			return ""
		}
		id = v.names.nodes[node]
	default:
		return ""
	}
	if int(metric) >= len(v.names.metrics) {
		return ""
	}
	return ": " + rowName(v.names.metrics[metric].name, id, window.Bucket{Start: start, Width: v.cluster.Tiers.Base()})
}

func (v *verifier) checkBucket(metric uint32, start int64) error {
	base := v.cluster.Tiers.Base()
	if metric >= v.state.metrics || start < window.MinTime || start >= window.MaxTime || base.Floor(start) != start {
		return fmt.Errorf("metric %d at %d is no bucket", metric, start)
	}
	return nil
}

func (v *verifier) header(b []byte) (uint64, error) {
	h, err := sketch.ReadHeader(b)
	switch {
	case err != nil:
		return 0, err
	case h.Precision != v.cluster.Precision:
		return 0, sketch.ErrPrecision
	case h.Count == 0:
		return 0, errors.New("an empty sketch")
	}
	return h.Count, nil
}

func (v *verifier) fleetRow(table string, key, value []byte) error {
	k, err := parseFleetKey(key)
	if err != nil {
		return err
	}
	if err := v.checkBucket(k.metric, k.start); err != nil {
		return err
	}
	row, err := parseFleetRow(table, key, value)
	if err != nil {
		return err
	}
	if _, err := checkNodeSet(row.set, v.state.nodes); err != nil {
		return err
	}
	count, err := v.header(row.sketch)
	if err != nil {
		return err
	}
	m := v.metrics[k.metric]
	if m == nil {
		m = &metricRow{name: v.names.metrics[k.metric].name}
		v.metrics[k.metric] = m
	}
	if before, ok := row.before(k.start, v.cluster.Tiers.Base()); ok != (m.count > 0) || ok && before != m.last {
		return errChain
	}
	m.add(count, k.start, false)
	return nil
}

func (v *verifier) nodeRow(table string, key, value []byte) error {
	k, err := parseNodeKey(key)
	if err != nil {
		return err
	}
	if k.start != v.at.start || k.metric != v.at.metric || v.want == 0 {
		if err := v.endBucket(); err != nil {
			return err
		}
		if err := v.beginBucket(k); err != nil {
			return err
		}
	}
	if len(v.rest) == 0 || v.rest[0] != k.node {
		return fmt.Errorf("node %d is not the next one that the fleet row counts", k.node)
	}
	v.rest = v.rest[1:]
	count, err := v.header(value)
	if err != nil {
		return err
	}
	v.sum += count
	s := v.series[seriesKey{k.metric, k.node}]
	if s == nil {
		s = new(counters)
		v.series[seriesKey{k.metric, k.node}] = s
		v.metrics[k.metric].nodes++
	}
	s.add(count, k.start, false)
	return nil
}

// beginBucket looks up which nodes a bucket must have.
func (v *verifier) beginBucket(k nodeKey) error {
	if err := v.checkBucket(k.metric, k.start); err != nil {
		return err
	}
	table := fleetTable(v.cluster.Tiers.Base())
	key := fleetKey{k.metric, k.start}.append(nil)
	t := v.tx.Bucket([]byte(table))
	if t == nil || t.Get(key) == nil {
		return errors.New("the bucket has no fleet row")
	}
	row, err := parseFleetRow(table, key, t.Get(key))
	if err != nil {
		return err
	}
	if v.rest, err = appendNumbers(v.rest[:0], row.set, v.state.nodes); err != nil {
		return err
	}
	v.want, err = v.header(row.sketch)
	v.at, v.sum = k, 0
	return err
}

func (v *verifier) endBucket() error {
	if len(v.rest) > 0 {
		return fmt.Errorf("the row of node %d is missing", v.rest[0])
	}
	if v.sum != v.want {
		return fmt.Errorf("the nodes of a bucket hold %d values, its fleet row %d", v.sum, v.want)
	}
	return nil
}

func (v *verifier) seriesRow(_ string, key, value []byte) error {
	k, c, err := parseSeries(key, value, v.state.nodes)
	if err != nil {
		return err
	}
	if rows := v.series[k]; rows == nil || *rows != c {
		return errors.New("the counters are not those of the rows")
	}
	delete(v.series, k)
	return nil
}

func (v *verifier) metricRow(table string, key, value []byte) error {
	if len(key) != 4 {
		return fmt.Errorf("a key of %d bytes", len(key))
	}
	payload, err := unseal(table, key, value)
	if err != nil {
		return err
	}
	row, err := parseMetricRow(payload)
	if err != nil {
		return err
	}
	if rows := v.metrics[binary.BigEndian.Uint32(key)]; rows == nil || *rows != row {
		return errors.New("the counters are not those of the rows")
	}
	return nil
}

// others looks for tables and records that nothing explains.
func (v *verifier) others() error {
	want := map[string]uint32{tableMetrics: v.state.metrics, tableNodes: v.state.nodes, tableProducers: 1}
	known := map[string]bool{tableMeta: true, tableSeries: true}
	for _, t := range v.cluster.Tiers {
		known[nodeTable(t.Width)], known[fleetTable(t.Width)] = true, true
	}
	return v.tx.ForEach(func(name []byte, t *bbolt.Bucket) error {
		n, counted := want[string(name)]
		if !counted && !known[string(name)] {
			return fmt.Errorf("table %q is not known", name)
		}
		if counted && uint32(t.Stats().KeyN) != n {
			return &DamagedError{string(name), "all", fmt.Errorf("%d records, %d are right", t.Stats().KeyN, n)}
		}
		return nil
	})
}
