package storage

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// writer puts values into the tables of one write transaction. The first error
// stays.
type writer struct {
	tx     *bbolt.Tx
	tables map[string]*bbolt.Bucket
	err    error
}

// table returns a table, a new one where needed. bbolt does not store the fill
// percentage, so every handle gets it.
func (w *writer) table(name string) *bbolt.Bucket {
	if t := w.tables[name]; t != nil || w.err != nil {
		return t
	}
	t, err := w.tx.CreateBucketIfNotExists([]byte(name))
	if err != nil {
		w.fail(name, err)
		return nil
	}
	t.FillPercent = fillPercent
	if w.tables == nil {
		w.tables = make(map[string]*bbolt.Bucket)
	}
	w.tables[name] = t
	return t
}

func (w *writer) fail(table string, err error) {
	if w.err == nil {
		w.err = fmt.Errorf("write %s: %w", table, err)
	}
}

// put seals and stores a payload.
func (w *writer) put(table string, key, payload []byte) {
	w.putValue(table, key, seal(table, key, payload))
}

// putValue stores a value that carries its checksum. bbolt keeps the value, not
// a copy, until the transaction ends: it must stay as it is, and must not point
// into the file's own mapping, which a growing file may move.
func (w *writer) putValue(table string, key, value []byte) {
	t := w.table(table)
	if w.err != nil {
		return
	}
	if err := t.Put(key, value); err != nil {
		w.fail(table, err)
	}
}

// get returns the payload of a sealed value, nil when there is none.
func (w *writer) get(table string, key []byte) ([]byte, error) {
	t := w.table(table)
	if w.err != nil {
		return nil, w.err
	}
	b, err := unseal(table, key, t.Get(key))
	if errors.Is(err, errMissing) {
		return nil, nil
	}
	return b, err
}
