package raftfsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// logStore is Raft's log and its vote, in group-0/raft.db. It adds three things
// to raft-boltdb: it knows how many bytes each entry has, it ends the process
// when a write fails, and it answers for the last entry of an installed snapshot.
type logStore struct {
	*raftboltdb.BoltStore
	fatal func(error)
	grown chan struct{} // one token when entries were appended

	writing func() // of Options

	opened    time.Time
	appending atomic.Int64 // when the append under way began, since opened; 0 for none

	mu    sync.Mutex // guards the four below
	first uint64     // index of sizes[0]
	sizes []int64    // bytes per entry; the log has no gaps within
	bytes int64      // their sum
	base  raft.Log   // index and term up to which the state file reaches
}

func openLog(dir string, fatal func(error)) (*logStore, error) {
	path := filepath.Join(dir, "raft.db")
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			// The log commits often and is small: writing the free list each
			// time costs more than scanning the file once, when it is opened.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			PageSize:       4096,
			// The lock on the state file, taken first, keeps a second process out.
			Timeout: time.Second,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return nil, fmt.Errorf("raftfsm: open log %s: %w", path, err)
	}
	l := &logStore{BoltStore: store, fatal: fatal, grown: make(chan struct{}, 1), opened: time.Now()}
	if err := l.measure(); err != nil {
		return nil, errors.Join(fmt.Errorf("raftfsm: read log %s: %w", path, err), store.Close())
	}
	return l, nil
}

// measure adds up the entries that are in the file. The log is bounded, so that
// this is the same work that Raft does next anyway.
func (l *logStore) measure() error {
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	for i := first; i <= last; i++ {
		var entry raft.Log
		err := l.BoltStore.GetLog(i, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			continue // a gap: an install went past the end of the log
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		l.added(&entry)
	}
	return nil
}

// added and removed keep the sizes. The caller holds mu, or nobody else runs yet.
func (l *logStore) added(entry *raft.Log) {
	size := int64(len(entry.Data) + 64) // index, term, type and framing
	next := l.first + uint64(len(l.sizes))
	switch {
	case len(l.sizes) == 0:
		l.first = entry.Index
	case entry.Index > next:
		for range entry.Index - next {
			l.sizes = append(l.sizes, 0)
		}
	case entry.Index < next: // the suffix was overwritten
		l.removed(entry.Index, next-1)
	}
	l.sizes = append(l.sizes, size)
	l.bytes += size
}

func (l *logStore) removed(lo, hi uint64) {
	end := l.first + uint64(len(l.sizes)) // exclusive
	lo, hi = max(lo, l.first), min(hi+1, end)
	if lo >= hi {
		return
	}
	for _, size := range l.sizes[lo-l.first : hi-l.first] {
		l.bytes -= size
	}
	if lo == l.first {
		l.sizes = append([]int64(nil), l.sizes[hi-l.first:]...)
		l.first = hi
		return
	}
	// Raft cuts a prefix or a suffix, never the middle.
	l.sizes = l.sizes[:lo-l.first]
}

// StoreLogs appends entries and returns once they are on disk. A log that
// failed once may hold the entry or not, and may have lost what the kernel
// dropped with the failed write: only a restart reads what is really there.
func (l *logStore) StoreLogs(entries []*raft.Log) error {
	defer l.began()()
	if l.writing != nil {
		l.writing()
	}
	if err := l.BoltStore.StoreLogs(entries); err != nil {
		return l.failed("append to log", err)
	}
	l.mu.Lock()
	for _, entry := range entries {
		l.added(entry)
	}
	l.mu.Unlock()
	select {
	case l.grown <- struct{}{}:
	default: // one token is enough
	}
	return nil
}

// StoreLog is StoreLogs of one.
func (l *logStore) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// DeleteRange removes the entries lo to hi.
func (l *logStore) DeleteRange(lo, hi uint64) error {
	if err := l.BoltStore.DeleteRange(lo, hi); err != nil {
		return l.failed("cut log", err)
	}
	l.mu.Lock()
	l.removed(lo, hi)
	l.mu.Unlock()
	return nil
}

// Set and SetUint64 keep the term and the vote.
func (l *logStore) Set(key, value []byte) error {
	if err := l.BoltStore.Set(key, value); err != nil {
		return l.failed("store "+string(key), err)
	}
	return nil
}

func (l *logStore) SetUint64(key []byte, value uint64) error {
	if err := l.BoltStore.SetUint64(key, value); err != nil {
		return l.failed("store "+string(key), err)
	}
	return nil
}

func (l *logStore) failed(doing string, err error) error {
	err = fmt.Errorf("raftfsm: %s: %w", doing, err)
	if !errors.Is(err, bolterrors.ErrDatabaseNotOpen) { // closed by us
		l.fatal(err)
	}
	return err
}

// GetLog reads an entry. The entry at which the state file ends may be gone
// from the log, or be one that was never committed (an installed snapshot
// replaced it): its index and term are known, which is all that Raft compares.
// Without this a member with uncommitted entries of an old leader would have
// the same snapshot installed again and again (hashicorp/raft#697).
func (l *logStore) GetLog(index uint64, entry *raft.Log) error {
	err := l.BoltStore.GetLog(index, entry)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	l.mu.Lock()
	base := l.base
	l.mu.Unlock()
	if index == 0 || index != base.Index {
		return err
	}
	*entry = raft.Log{Index: base.Index, Term: base.Term, Type: raft.LogNoop}
	return nil
}

// installed tells the log that the state now reaches index, and drops entries
// up to there if they are not the ones that were committed.
func (l *logStore) installed(index, term uint64) error {
	var entry raft.Log
	err := l.BoltStore.GetLog(index, &entry)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	first, ferr := l.FirstIndex()
	if ferr != nil {
		return ferr
	}
	if (err != nil || entry.Term != term) && first != 0 && first <= index {
		if err := l.DeleteRange(first, index); err != nil {
			return err
		}
	}
	l.setBase(index, term)
	return nil
}

func (l *logStore) setBase(index, term uint64) {
	l.mu.Lock()
	l.base = raft.Log{Index: index, Term: term}
	l.mu.Unlock()
}

// size returns the entries and bytes that the log holds.
func (l *logStore) size() (entries uint64, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.sizes)), l.bytes
}

// trailing returns how many of the last entries, at most n, fit in limit bytes.
func (l *logStore) trailing(n uint64, limit int64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var count uint64
	var sum int64
	for i := len(l.sizes) - 1; i >= 0 && count < n; i-- {
		if sum += l.sizes[i]; sum > limit {
			break
		}
		count++
	}
	return count
}
