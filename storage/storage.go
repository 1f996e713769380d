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
	"fmt"
	"log/slog"
	"os"
	"sync"
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
	// OnFatal is called once, on a goroutine of its own, after the first write
	// or sync that failed. It should end the process. Nil panics.
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

// MetricInfo describes a metric by everything ever counted for it, expired or not.
type MetricInfo struct {
	Metric  window.Metric
	Nodes   int    // that ever sent a value of it
	Count   uint64 // values
	Span    window.Span
	Buckets uint64 // base buckets with a value that came while the fleet's was kept
}

// NodeInfo describes what a node ever sent of one metric, expired or not.
type NodeInfo struct {
	Node    string
	Count   uint64 // values
	Span    window.Span
	Buckets uint64 // base buckets with a value that came while the fleet's was kept
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

// DB is one member's state. Its methods are safe for concurrent use, except
// that Apply and SetConfiguration are to be called in the order of the log.
type DB struct {
	path       string
	log        *slog.Logger
	headLimit  int64
	flushEvery time.Duration
	stagger    time.Duration
	onFatal    func(error)
	openFile   openFunc
	work       int // defaultWork; a test sets less

	turn    chan struct{} // holds one token: to flush, swap or close
	durable durable       // guarded by turn

	mu        sync.RWMutex // guards what follows
	gen       *generation
	names     *catalogue
	live      state
	cluster   Cluster
	config    configuration
	producers producers
	sweptMs   int64  // log clock when forgotten producers left memory
	idleFrom  uint64 // index of the last flush or swap
	sealFrom  int64  // log clock, in seconds, when a bucket of the file can be sealed
	current   *head
	flushing  *head // frozen, being written; else nil
	waiters   []waiter
	streams   map[*stream]struct{}
	closed    bool
	failed    error

	wantFlush    chan struct{} // holds a token when the head is over its limit
	done         chan struct{} // closed by Close and by the first failure
	quit         chan struct{} // ends the background goroutine
	background   sync.WaitGroup
	closeOnce    sync.Once
	closeErr     error
	accumulators sync.Pool // of *sketch.Accumulator

	// onFrozen, when a test sets it, is called by a flush between freezing the
	// head and writing it.
	onFrozen func()

	// onView and onCommit, when a test sets them, are called by a reader after each
	// of the two steps of taking a view, and by a flush before its commit.
	onView, onCommit func()

	// saveLive makes a flush store the producers of the live head instead of
	// those of the flushed one. Only a test sets it, to show that the crash
	// test finds out.
	saveLive bool

	// More bugs for tests of raftfsm to plant: a flush that stores no producers,
	// one that stores rows before their index and producers (which are those of
	// the flush before it), and a swap of files that keeps the head.
	saveNone, lateMeta, keepHead bool
}

// durable is what the file holds, as far as the next flush needs to know it.
type durable struct {
	state     state
	config    uint64 // index of the stored configuration
	cluster   Cluster
	backlog   bool     // the last flush left something to roll up or to drop
	damaged   bool     // a damaged row was found and reported
	dropped   horizons // up to when rows were dropped since Open; nil: not known
	producers producers
}

// Open opens the state in a file, or creates it, empty and not initialised.
func Open(path string, o Options) (*DB, error) { return openWith(path, o, os.OpenFile) }

func openWith(path string, o Options, open openFunc) (*DB, error) {
	db := &DB{
		path: path, log: o.Logger, headLimit: o.HeadLimit, flushEvery: o.FlushEvery, stagger: o.Stagger,
		onFatal: o.OnFatal, openFile: open, work: defaultWork,
		turn: make(chan struct{}, 1), streams: make(map[*stream]struct{}),
		wantFlush: make(chan struct{}, 1), done: make(chan struct{}), quit: make(chan struct{}),
	}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if db.headLimit <= 0 {
		db.headLimit = defaultHeadLimit
	}
	if db.flushEvery == 0 {
		db.flushEvery = defaultFlushEvery
	}
	if db.onFatal == nil {
		db.onFatal = func(err error) { panic(err) }
	}
	gen, err := openGeneration(path, open)
	if err == nil {
		gen, err = db.compactAtOpen(gen)
	}
	if err != nil {
		return nil, err
	}
	l, err := gen.load()
	if err == nil {
		err = syncDir(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), gen.bolt.Close())
	}
	db.adopt(gen, l)
	db.background.Go(db.flushLoop)
	return db, nil
}

