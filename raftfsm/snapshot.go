package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

// liveID names the one snapshot that a member has: its flushed state.
const liveID = "live"

// snapshotStore is Raft's snapshot store without a copy of the database. The
// state file is the snapshot: it holds its own index, term and configuration,
// written in the transaction of the data, and it only moves forward.
//
//   - A snapshot taken here (Create, Persist) is a flush up to its index.
//   - List and Open describe the state file as it is now, which is at or beyond
//     the last snapshot taken, so that the log never starts after its end.
//   - A snapshot received from a leader (Create, Write) goes to a file of its
//     own, is synced and verified, and replaces the state file in Restore.
type snapshotStore struct {
	dir   string
	db    *storage.DB
	raise func(index, term uint64, conf raft.Configuration) // see fsm.raise

	streams atomic.Int64  // open ones
	sent    atomic.Int64  // when the last ended, unix nanoseconds of time.Now
	last    atomic.Uint64 // index of the last one that went out
	move    func()        // asks for an entry in the log, waits for nothing

	mu        sync.Mutex // guards the two below
	installed map[string]*received
	number    int
}

// received is a verified snapshot file that waits for Restore.
type received struct {
	path string
	meta raft.SnapshotMeta
}

const installPrefix = "install-"

// newSnapshotStore removes what an interrupted install left behind.
func newSnapshotStore(dir string, db *storage.DB) (*snapshotStore, error) {
	names, err := filepath.Glob(filepath.Join(dir, installPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("raftfsm: snapshots: %w", err)
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return nil, fmt.Errorf("raftfsm: snapshots: %w", err)
		}
	}
	return &snapshotStore{dir: dir, db: db, installed: make(map[string]*received), move: func() {}}, nil
}

// Create begins a snapshot at the index that Raft names. That index, not the
// one of the last entry the state machine saw, is where Raft will cut the log:
// no-ops and barriers between the two never reach the state machine.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64,
	conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	s.number++
	number := s.number
	s.mu.Unlock()
	return &snapshotSink{store: s, number: number, meta: raft.SnapshotMeta{
		Version: version, Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex,
	}}, nil
}

// List returns the state file as the only snapshot, or nothing while it is empty.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	state, ok := s.db.FlushedState()
	if !ok || state.Index == 0 {
		return nil, nil
	}
	meta, err := liveMeta(state, s.db.SizeBytes())
	if err != nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{meta}, nil
}

func liveMeta(state storage.FlushedState, size int64) (*raft.SnapshotMeta, error) {
	if len(state.Configuration) == 0 {
		return nil, fmt.Errorf("raftfsm: state at index %d holds no configuration", state.Index)
	}
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: liveID, Index: state.Index, Term: state.Term,
		Configuration:      raft.DecodeConfiguration(state.Configuration),
		ConfigurationIndex: state.ConfigurationIndex,
		Size:               size,
	}, nil
}

// Open streams the state file from one read transaction, with the index that
// this transaction holds, or a received snapshot for Restore.
//
// What goes out is as new as it can be, and if it is what went out before, the
// log is asked to move: a receiver whose log ends at that very index, in an entry
// that was never committed, goes on comparing its term after the install, and
// would be sent the same snapshot for ever.
//
// A received one behind the state is refused. It was overtaken on its way, by a
// second attempt or by the log, and Raft does not look: it would go back to its
// index, and end the process where the log from there on is cut already. Raft
// opens it between the entries that it applies, so that none comes in between.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id != liveID {
		s.mu.Lock()
		r := s.installed[id]
		s.mu.Unlock()
		if r == nil {
			return nil, nil, fmt.Errorf("raftfsm: no snapshot %q", id)
		}
		reader := &receivedReader{received: r, store: s}
		if applied, _ := s.db.Applied(); r.meta.Index < applied {
			reader.forget()
			return nil, nil, fmt.Errorf("raftfsm: received snapshot at %d: the state is at %d already", r.meta.Index, applied)
		}
		return &r.meta, reader, nil
	}
	if err := s.db.Flush(context.Background()); err != nil {
		return nil, nil, fmt.Errorf("raftfsm: open snapshot: %w", err)
	}
	rc, state, size, err := s.db.OpenStream(context.Background())
	if err != nil {
		return nil, nil, fmt.Errorf("raftfsm: open snapshot: %w", err)
	}
	if s.last.Swap(state.Index) == state.Index {
		s.move()
	}
	meta, err := liveMeta(state, size)
	if err != nil {
		return nil, nil, errors.Join(err, rc.Close())
	}
	s.streams.Add(1)
	return meta, &liveReader{ReadCloser: rc, store: s}, nil
}

