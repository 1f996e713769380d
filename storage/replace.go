package storage

import (
	"errors"
	"fmt"
	"os"
)

// Replace makes the file at path the state, and takes it over: it is renamed to
// the DB's own path, so it must be on the same file system. The file is verified
// first; a damaged one, or one of another cluster, is refused and changes
// nothing. The head is dropped. Readers that have begun go on reading the old
// file, which the last of them closes.
func (db *DB) Replace(path string) error {
	f, err := VerifyFile(path)
	if err != nil {
		return err
	}
	db.turn <- struct{}{}
	defer func() { <-db.turn }()
	if err := db.stopped(); err != nil {
		return err
	}
	if own, ok := db.Cluster(); ok && !own.same(f.Cluster) {
		return fmt.Errorf("%w: %q (precision %d), this is %q (precision %d), or the widths of their tiers differ",
			ErrCluster, f.Cluster.ID, f.Cluster.Precision, own.ID, own.Precision)
	}
	gen, err := openGeneration(path, db.openFile)
	if err != nil {
		return err
	}
	l, err := gen.load()
	if err == nil {
		err = gen.file.Sync()
	}
	if err == nil {
		err = os.Rename(path, db.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", db.path, err), gen.bolt.Close())
	}
	if err := syncDir(db.path); err != nil {
		// Which file a restart would find is not known.
		return errors.Join(db.fail(err), gen.bolt.Close())
	}
	db.mu.Lock()
	old, head := db.gen, db.current
	db.adopt(gen, l)
	if db.keepHead {
		db.current = head
	}
	db.advance(l.state.index, l.state.term)
	db.mu.Unlock()
	old.retire()
	db.log.Info("state replaced", "path", db.path, "index", f.Index)
	return nil
}

// same reports whether two states can be of one cluster: its retention may have
// changed between them.
func (c Cluster) same(o Cluster) bool {
	return c.ID == o.ID && c.Precision == o.Precision && c.Tiers.SameWidths(o.Tiers)
}

func (c Cluster) equal(o Cluster) bool {
	return string(c.append(nil)) == string(o.append(nil))
}
