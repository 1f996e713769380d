package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

// fsm hands committed entries to storage, in order. It decides nothing: what an
// entry does is a function of the entry and the state. What it cannot read or
// storage cannot write stops the process.
type fsm struct {
	db    *storage.DB
	logs  *logStore
	fatal func(error)
	moved func(configuration bool) // after entries were applied

	mu    sync.Mutex // held while storage's applied index moves
	names interner

	broken error // the first fatal error; nothing is applied after it
}

var _ raft.BatchingFSM = (*fsm)(nil)

// Apply is ApplyBatch of one.
func (f *fsm) Apply(entry *raft.Log) any { return f.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch applies commands and configurations. The response to a command is
// its []storage.Outcome, or the error that stops the process.
func (f *fsm) ApplyBatch(entries []*raft.Log) []any {
	responses := make([]any, len(entries))
	configuration := false
	f.mu.Lock()
	for i, entry := range entries {
		if f.broken != nil {
			responses[i] = f.broken
			continue
		}
		switch entry.Type {
		case raft.LogConfiguration:
			f.db.SetConfiguration(entry.Index, entry.Term, entry.Data)
			configuration = true
		case raft.LogCommand:
			responses[i] = f.command(entry)
		default:
			responses[i] = f.stop(&EntryError{Index: entry.Index, Reason: fmt.Sprintf("raft type %d is unknown", entry.Type)})
		}
	}
	f.mu.Unlock()
	f.moved(configuration)
	return responses
}

// command applies one entry of ours.
func (f *fsm) command(entry *raft.Log) any {
	e, err := decodeEntry(entry.Data, &f.names)
	if err != nil {
		var bad *EntryError
		if errors.As(err, &bad) {
			bad.Index = entry.Index
		}
		return f.stop(err)
	}
	e.Index, e.Term = entry.Index, entry.Term
	outcomes, err := f.db.Apply(&e)
	if err != nil {
		return f.stop(fmt.Errorf("raftfsm: apply entry %d: %w", entry.Index, err))
	}
	return outcomes
}

func (f *fsm) stop(err error) error {
	f.broken = err
	f.fatal(err)
	return err
}

// raise moves the state to an index at which Raft takes a snapshot, if no entry
// for the state machine stands between: then the state at both is the same.
func (f *fsm) raise(index, term uint64, conf raft.Configuration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if applied, _ := f.db.Applied(); applied < index && f.broken == nil {
		f.db.SetConfiguration(index, term, raft.EncodeConfiguration(conf))
	}
}

// Snapshot returns a stub: the state file is the snapshot.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return flushSnapshot{}, nil }

type flushSnapshot struct{}

// Persist flushes. Raft cuts the log when it returns, so that everything up to
// the index of the sink must be in the state file by then.
func (flushSnapshot) Persist(sink raft.SnapshotSink) error {
	k, ok := sink.(*snapshotSink)
	if !ok {
		return fmt.Errorf("raftfsm: snapshot sink is a %T", sink)
	}
	return k.flush(context.Background())
}

func (flushSnapshot) Release() {}

// Restore swaps in a received snapshot. Raft goes on with the old state if it
// fails, so that the old state stays whole until the new one is verified.
func (f *fsm) Restore(rc io.ReadCloser) error {
	for {
		w, ok := rc.(raft.ReadCloserWrapper)
		if !ok {
			break
		}
		rc = w.WrappedReadCloser()
	}
	r, ok := rc.(*receivedReader)
	if !ok {
		return fmt.Errorf("raftfsm: restore from a %T", rc)
	}
	defer r.forget()
	f.mu.Lock()
	err := f.db.Replace(r.path)
	f.mu.Unlock()
	if err != nil {
		return fmt.Errorf("raftfsm: restore snapshot at %d: %w", r.meta.Index, err)
	}
	if err := f.logs.installed(r.meta.Index, r.meta.Term); err != nil {
		return fmt.Errorf("raftfsm: restore snapshot at %d: %w", r.meta.Index, err)
	}
	f.moved(true)
	return nil
}
