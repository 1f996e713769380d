package storage

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// loaded is what Open reads into memory.
type loaded struct {
	state     state
	cluster   Cluster
	config    configuration
	names     *catalogue
	producers producers
	durable   producers // a second table of the same content
}

// load reads a file, after it has made an empty one into one of ours.
func (g *generation) load() (*loaded, error) {
	l := new(loaded)
	err := guarded(func() error {
		empty := false
		if err := g.bolt.View(func(tx *bbolt.Tx) error {
			name, _ := tx.Cursor().First()
			empty = name == nil
			return nil
		}); err != nil {
			return err
		}
		if empty {
			if err := g.bolt.Update(createTables); err != nil {
				return err
			}
		}
		return g.bolt.View(l.read)
	})
	return l, err
}

func createTables(tx *bbolt.Tx) error {
	for _, name := range []string{tableMeta, tableMetrics, tableNodes, tableSeries, tableProducers} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	w := writer{tx: tx}
	w.put(tableMeta, []byte(metaFormat), []byte{formatVersion})
	w.put(tableMeta, []byte(metaState), new(state).append(nil))
	// Empty, so that missing is damaged.
	w.put(tableMeta, []byte(metaCluster), nil)
	w.put(tableMeta, []byte(metaConfiguration), nil)
	w.put(tableProducers, producersKey, producers{}.append(nil, 0))
	return w.err
}

// producersKey is the only key of its table.
var producersKey = []byte("all")

// get reads a sealed value of the file.
func get(tx *bbolt.Tx, table string, key []byte) ([]byte, error) {
	t := tx.Bucket([]byte(table))
	if t == nil {
		return nil, &DamagedError{table, fmt.Sprintf("%q", key), errNoTable}
	}
	payload, err := unseal(table, key, t.Get(key))
	if err != nil {
		return nil, &DamagedError{table, fmt.Sprintf("%q", key), err}
	}
	return payload, nil
}

// read reads everything but rows and counters.
func (l *loaded) read(tx *bbolt.Tx) error {
	if tx.Bucket([]byte(tableMeta)) == nil {
		return errors.New("not a state file: it has no table meta")
	}
	format, err := get(tx, tableMeta, []byte(metaFormat))
	if err != nil {
		return err
	}
	if len(format) != 1 || format[0] != formatVersion {
		return fmt.Errorf("the file is of format %v, this version reads %d: update this member", format, formatVersion)
	}
	if l.state, err = readState(tx); err != nil {
		return err
	}
	if l.cluster, err = readCluster(tx); err != nil {
		return err
	}
	if n := len(l.state.sealed); n != len(l.cluster.Tiers) {
		return &DamagedError{tableMeta, metaState, fmt.Errorf("%d tiers of %d", n, len(l.cluster.Tiers))}
	}
	if l.config, err = readConfiguration(tx); err != nil {
		return err
	}
	l.config.bytes = append([]byte(nil), l.config.bytes...)
	if l.names, err = readCatalogue(tx, l.state); err != nil {
		return err
	}
	if l.producers, err = readProducers(tx); err != nil {
		return err
	}
	l.durable, err = readProducers(tx)
	return err
}

func readState(tx *bbolt.Tx) (state, error) {
	b, err := get(tx, tableMeta, []byte(metaState))
	if err != nil {
		return state{}, err
	}
	s, err := parseState(b)
	if err != nil {
		return state{}, &DamagedError{tableMeta, metaState, err}
	}
	if s.kept.node == nil { // a file from before there were tiers
		s.begin(len(s.sealed))
	}
	return s, nil
}

// readCluster returns the zero Cluster for a file that is not initialised.
func readCluster(tx *bbolt.Tx) (Cluster, error) {
	b, err := get(tx, tableMeta, []byte(metaCluster))
	if err != nil || len(b) == 0 {
		return Cluster{}, err
	}
	c, err := parseCluster(b)
	if err != nil {
		return Cluster{}, &DamagedError{tableMeta, metaCluster, err}
	}
	return c, nil
}

func readConfiguration(tx *bbolt.Tx) (configuration, error) {
	b, err := get(tx, tableMeta, []byte(metaConfiguration))
	if err != nil || len(b) == 0 {
		return configuration{}, err
	}
	c, err := parseConfiguration(b)
	if err != nil {
		return configuration{}, &DamagedError{tableMeta, metaConfiguration, err}
	}
	return c, nil
}

func readProducers(tx *bbolt.Tx) (producers, error) {
	b, err := get(tx, tableProducers, producersKey)
	if err != nil {
		return nil, err
	}
	t, err := parseProducers(b)
	if err != nil {
		return nil, &DamagedError{tableProducers, string(producersKey), err}
	}
	return t, nil
}

// readCatalogue reads the names. Their numbers have no gaps.
func readCatalogue(tx *bbolt.Tx, s state) (*catalogue, error) {
	c := newCatalogue()
	for _, table := range []string{tableMetrics, tableNodes, tableSeries, tableProducers} {
		if tx.Bucket([]byte(table)) == nil {
			return nil, &DamagedError{table, "all", errNoTable}
		}
	}
	var key []byte
	for n := range s.metrics {
		row, err := readMetricRow(tx, n)
		if err != nil {
			return nil, err
		}
		if _, isNew := c.metric(row.name); !isNew {
			return nil, &DamagedError{tableMetrics, fmt.Sprintf("metric %d", n), fmt.Errorf("%q has two numbers", row.name)}
		}
	}
	for n := range s.nodes {
		key = numberKey(key[:0], n)
		b, err := unseal(tableNodes, key, tx.Bucket([]byte(tableNodes)).Get(key))
		var id string
		if err == nil {
			id, err = parseNodeRow(b)
		}
		if err != nil {
			return nil, &DamagedError{tableNodes, fmt.Sprintf("node %d", n), err}
		}
		if _, isNew := c.node(id); !isNew {
			return nil, &DamagedError{tableNodes, fmt.Sprintf("node %d", n), fmt.Errorf("%q has two numbers", id)}
		}
	}
	return c, nil
}

func readMetricRow(tx *bbolt.Tx, n uint32) (metricRow, error) {
	key := numberKey(nil, n)
	b, err := unseal(tableMetrics, key, tx.Bucket([]byte(tableMetrics)).Get(key))
	var row metricRow
	if err == nil {
		row, err = parseMetricRow(b)
	}
	if err != nil {
		return metricRow{}, &DamagedError{tableMetrics, fmt.Sprintf("metric %d", n), err}
	}
	return row, nil
}

// flushed is the file's own account of itself.
func flushed(tx *bbolt.Tx) (FlushedState, error) {
	s, err := readState(tx)
	if err != nil {
		return FlushedState{}, err
	}
	c, err := readConfiguration(tx)
	if err != nil {
		return FlushedState{}, err
	}
	f := FlushedState{Index: s.index, Term: s.term, ClockMs: s.clockMs, ConfigurationIndex: c.index}
	if c.index > 0 {
		f.Configuration = append([]byte{}, c.bytes...)
	}
	f.Cluster, err = readCluster(tx)
	return f, err
}
