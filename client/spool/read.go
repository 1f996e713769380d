package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
)

// held is the file that was found: locked, and open as far as that was possible.
type held struct {
	raw    *os.File
	db     *bolt.DB // nil where bbolt could not open it
	damage error    // why not
}

// lock opens the file and takes its lock. It returns nil when the file turned
// out to be one that somebody has replaced meanwhile.
func (f *file) lock() (*held, error) {
	h := &held{}
	err := guarded(func() (err error) {
		h.db, err = bolt.Open(f.path(FileName), 0o600, &bolt.Options{
			Timeout: lockWait,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				raw, err := os.OpenFile(name, flag, mode)
				h.raw = raw
				return raw, err
			},
		})
		return err
	})
	switch {
	case err == nil:
		if !f.current(h.raw) {
			h.close()
			return nil, nil
		}
	case locked(err):
		return nil, fmt.Errorf("%s: %w", f.path(FileName), ErrLocked)
	case h.raw == nil:
		return nil, fmt.Errorf("spool: %w", err) // no such right, or no such place
	default:
		h.db, h.damage = nil, err
	}
	return h, nil
}

// current tells whether raw is what the path names.
func (f *file) current(raw *os.File) bool {
	a, err := raw.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(f.path(FileName))
	return err == nil && os.SameFile(a, b)
}

// read returns all records that read well. A page that bbolt cannot follow ends
// the reading; a record that is damaged in itself is left out.
func (h *held) read(path string) (found record.Found) {
	damaged := func(err error) {
		found.Damage = append(found.Damage, fmt.Errorf("spool: %s: %w", path, err))
	}
	if h.db == nil {
		damaged(h.damage)
		return found
	}
	err := guarded(func() error {
		return h.db.View(func(tx *bolt.Tx) error {
			if err := h.whole(tx); err != nil {
				damaged(err) // and read what there is
			}
			t := tx.Bucket(table)
			if t == nil {
				if k, _ := tx.Cursor().First(); k != nil {
					return fmt.Errorf("holds %q, which this program does not know", k)
				}
				return nil
			}
			var last []byte
			c := t.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if bytes.Compare(k, last) <= 0 {
					return errors.New("keys out of order")
				}
				last = bytes.Clone(k)
				r, err := record.Decode(k, v)
				if err != nil {
					damaged(fmt.Errorf("record %x: %w", k, err))
					continue
				}
				found.Records = append(found.Records, r)
			}
			return nil
		})
	})
	if err != nil {
		damaged(fmt.Errorf("%w; %d records lie before", err, len(found.Records)))
	}
	return found
}

// whole compares the length of the file with what its pages need.
func (h *held) whole(tx *bolt.Tx) error {
	info, err := h.raw.Stat()
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("the file ends at byte %d of %d", info.Size(), tx.Size())
	}
	for i := range int64(2) {
		if err := h.checkMeta(i * int64(tx.DB().Info().PageSize)); err != nil {
			return fmt.Errorf("meta page %d: %w: the last commit may be undone", i, err)
		}
	}
	return nil
}

// checkMeta verifies one of the two pages that each name a state of the file.
// bbolt does with one of them, and then shows the state before without a word.
//
//	0              16                              72
//	+--------------+-------------------------------+----------------------+
//	| page header  | magic, version, ... txid      | FNV-1a of the 56, u64|
//	+--------------+-------------------------------+----------------------+
func (h *held) checkMeta(at int64) error {
	var page [80]byte
	if _, err := h.raw.ReadAt(page[:], at); err != nil {
		return err
	}
	sum := fnv.New64a()
	sum.Write(page[16:72]) // never fails, see hash.Hash
	if sum.Sum64() != binary.NativeEndian.Uint64(page[72:]) {
		return errors.New("checksum")
	}
	return nil
}

// close lets go of the file, unless Rewrite has. What is wrong with it is known.
func (h *held) close() {
	if h.db != nil {
		_ = guarded(h.db.Close)
	} else if h.raw != nil {
		_ = h.raw.Close()
	}
}

// guarded runs fn and turns a panic into an error. bbolt panics on some damaged
// pages, and a page behind the end of the file is a fault when it is read.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("page structure: %v", r)
		}
	}()
	return fn()
}
