package storage

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// failing opens a DB whose disk can be made to fail: the device takes the place
// of the open file, below bbolt, which is not changed. Writes to /dev/full fail
// with "no space left"; those to /dev/null succeed, and the sync after them
// fails.
func failing(t *testing.T) (db *DB, fail func(device string), fatal chan error) {
	t.Helper()
	var file *os.File
	fatal = make(chan error, 8)
	db, err := openWith(filepath.Join(t.TempDir(), "state.db"), Options{
		FlushEvery: -1, OnFatal: func(err error) { fatal <- err },
	}, func(name string, flag int, perm os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, perm)
		file = f
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, db, initEntry())
	mustApply(t, db, batches(2, 2000, batch(0, 1, 0, newDelta("m", "a", 0, 1, 2))))
	mustFlush(t, db)
	return db, func(device string) {
		t.Helper()
		d, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := syscall.Dup3(int(d.Fd()), int(file.Fd()), syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}, fatal
}

func TestFatal_FirstFailedWriteStopsEverything(t *testing.T) {
	for device, cause := range map[string]error{"/dev/full": syscall.ENOSPC, "/dev/null": syscall.EINVAL} {
		t.Run(filepath.Base(device), func(t *testing.T) {
			db, fail, fatal := failing(t)
			path := db.path
			crashed := filepath.Join(t.TempDir(), "crashed.db")
			copyFile(t, path, crashed)
			mustApply(t, db, batches(3, 3000, batch(0, 2, 0, newDelta("m", "a", 0, 3))))
			waiting := make(chan error, 1)
			go func() { waiting <- db.WaitApplied(ctx, 100) }()
			fail(device)
			if err := db.Flush(ctx); !errors.Is(err, ErrFailed) || !errors.Is(err, cause) {
				t.Fatalf("Flush = %v, want ErrFailed for %v", err, cause)
			}
			select {
			case err := <-fatal:
				if !errors.Is(err, cause) {
					t.Errorf("OnFatal(%v), want %v", err, cause)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("OnFatal was not called")
			}
			if err := <-waiting; !errors.Is(err, ErrFailed) {
				t.Errorf("WaitApplied = %v, want ErrFailed", err)
			}
			everythingFails(t, db)
			if err := db.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("Close = %v, want ErrFailed", err)
			}
			if len(fatal) > 0 {
				t.Error("OnFatal was called again")
			}
			again := mustOpen(t, crashed, manual(t))
			defer again.Close()
			if n := countOf(t, again); n != 2 {
				t.Errorf("%d values in the file, want the 2 that were flushed", n)
			}
		})
	}
}

// everythingFails asks every method once.
func everythingFails(t *testing.T, db *DB) {
	t.Helper()
	_, apply := db.Apply(batches(4, 4000))
	_, query := db.Query(ctx, ask(t, window.Query{Metric: "m"}))
	_, _, metrics := db.Metrics(ctx)
	_, _, nodes := db.Nodes(ctx, "m")
	_, walk := db.Walk(ctx, func(Row) error { return nil })
	_, _, hash := db.Hash(ctx)
	_, _, _, stream := db.OpenStream(ctx)
	for name, err := range map[string]error{
		"Apply": apply, "Query": query, "Metrics": metrics, "Nodes": nodes, "Walk": walk, "Hash": hash, "OpenStream": stream,
		"Flush": db.Flush(ctx), "WaitApplied": db.WaitApplied(ctx, 1),
	} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s = %v after the failure, want ErrFailed", name, err)
		}
	}
}
