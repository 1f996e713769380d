package storage

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/distributed-median-tracker/dmt/window"
)

// Metrics returns every metric that was ever counted, by name, and the index
// that the list shows. It reads counters and the head, no sketch.
func (db *DB) Metrics(ctx context.Context) ([]MetricInfo, uint64, error) {
	v, err := db.begin(nil, nil)
	if err != nil {
		return nil, 0, err
	}
	defer v.close()
	var infos []MetricInfo
	err = guarded(func() error {
		for n, m := range v.metrics {
			if err := v.alive(ctx); err != nil {
				return err
			}
			row, err := v.metricRow(m)
			if err != nil {
				return err
			}
			if row.count == 0 {
				continue // named by an entry after this view
			}
			infos = append(infos, MetricInfo{
				Metric: window.Metric(v.metrics[n].name), Nodes: int(row.nodes), Count: row.count,
				Span: row.span(v.cluster.Tiers.Base()), Buckets: row.buckets,
			})
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(infos, func(a, b MetricInfo) int { return strings.Compare(string(a.Metric), string(b.Metric)) })
	return infos, v.index, nil
}

// metricRow returns the counters of a metric, those of the head included.
func (v *view) metricRow(m *metric) (metricRow, error) {
	row, err := v.fileRow(m)
	if err != nil {
		return row, err
	}
	cells := v.cells(m.number)
	if len(cells) == 0 {
		return row, nil
	}
	fleet, err := v.fleetTable(m, &row, 0)
	if err != nil {
		return row, err
	}
	series := v.table(tableSeries)
	var fresh nodeBits
	for len(cells) > 0 {
		n := sameStart(cells)
		k := fleetKey{m.number, cells[0].start}
		stored := fleet != nil && fleet.Get(k.append(nil)) != nil
		for _, c := range cells[:n] {
			for _, d := range c.deltas {
				row.add(d.count, c.start, stored || d.late)
				stored = stored || !d.late
				fresh.add(d.node)
			}
		}
		cells = cells[n:]
	}
	var key []byte
	for _, node := range fresh.appendTo(nil) {
		k := seriesKey{m.number, node}
		if key = k.append(key[:0]); series.Get(key) == nil {
			row.nodes++
		}
	}
	return row, nil
}

// Nodes returns every node that ever sent a value of the metric, by id, and the
// index that the list shows. It returns window.ErrUnknownMetric for a metric
// that was never counted.
func (db *DB) Nodes(ctx context.Context, name window.Metric) ([]NodeInfo, uint64, error) {
	m, err := db.metric(name)
	if err != nil {
		return nil, 0, err
	}
	if m == nil {
		return nil, 0, fmt.Errorf("%q: %w", name, window.ErrUnknownMetric)
	}
	v, err := db.begin(m, nil)
	if err != nil {
		return nil, 0, err
	}
	defer v.close()
	var infos []NodeInfo
	err = guarded(func() error {
		series, err := v.series(ctx, m)
		for node, c := range maps.All(series) {
			infos = append(infos, NodeInfo{v.nodes[node], c.count, c.span(v.cluster.Tiers.Base()), c.buckets})
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(infos, func(a, b NodeInfo) int { return strings.Compare(a.Node, b.Node) })
	return infos, v.index, nil
}

// series returns the counters of a metric's nodes, those of the head included.
func (v *view) series(ctx context.Context, m *metric) (map[uint32]counters, error) {
	series := make(map[uint32]counters)
	err := v.eachSeries(ctx, m, func(node uint32, c counters) { series[node] = c })
	if err != nil {
		return nil, err
	}
	row, err := v.fileRow(m)
	if err != nil {
		return nil, err
	}
	cells := v.cells(m.number)
	for len(cells) > 0 {
		if err := v.alive(ctx); err != nil {
			return nil, err
		}
		n := sameStart(cells)
		if err := v.addCells(series, m, &row, cells[:n]); err != nil {
			return nil, err
		}
		cells = cells[n:]
	}
	return series, nil
}

// eachSeries calls fn for every node of a metric in the file, and knows from the
// metric's counters how many there must be.
func (v *view) eachSeries(ctx context.Context, m *metric, fn func(uint32, counters)) error {
	if m.number >= v.file.metrics {
		return nil
	}
	row, err := readMetricRow(v.tx, m.number)
	if err != nil {
		return err
	}
	n, before := uint32(0), int64(-1)
	prefix := numberKey(nil, m.number)
	cursor := v.table(tableSeries).Cursor()
	for key, value := cursor.Seek(prefix); bytes.HasPrefix(key, prefix); key, value = cursor.Next() {
		k, c, err := parseSeries(key, value, uint32(len(v.nodes)))
		if err == nil && int64(k.node) <= before {
			err = errOrder // a damaged page may show one record twice
		}
		if err != nil {
			return &DamagedError{tableSeries, fmt.Sprintf("metric %q, key %s", m.name, keyText(key)), err}
		}
		before = int64(k.node)
		fn(k.node, c)
		if n++; n%checkEvery == 0 {
			if err := v.alive(ctx); err != nil {
				return err
			}
		}
	}
	if n != row.nodes {
		return &DamagedError{tableSeries, fmt.Sprintf("metric %q", m.name), fmt.Errorf("%d nodes, %d are right", n, row.nodes)}
	}
	return nil
}

func parseSeries(key, value []byte, nodes uint32) (seriesKey, counters, error) {
	k, err := parseSeriesKey(key)
	if err != nil {
		return k, counters{}, err
	}
	payload, err := unseal(tableSeries, key, value)
	if err != nil {
		return k, counters{}, err
	}
	if k.node >= nodes {
		return k, counters{}, fmt.Errorf("node %d of %d", k.node, nodes)
	}
	c, err := parseCounters(payload)
	return k, c, err
}

// addCells adds the head's deltas of one bucket to the counters of its nodes.
func (v *view) addCells(series map[uint32]counters, m *metric, row *metricRow, cells []bucketView) error {
	start := cells[0].start
	stored, err := v.storedNodes(m, row, start)
	if err != nil {
		return err
	}
	for _, c := range cells {
		for _, d := range c.deltas {
			counted := series[d.node]
			counted.add(d.count, start, d.late || !stored.add(d.node))
			series[d.node] = counted
		}
	}
	return nil
}

// storedNodes returns the nodes that the file has in a bucket of a metric.
func (v *view) storedNodes(m *metric, row *metricRow, start int64) (*nodeBits, error) {
	nodes := new(nodeBits)
	base := v.cluster.Tiers.Base()
	t, err := v.fleetTable(m, row, 0)
	if t == nil {
		return nodes, err
	}
	k := fleetKey{m.number, start}
	key := k.append(nil)
	value := t.Get(key)
	if value == nil {
		return nodes, nil
	}
	fleet, err := parseFleetRow(fleetTable(base), key, value)
	if err == nil {
		err = nodes.union(fleet.set, uint32(len(v.nodes)))
	}
	if err != nil {
		bucket := window.Bucket{Start: start, Width: base}
		return nil, &DamagedError{fleetTable(base), rowName(m.name, window.AllNodes, bucket), err}
	}
	return nodes, nil
}
