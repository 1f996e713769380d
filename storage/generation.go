package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	// pageSize of the file: written only by bulk flushes, for which 16 KiB is
	// 1.4 times faster to read than 4 KiB; 64 KiB multiplies small commits.
	pageSize = 16 << 10

	// fillPercent of a page when it splits. Rows are appended in order, so full
	// pages stay full; the rest is room for a late value to grow a row.
	fillPercent = 0.95

	// lockWait is how long Open waits for another process to let go.
	lockWait = 500 * time.Millisecond
)

// mmapSizes are how much address space is tried to be reserved, so that growing
// the file never has to wait for readers. It costs no memory.
var mmapSizes = []int64{1 << 40, 64 << 30, 8 << 30, 0}

// openFunc opens the file below bbolt. Tests put a failing disk there.
type openFunc func(name string, flag int, perm fs.FileMode) (*os.File, error)

// generation is one open file. Replace retires a generation; the last reader
// closes it.
type generation struct {
	bolt *bbolt.DB
	file *os.File // bbolt's own handle

	mu      sync.Mutex // guards the two below
	refs    int
	retired bool

	closed   chan struct{} // closed after closeErr is set
	closeErr error
}

// openGeneration opens or creates a file and locks it.
func openGeneration(path string, open openFunc) (*generation, error) {
	g := &generation{closed: make(chan struct{})}
	var err error
	for _, size := range mmapSizes {
		if size > 0 && (strconv.IntSize < 64 || runtime.GOOS == "windows") { // there the file would grow to it
			continue
		}
		err = guarded(func() error {
			var err error
			g.bolt, err = bbolt.Open(path, 0o600, &bbolt.Options{
				Timeout:         lockWait,
				PageSize:        pageSize,
				FreelistType:    bbolt.FreelistMapType,
				InitialMmapSize: int(size),
				OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
					f, err := open(name, flag, perm)
					g.file = f
					return f, err
				},
			})
			return err
		})
		if !refusesMapping(err) {
			break
		}
	}
	if g.bolt == nil && g.file != nil {
		// After a panic bbolt has left the file open, and locked. After an error
		// it has not, and these fail for that reason.
		_ = unlock(g.file)
		_ = g.file.Close()
	}
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s: stop that one, or choose another directory", ErrLocked, path)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return g, g.check()
}

// refusesMapping tells the system's refusal of so much address space from the
// errors that less of it would not cure.
func refusesMapping(err error) bool {
	var path *fs.PathError
	var number syscall.Errno
	return errors.As(err, &number) && !errors.As(err, &path)
}

// check refuses a file that is shorter than its own count of pages, since reading
// behind its end would be a fault, and one that another process has replaced while
// this one waited for the lock.
func (g *generation) check() error {
	err := g.bolt.View(func(tx *bbolt.Tx) error {
		info, err := g.file.Stat()
		if err != nil {
			return err
		}
		if named, err := os.Stat(g.bolt.Path()); err != nil || !os.SameFile(info, named) {
			return errors.Join(fmt.Errorf("%w: %s was replaced", ErrLocked, g.bolt.Path()), err)
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%s is cut off: %d bytes of %d", g.bolt.Path(), info.Size(), tx.Size())
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, g.bolt.Close())
	}
	return nil
}

// acquire keeps the file open until release. It is false once retired.
func (g *generation) acquire() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.retired {
		return false
	}
	g.refs++
	return true
}

func (g *generation) release() {
	g.mu.Lock()
	g.refs--
	last := g.retired && g.refs == 0
	g.mu.Unlock()
	if last {
		go g.close() // its end is seen by whoever waits for closed
	}
}

// retire lets nobody in any more and closes the file once the last reader has
// left. closed tells when.
func (g *generation) retire() {
	g.mu.Lock()
	idle := !g.retired && g.refs == 0
	g.retired = true
	g.mu.Unlock()
	if idle {
		g.close()
	}
}

func (g *generation) close() {
	g.closeErr = g.bolt.Close()
	close(g.closed)
}

// syncDir makes the name of a new or renamed file last.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
