package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
)

const (
	// lockWait is how long open waits for the file to become free: a process
	// that is restarted may begin before its predecessor is quite gone.
	lockWait = 250 * time.Millisecond

	// perTransaction bounds how much Rewrite puts into one transaction.
	perTransaction = 4 << 20
)

// table holds every record. The name carries the version of the layout.
var table = []byte("unsent-1")

// file is an open spool.
type file struct {
	dir string
	db  *bolt.DB // nil once closed
}

func (f *file) path(name string) string { return filepath.Join(f.dir, name) }

// open reads the spool in dir, and then writes what it has read into a new
// file. So the file that is written to is always sound and small, whatever
// became of the old one: that one is only read.
func open(dir string) (*file, record.Found, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, record.Found{}, fmt.Errorf("spool: %w", err)
	}
	f := &file{dir: dir}
	for {
		old, err := f.lock()
		if err != nil {
			return nil, record.Found{}, err
		}
		if old == nil {
			continue // it was replaced while we waited for it
		}
		found := old.read(f.path(FileName))
		f.db = old.db
		if len(found.Damage) > 0 {
			if err := f.preserve(); err != nil {
				old.close()
				return nil, record.Found{}, err
			}
		}
		_, err = f.Rewrite(found.Records)
		old.close() // of the new file Rewrite has taken hold before
		if err != nil {
			_ = f.Close() // of the error the caller hears
			return nil, record.Found{}, err
		}
		return f, found, nil
	}
}

// preserve keeps the damaged file under another name.
func (f *file) preserve() error {
	if err := os.Remove(f.path(DamagedName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	if err := os.Link(f.path(FileName), f.path(DamagedName)); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Commit implements record.Store.
func (f *file) Commit(put []record.Record, remove [][]byte) error {
	err := guarded(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			t := tx.Bucket(table)
			for _, k := range remove {
				if err := t.Delete(k); err != nil {
					return err
				}
			}
			return putAll(t, put)
		})
	})
	if err != nil {
		return fmt.Errorf("spool: %s: %w", f.path(FileName), err)
	}
	return nil
}

func putAll(t *bolt.Bucket, put []record.Record) error {
	for _, r := range put {
		if err := t.Put(r.Key(), r.AppendValue(nil)); err != nil {
			return err
		}
	}
	return nil
}

// Rewrite implements record.Store. The new file is locked before it takes the
// place of the old one, so nobody else gets in between.
func (f *file) Rewrite(all []record.Record) (swapped bool, err error) {
	fresh, err := f.write(all)
	if err != nil {
		return false, fmt.Errorf("spool: %s: %w", f.path(newName), err)
	}
	if err := os.Rename(f.path(newName), f.path(FileName)); err != nil {
		_ = fresh.Close() // the rename is what failed
		return false, fmt.Errorf("spool: %w", err)
	}
	old := f.db
	f.db = fresh
	if old != nil {
		// Nothing was written to it that matters any more. It may be what is
		// broken, too.
		_ = guarded(old.Close)
	}
	if err := syncDir(f.dir); err != nil {
		return true, fmt.Errorf("spool: %s: %w", f.dir, err)
	}
	return true, nil
}

// write makes a new file of records, durable when it returns.
func (f *file) write(all []record.Record) (*bolt.DB, error) {
	if err := os.Remove(f.path(newName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	db, err := bolt.Open(f.path(newName), 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType, NoSync: true})
	if err != nil {
		return nil, err
	}
	err = guarded(func() error {
		if err := fill(db, all); err != nil {
			return err
		}
		return db.Sync()
	})
	if err != nil {
		_ = guarded(db.Close) // the file is given up
		return nil, err
	}
	db.NoSync = false
	return db, nil
}

func fill(db *bolt.DB, all []record.Record) error {
	for first := true; first || len(all) > 0; first = false {
		err := db.Update(func(tx *bolt.Tx) error {
			t, err := tx.CreateBucketIfNotExists(table)
			if err != nil {
				return err
			}
			for size := 0; size < perTransaction && len(all) > 0; all = all[1:] {
				v := all[0].AppendValue(nil)
				size += len(v)
				if err := t.Put(all[0].Key(), v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Close implements record.Store.
func (f *file) Close() error {
	if f.db == nil {
		return nil
	}
	err := guarded(f.db.Close)
	f.db = nil
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// locked tells whether an error of bolt.Open means that somebody else has the
// file.
func locked(err error) bool { return errors.Is(err, bolterrors.ErrTimeout) }
