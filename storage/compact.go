package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// A file of at least compactBytes of which more than half holds nothing is
	// compacted when it is opened. Free pages are used again, so that less than
	// half is not worth the copy.
	compactBytes = 1 << 20

	// compactTx is how many bytes a transaction of the copy holds in memory.
	compactTx = 16 << 20

	compactSuffix = ".compact"
)

// wasteful reports whether a file is worth compacting when it is opened.
func (g *generation) wasteful() bool {
	size, free := g.bytes()
	return size >= compactBytes && free > size/2
}

// bytes returns the size of the file's pages and how much of them holds nothing.
func (g *generation) bytes() (size, free int64) {
	s := g.bolt.Stats()
	// The size of the pages is that of a transaction; the file may be longer.
	err := g.bolt.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	if err != nil {
		return 0, 0 // it is going away
	}
	return size, int64(s.FreePageN+s.PendingPageN) * int64(g.bolt.Info().PageSize)
}

// removeCompacted removes what a crash in the middle of compacting left behind.
func removeCompacted(path string) error {
	if err := os.Remove(path + compactSuffix); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// compacted copies what the file at path holds into a new one, makes that the
// file, and returns it open. The old one stays open and is the caller's to close.
// An error leaves the old file in place, unless it is an errUnknownFile.
func (g *generation) compacted(path string, open openFunc) (*generation, error) {
	temporary := path + compactSuffix
	if err := removeCompacted(path); err != nil {
		return nil, err
	}
	into, err := openGeneration(temporary, open)
	if err != nil {
		return nil, err
	}
	into.bolt.NoSync = true // until all is written
	err = guarded(func() error { return bbolt.Compact(into.bolt, g.bolt, compactTx) })
	if err == nil {
		into.bolt.NoSync = false
		err = into.bolt.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		err = fmt.Errorf("compact %s: %w", path, err)
		return nil, errors.Join(err, into.bolt.Close(), os.Remove(temporary))
	}
	if err := syncDir(path); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errUnknownFile, err), into.bolt.Close())
	}
	return into, nil
}

// errUnknownFile says that which of two files a restart would find is not known.
var errUnknownFile = errors.New("a rename may not last")

// compactAtOpen compacts a file that is more than half empty. One that cannot be
// compacted is used as it is.
func (db *DB) compactAtOpen(g *generation) (*generation, error) {
	if err := removeCompacted(db.path); err != nil {
		db.log.Warn("what is left of compacting cannot be removed", "path", db.path, "error", err)
	}
	if !g.wasteful() {
		return g, nil
	}
	began := time.Now()
	before, _ := g.bytes()
	into, err := g.compacted(db.path, db.openFile)
	if errors.Is(err, errUnknownFile) {
		return nil, errors.Join(err, g.bolt.Close())
	}
	if err != nil {
		db.log.Warn("the file is more than half empty and cannot be compacted", "path", db.path, "error", err)
		return g, nil
	}
	after, _ := into.bytes()
	db.log.Info("compacted", "path", db.path, "before", before, "after", after, "took", time.Since(began))
	return into, g.bolt.Close()
}

// Compact rewrites the file without the space that holds nothing, while queries,
// Apply and streams go on; flushes wait. ctx ends the wait for its turn. The copy
// is synced before it takes the place of the file.
func (db *DB) Compact(ctx context.Context) error {
	select {
	case db.turn <- struct{}{}:
		defer func() { <-db.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := db.stopped(); err != nil {
		return err
	}
	old := db.gen // only who has the turn replaces it
	before, _ := old.bytes()
	into, err := old.compacted(db.path, db.openFile)
	switch {
	case errors.Is(err, errUnknownFile):
		return db.fail(err)
	case err != nil:
		return err
	}
	db.mu.Lock()
	db.gen = into
	db.mu.Unlock()
	old.retire()
	after, _ := into.bytes()
	db.log.Info("compacted", "path", db.path, "before", before, "after", after)
	return nil
}