// streaming says whether a snapshot goes out, or went out less than a minute
// ago: the log must keep what its receiver asks for next.
func (s *snapshotStore) streaming() bool {
	return s.streams.Load() > 0 || time.Since(time.Unix(0, s.sent.Load())) < time.Minute
}

type liveReader struct {
	io.ReadCloser
	store *snapshotStore
	once  sync.Once
}

func (r *liveReader) Close() error {
	r.once.Do(func() {
		r.store.sent.Store(time.Now().UnixNano())
		r.store.streams.Add(-1)
	})
	return r.ReadCloser.Close()
}

// receivedReader is what Restore gets, inside a wrapper of Raft's. Restore
// takes the file by its path, so nothing is read through it.
type receivedReader struct {
	*received
	store *snapshotStore
}

func (r *receivedReader) Read([]byte) (int, error) {
	return 0, errors.New("raftfsm: a received snapshot is restored by its file")
}

func (r *receivedReader) Close() error { return nil }

// forget drops a received snapshot and its file, if it was not swapped in.
func (r *receivedReader) forget() {
	r.store.mu.Lock()
	delete(r.store.installed, r.meta.ID)
	r.store.mu.Unlock()
	_ = os.Remove(r.path) // gone after a swap; a leftover is removed at the next start
}

// snapshotSink is one snapshot being made: Persist flushes, or Write receives.
type snapshotSink struct {
	store  *snapshotStore
	number int
	meta   raft.SnapshotMeta

	flushed bool
	file    *os.File
	closed  bool
}

// ID names the snapshot for Open, after Close.
func (k *snapshotSink) ID() string {
	if k.file == nil {
		return liveID
	}
	return strings.TrimSuffix(filepath.Base(k.file.Name()), ".tmp")
}

// flush makes the state file reach the index of the snapshot.
func (k *snapshotSink) flush(ctx context.Context) error {
	k.store.raise(k.meta.Index, k.meta.Term, k.meta.Configuration)
	if err := k.store.db.Flush(ctx); err != nil {
		return fmt.Errorf("raftfsm: snapshot at %d: %w", k.meta.Index, err)
	}
	if state, ok := k.store.db.FlushedState(); !ok || state.Index < k.meta.Index {
		return fmt.Errorf("raftfsm: snapshot at %d: the flush ended at %d", k.meta.Index, state.Index)
	}
	k.flushed = true
	return nil
}

// Write receives a part of another member's state file.
func (k *snapshotSink) Write(p []byte) (int, error) {
	if k.file == nil {
		name := fmt.Sprintf("%s%d-%d.tmp", installPrefix, k.meta.Index, k.number)
		f, err := os.OpenFile(filepath.Join(k.store.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, fmt.Errorf("raftfsm: receive snapshot: %w", err)
		}
		k.file = f
	}
	return k.file.Write(p)
}

// Close ends the snapshot. A received one is on disk and verified then.
func (k *snapshotSink) Close() error {
	if k.closed {
		return nil
	}
	k.closed = true
	if k.file == nil {
		if !k.flushed {
			return errors.New("raftfsm: empty snapshot")
		}
		return nil
	}
	if err := errors.Join(k.file.Sync(), k.file.Close()); err != nil {
		return errors.Join(fmt.Errorf("raftfsm: receive snapshot: %w", err), os.Remove(k.file.Name()))
	}
	state, err := storage.VerifyFile(k.file.Name())
	if err == nil && (state.Index != k.meta.Index || state.Term != k.meta.Term) {
		err = fmt.Errorf("it holds index %d of term %d", state.Index, state.Term)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("raftfsm: received snapshot at %d: %w", k.meta.Index, err), os.Remove(k.file.Name()))
	}
	k.meta.ID = k.ID()
	k.store.mu.Lock()
	k.store.installed[k.meta.ID] = &received{path: k.file.Name(), meta: k.meta}
	k.store.mu.Unlock()
	return nil
}

// Cancel ends a snapshot that failed.
func (k *snapshotSink) Cancel() error {
	if k.closed || k.file == nil {
		k.closed = true
		return nil
	}
	k.closed = true
	return errors.Join(k.file.Close(), os.Remove(k.file.Name()))
}
