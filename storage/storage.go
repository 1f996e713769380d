// Package storage keeps one member's state: a bbolt file, and in memory the
// head, which is what the log holds and the file does not yet.
//
// It promises that a batch is counted once: data, producer windows, catalogue,
// log clock, configuration and applied index are written by one fsynced
// transaction, all as of one index, and entries at or below that index are
// skipped when the log is replayed. That a query sees the file and the head as
// one state at one index. That two members which applied the same entries hold
// the same logical content, byte for byte. And that a damaged record gives a
// *DamagedError which names it, never a wrong number.
//
// The state machine side (Apply, SetConfiguration) is called from one goroutine
// in the order of the log; everything else from any. There is no clock in the
// state machine but that of the entries.
//
// It leaves the log, consensus and the judging of input to others: what Apply
// is given was checked before it entered the log. DESIGN.md draws the file.
package storage

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// Options tune a DB. The zero value is right for production.
type Options struct {
	// HeadLimit is how many bytes of deltas in memory ask for a flush. 0 means
	// 64 MiB. More means fewer, longer flushes and a longer replay.
	HeadLimit int64
	// Logger receives what an operator should read. Nil discards.
	Logger *slog.Logger
	// FlushEvery is the time between background flushes. 0 means 5 s; negative
	// leaves it to HeadLimit and to calls of Flush.
	FlushEvery time.Duration
	// Stagger delays the first background flush, so that the members of a
	// cluster do not flush at once.
	Stagger time.Duration
	// OnFatal is called once, after the first write or sync that failed. It
	// should end the process. Nil panics.
	OnFatal func(error)
}

// FlushedState is what the file alone knows.
type FlushedState struct {
	// Index and Term are those of the last entry that the file holds.
	Index, Term uint64
	// ClockMs is the log clock at Index.
	ClockMs int64
	// Configuration is what SetConfiguration was given last, at
	// ConfigurationIndex. Nil when it never was.
	Configuration      []byte
	ConfigurationIndex uint64
	// Cluster is the zero Cluster in a file that is not initialised.
	Cluster Cluster
}

// MetricInfo describes a metric by everything ever counted for it.
type MetricInfo struct {
	Metric  window.Metric
	Nodes   int    // that ever sent a value of it
	Count   uint64 // values
	Span    window.Span
	Buckets uint64 // base buckets with a value
}

// NodeInfo describes what a node sent of one metric.
type NodeInfo struct {
	Node    string
	Count   uint64 // values
	Span    window.Span
	Buckets uint64 // base buckets with a value
}

// Row is one row of the logical content: head and file merged.
type Row struct {
	Metric window.Metric
	// Node is window.AllNodes for a fleet row.
	Node   string
	Bucket window.Bucket
	// Sketch is canonical. It is valid until the callback returns.
	Sketch []byte
	// Nodes are the ids that a fleet row stands for, in the order in which the
	// log first named them. Nil for a node's row.
	Nodes []string
}

// ProducerState is what is remembered of a producer.
type ProducerState struct {
	// Low says that all batches up to this number are settled.
	Low uint64
	// LastMs is the log clock of the last batch that was applied.
	LastMs int64
	// Ahead are the numbers above Low that are settled too.
	Ahead []uint64
}

var errPending = errors.New("storage: not there yet")

// DB is one member's state. Its methods are safe for concurrent use, except
// that Apply and SetConfiguration are to be called in the order of the log.
type DB struct{}

func Open(path string, o Options) (*DB, error)                     { return nil, errPending }
func (db *DB) Close() error                                        { return nil }
func (db *DB) Cluster() (Cluster, bool)                            { return Cluster{}, false }
func (db *DB) Apply(e *Entry) ([]Outcome, error)                   { return nil, errPending }
func (db *DB) SetConfiguration(index, term uint64, conf []byte)    {}
func (db *DB) Applied() (index, term uint64)                       { return 0, 0 }
func (db *DB) ClockMs() int64                                      { return 0 }
func (db *DB) WaitApplied(ctx context.Context, index uint64) error { return errPending }
func (db *DB) HeadBytes() (current, limit int64)                   { return 0, 0 }
func (db *DB) Overloaded() bool                                    { return false }
func (db *DB) Flush(ctx context.Context) error                     { return errPending }
func (db *DB) FlushedState() (FlushedState, bool)                  { return FlushedState{}, false }
func (db *DB) Query(ctx context.Context, q window.Query) (window.Answer, error) {
	return window.Answer{}, errPending
}
func (db *DB) Metrics(ctx context.Context) ([]MetricInfo, uint64, error) { return nil, 0, errPending }
func (db *DB) Nodes(ctx context.Context, m window.Metric) ([]NodeInfo, uint64, error) {
	return nil, 0, errPending
}
func (db *DB) Walk(ctx context.Context, fn func(Row) error) (index uint64, err error) {
	return 0, errPending
}
func (db *DB) Producers(fn func(ProducerID, ProducerState))           {}
func (db *DB) Hash(ctx context.Context) ([32]byte, uint64, error)     { return [32]byte{}, 0, errPending }
func (db *DB) SizeBytes() int64                                       { return 0 }
func (db *DB) FreeBytes() int64                                       { return 0 }
func (db *DB) Stream(ctx context.Context, w io.Writer) (int64, error) { return 0, errPending }
func (db *DB) OpenStream(ctx context.Context) (io.ReadCloser, FlushedState, int64, error) {
	return nil, FlushedState{}, 0, errPending
}
func (db *DB) Replace(path string) error           { return errPending }
func VerifyFile(path string) (FlushedState, error) { return FlushedState{}, errPending }
