package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const testPrecision = 7

var ctx = context.Background()

// testCluster is the cluster of all tests.
func testCluster() *Cluster {
	return &Cluster{ID: "test", Precision: testPrecision, Tiers: window.ForeverTiers()}
}

// manual leaves flushing to the test, and fails it on a fatal error.
func manual(t testing.TB) Options {
	return Options{FlushEvery: -1, OnFatal: func(err error) { t.Errorf("fatal: %v", err) }}
}

func mustOpen(t testing.TB, path string, o Options) *DB {
	t.Helper()
	db, err := Open(path, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return db
}

// newDB returns an initialised DB at index 1 in a directory of its own.
func newDB(t testing.TB) *DB {
	t.Helper()
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"), manual(t))
	t.Cleanup(func() { _ = db.Kill() })
	mustApply(t, db, initEntry())
	return db
}

func initEntry() *Entry {
	return &Entry{Index: 1, Term: 1, ClockMs: 1000, Kind: KindInit, Cluster: testCluster()}
}

func mustApply(t testing.TB, db *DB, e *Entry) []Outcome {
	t.Helper()
	out, err := db.Apply(e)
	if err != nil {
		t.Fatalf("Apply(%d): %v", e.Index, err)
	}
	return out
}

func mustFlush(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Flush(ctx); err != nil {
		t.Fatalf("Flush: %v", err)
	}
}

// encode returns the sketch of some values.
func encode(values ...int64) []byte {
	s := sketch.New(testPrecision)
	for _, v := range values {
		s.AddInt(v)
	}
	b, _ := s.MarshalBinary()
	return b
}

// newDelta returns a delta of some values.
func newDelta(metric, node string, start int64, values ...int64) Delta {
	return Delta{Metric: metric, Node: node, Start: start, Sketch: encode(values...), Count: uint64(len(values))}
}

// producerID returns the id of a small number.
func producerID(n int) (id ProducerID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

// batch returns a batch whose hash is that of its content.
func batch(producer int, seq uint64, seenMs int64, deltas ...Delta) Batch {
	h := fnv.New64a()
	for _, d := range deltas {
		fmt.Fprintf(h, "%s/%s/%d/%x;", d.Metric, d.Node, d.Start, d.Sketch)
	}
	return Batch{Producer: producerID(producer), Seq: seq, SeenMs: seenMs, Hash: h.Sum64(), Deltas: deltas}
}

func batches(index uint64, clockMs int64, bs ...Batch) *Entry {
	return &Entry{Index: index, Term: 1, ClockMs: clockMs, Kind: KindBatches, Batches: bs}
}

// ask returns a checked query.
func ask(t testing.TB, q window.Query) window.Query {
	t.Helper()
	checked, err := q.Check(epoch, window.TenSeconds)
	if err != nil {
		t.Fatalf("Check(%+v): %v", q, err)
	}
	return checked
}

func mustQuery(t testing.TB, db *DB, q window.Query) window.Answer {
	t.Helper()
	a, err := db.Query(ctx, ask(t, q))
	if err != nil {
		t.Fatalf("Query(%+v): %v", q, err)
	}
	return a
}

// failer is a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatal(...any)
}

// copyFile copies a file as it is: what a crash at this moment leaves.
func copyFile(t failer, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// hashOf returns the hash of the logical content.
func hashOf(t testing.TB, db *DB) [32]byte {
	t.Helper()
	h, _, err := db.Hash(ctx)
	if err != nil {
		t.Fatalf("Hash: %v", err)
	}
	return h
}