// adopt makes the content of a file the state. DB.mu and turn are held, or
// nobody else knows db yet.
func (db *DB) adopt(gen *generation, l *loaded) {
	db.gen, db.names, db.live, db.cluster, db.config = gen, l.names, l.state, l.cluster, l.config
	db.producers = l.producers
	db.current, db.flushing, db.idleFrom, db.sealFrom = newHead(), nil, l.state.index, 0
	db.durable = durable{state: l.state, config: l.config.index, cluster: l.cluster, producers: l.durable}
}

const (
	defaultHeadLimit  = 64 << 20
	defaultFlushEvery = 5 * time.Second

	// closeWait is how long Close waits for queries to notice. A reader that
	// hangs in its caller's code keeps the file open after that, not Close.
	closeWait = 2 * time.Second
)

// Close flushes, cuts streams and queries short, and closes the file. What
// could not be flushed is in the log. Calling it again returns the same.
func (db *DB) Close() error {
	db.closeOnce.Do(func() { db.closeErr = db.close(true) })
	return db.closeErr
}

// Kill closes without flushing: what a crash leaves behind, for tests of it.
func (db *DB) Kill() error {
	db.closeOnce.Do(func() { db.closeErr = db.close(false) })
	return db.closeErr
}

func (db *DB) close(flush bool) error {
	close(db.quit)
	db.background.Wait()
	var err error
	if flush {
		err = db.Flush(context.Background())
	}
	db.turn <- struct{}{} // nobody flushes or swaps from here on
	defer func() { <-db.turn }()
	db.mu.Lock()
	db.closed = true
	if db.failed == nil {
		close(db.done)
	}
	gen, streams := db.gen, db.streams
	db.streams = nil
	db.mu.Unlock()
	for s := range streams {
		s.cut(ErrClosed)
	}
	gen.retire()
	select {
	case <-gen.closed:
		return errors.Join(err, gen.closeErr)
	case <-time.After(closeWait):
		db.log.Warn("a reader keeps the file open after close", "path", db.path)
		return err
	}
}

// usable returns why nothing can be done any more. DB.mu is held.
func (db *DB) usable() error {
	switch {
	case db.failed != nil:
		return fmt.Errorf("%w: %w", ErrFailed, db.failed)
	case db.closed:
		return ErrClosed
	}
	return nil
}

// stopped returns why done is closed.
func (db *DB) stopped() error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.usable()
}

// fail stops everything after a failed write: what the disk holds is not known,
// and the next sync may well report success without having it.
func (db *DB) fail(err error) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.failed == nil {
		db.failed = err
		if !db.closed {
			close(db.done)
		}
		db.log.Error("stopped after a failed write", "path", db.path, "error", err)
		// On its own, so that it may close this DB. It is meant to end the process.
		go db.onFatal(err)
	}
	return db.usable()
}

// SizeBytes returns the size of the file.
func (db *DB) SizeBytes() int64 {
	return db.fileBytes(func(g *generation) int64 {
		info, err := g.file.Stat()
		if err != nil {
			return 0 // a file that is going away
		}
		return info.Size()
	})
}

// FreeBytes returns how much of the file holds nothing and will be used again.
func (db *DB) FreeBytes() int64 {
	return db.fileBytes(func(g *generation) int64 {
		s := g.bolt.Stats()
		return int64(s.FreePageN+s.PendingPageN) * int64(g.bolt.Info().PageSize)
	})
}

func (db *DB) fileBytes(read func(*generation) int64) int64 {
	db.mu.RLock()
	gen := db.gen
	ok := db.usable() == nil && gen.acquire()
	db.mu.RUnlock()
	if !ok {
		return 0
	}
	defer gen.release()
	return read(gen)
}
