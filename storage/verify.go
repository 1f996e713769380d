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
	v := verifier{tx: tx, loaded: &l, series: make(map[seriesKey]*counters),
		metrics: make(map[uint32]*metricRow), nodes: make(map[uint32]uint32)}
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
	series  map[seriesKey]*counters // of the base tier's node rows
	metrics map[uint32]*metricRow   // of the base tier's fleet rows
	nodes   map[uint32]uint32       // series by metric

	// of the tier at hand
	tier         int
	width        window.Width
	fleet, node  int64            // from when on it has rows
	ends         map[uint32]chain // of the metrics' fleet rows
	fleets, sums uint64           // values of its fleet rows that have node rows, and of those
	rest         []uint32         // nodes of the bucket at hand that are still to come
	sum          uint64           // values of its nodes so far
	at           nodeKey          // the bucket
	want         uint64           // values of its fleet row
}

func (v *verifier) tables() error {
	for tier := range v.cluster.Tiers {
		v.tier, v.width = tier, v.cluster.Tiers[tier].Width
		v.fleet, v.node = v.state.dropped(true)[tier], v.state.dropped(false)[tier]
		v.ends = make(map[uint32]chain)
		v.fleets, v.sums, v.rest, v.sum, v.want = 0, 0, v.rest[:0], 0, 0
		if err := v.each(fleetTable(v.width), v.fleetRow); err != nil {
			return err
		}
		if err := v.each(nodeTable(v.width), v.nodeRow); err != nil {
			return err
		}
		if err := v.endBucket(); err != nil {
			return err
		}
		if v.fleets != v.sums {
			return &DamagedError{nodeTable(v.width), "all", fmt.Errorf("rows of %d values, the fleet rows have %d", v.sums, v.fleets)}
		}
		if err := v.endTier(); err != nil {
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

// endTier checks the ends of the chains, and that a tier holds as many values as
// the finer rows that it was rolled up from.
func (v *verifier) endTier() error {
	table := fleetTable(v.width)
	for n := range v.state.metrics {
		row, err := readMetricRow(v.tx, n)
		if err != nil {
			return err
		}
		want, got := row.chain(v.tier), v.ends[n]
		if got.some && (!want.some || got.last != want.last) || !got.some && want.some && want.last >= v.fleet {
			return &DamagedError{table, fmt.Sprintf("metric %q", row.name), errors.New("the rows behind the last one are missing")}
		}
		if v.tier == 0 {
			continue
		}
		finer := v.tier - 1
		from, to := v.state.dropped(true)[finer], v.state.sealed[v.tier]
		coarse, err := v.values(v.tier, n, from, to)
		if err != nil {
			return err
		}
		fine, err := v.values(finer, n, from, to)
		if err != nil {
			return err
		}
		if coarse != fine {
			return &DamagedError{table, fmt.Sprintf("metric %q", row.name), fmt.Errorf("%d values, the finer tier has %d", coarse, fine)}
		}
	}
	return nil
}

// values adds up the fleet rows of a metric in [from, to), which each and
// fleetRow have checked.
func (v *verifier) values(tier int, metric uint32, from, to int64) (sum uint64, err error) {
	t := v.tx.Bucket([]byte(fleetTable(v.cluster.Tiers[tier].Width)))
	if t == nil {
		return 0, nil
	}
	c := t.Cursor()
	table := fleetTable(v.cluster.Tiers[tier].Width)
	for key, value := c.Seek(fleetKey{metric, from}.append(nil)); key != nil; key, value = c.Next() {
		k, err := parseFleetKey(key)
		if err != nil || k.metric != metric || k.start >= to {
			return sum, err
		}
		row, err := parseFleetRow(table, key, value)
		if err != nil {
			return 0, err
		}
		count, err := v.header(row.sketch)
		if err != nil {
			return 0, err
		}
		sum += count
	}
	return sum, nil
}

// each calls fn for every record of a table.
func (v *verifier) each(table string, fn func(table string, key, value []byte) error) error {
	t := v.tx.Bucket([]byte(table))
	if t == nil {
		return nil
	}
	return t.ForEach(func(key, value []byte) error {
		if err := fn(table, key, value); err != nil {
			return &DamagedError{table, fmt.Sprintf("key %s%s", keyText(key), v.describe(table, key)), err}
		}
		return nil
	})
}

// keyText writes a key for people. A damaged page may claim one of a gigabyte.
func keyText(key []byte) string {
	if len(key) > maxKeyText {
		return fmt.Sprintf("%x… of %d bytes", key[:maxKeyText], len(key))
	}
	return fmt.Sprintf("%x", key)
}

// maxKeyText is longer than any key that is not damaged.
const maxKeyText = 32

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
	return ": " + rowName(v.names.metrics[metric].name, id, window.Bucket{Start: start, Width: v.width})
}

func (v *verifier) checkBucket(metric uint32, start int64) error {
	if metric >= v.state.metrics || start+int64(v.width) <= window.MinTime || start >= window.MaxTime || v.width.Floor(start) != start {
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
	if k.start < v.fleet {
		return nil // expired, and to be dropped
	}
	ends := v.ends[k.metric]
	before, ok := row.before(k.start, v.width)
	if ends.some && (!ok || before != ends.last) || !ends.some && ok && before >= v.fleet {
		return errChain
	}
	ends.extend(k.start)
	v.ends[k.metric] = ends
	if k.start >= v.node {
		v.fleets += count
	}
	if v.tier > 0 {
		return nil
	}
	m := v.metrics[k.metric]
	if m == nil {
		m = &metricRow{name: v.names.metrics[k.metric].name}
		v.metrics[k.metric] = m
	}
	m.add(count, k.start, false)
	return nil
}

func (v *verifier) nodeRow(table string, key, value []byte) error {
	k, err := parseNodeKey(key)
	if err != nil {
		return err
	}
	if k.start < v.node {
		_, err := v.header(value)
		return err // expired, and to be dropped
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
	v.sums += count
	if v.tier > 0 {
		return nil
	}
	s := v.series[seriesKey{k.metric, k.node}]
	if s == nil {
		s = new(counters)
		v.series[seriesKey{k.metric, k.node}] = s
	}
	s.add(count, k.start, false)
	return nil
}

// beginBucket looks up which nodes a bucket must have.
func (v *verifier) beginBucket(k nodeKey) error {
	if err := v.checkBucket(k.metric, k.start); err != nil {
		return err
	}
	table := fleetTable(v.width)
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

// everything reports whether the base tier has all that was ever counted.
func (v *verifier) everything() bool {
	return len(v.cluster.Tiers) > 0 && v.state.kept.node[0] == window.MinTime && v.state.kept.fleet[0] == window.MinTime
}

// checkCounters compares counters with those of the rows that are left, nil for
// none.
func (v *verifier) checkCounters(c counters, rows *counters) error {
	switch {
	case rows == nil && v.everything(), rows != nil && v.everything() && *rows != c:
	case rows != nil && (rows.count > c.count || rows.first < c.first || rows.last > c.last):
	default:
		return nil
	}
	return errors.New("the counters are not those of the rows")
}

func (v *verifier) seriesRow(_ string, key, value []byte) error {
	k, c, err := parseSeries(key, value, v.state.nodes)
	if err != nil {
		return err
	}
	if err := v.checkCounters(c, v.series[k]); err != nil {
		return err
	}
	delete(v.series, k)
	v.nodes[k.metric]++
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
	n := binary.BigEndian.Uint32(key)
	var rows *counters
	if m := v.metrics[n]; m != nil {
		rows = &m.counters
	}
	if row.nodes != v.nodes[n] {
		return fmt.Errorf("%d series, %d are right", v.nodes[n], row.nodes)
	}
	return v.checkCounters(row.counters, rows)
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
