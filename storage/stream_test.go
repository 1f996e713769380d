package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// streamTo writes a stream to a new file beside the DB's own.
func streamTo(t testing.TB, db *DB) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(db.path), "incoming.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := db.Stream(ctx, f); err != nil {
		t.Fatalf("Stream: %v", err)
	}
	return path
}

func TestStream_SlowReaderBlocksNobody(t *testing.T) {
	db := newDB(t)
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, newDelta("m", "a", 0, 1))))
	mustFlush(t, db)
	r, f, size, err := db.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if f.Index != 2 || f.Cluster.ID != "test" {
		t.Errorf("OpenStream = %+v, want the state at index 2", f)
	}
	first := make([]byte, 100)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	// The reader hangs. Everybody else goes on, and the file grows.
	for i := range uint64(50) {
		var ds []Delta
		for n := range 200 {
			ds = append(ds, newDelta("m", fmt.Sprint(n), int64(i)*10, int64(n), 5))
		}
		mustApply(t, db, batches(3+i, 0, batch(0, 2+i, 0, ds...)))
		mustFlush(t, db)
	}
	rest, err := io.ReadAll(r)
	if err != nil || int64(len(first)+len(rest)) != size {
		t.Fatalf("the stream has %d bytes (%v), want %d", len(first)+len(rest), err, size)
	}
	path := filepath.Join(t.TempDir(), "streamed.db")
	if err := os.WriteFile(path, append(first, rest...), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := VerifyFile(path); err != nil || f.Index != 2 {
		t.Errorf("VerifyFile of the stream = %+v, %v, want index 2", f, err)
	}
}

func TestClose_DoesNotWaitForReaders(t *testing.T) {
	db := newDB(t)
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, newDelta("m", "a", 0, 1))))
	mustFlush(t, db)
	r, _, _, err := db.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		_, err := db.Walk(ctx, func(Row) error {
			once.Do(func() { close(entered) })
			<-leave
			return nil
		})
		left <- err
	}()
	<-entered
	began := time.Now()
	if err := db.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if took := time.Since(began); took > closeWait+5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if _, err := r.Read(make([]byte, 10)); !errors.Is(err, ErrClosed) {
		t.Errorf("Read after Close = %v, want ErrClosed", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	close(leave)
	if err := <-left; !errors.Is(err, ErrClosed) {
		t.Errorf("Walk = %v, want ErrClosed", err)
	}
	<-db.gen.closed // the last reader closed the file
	if err := db.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

func TestStream_CutWhenSlowOrCancelled(t *testing.T) {
	db := newDB(t)
	mustFlush(t, db)
	synctest.Test(t, func(t *testing.T) {
		r, _, _, err := db.OpenStream(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(slowTime + time.Second) // the bubble's clock
		synctest.Wait()
		if _, err := r.Read(make([]byte, 10)); !errors.Is(err, ErrSlow) {
			t.Errorf("Read = %v, want ErrSlow", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		if r, _, _, err = db.OpenStream(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if _, err := r.Read(make([]byte, 10)); !errors.Is(err, context.Canceled) {
			t.Errorf("Read = %v, want context.Canceled", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if db.gen.refs != 0 || len(db.streams) != 0 {
		t.Errorf("%d references and %d streams are left", db.gen.refs, len(db.streams))
	}
}

func TestReplace_ReadersKeepTheOldFile(t *testing.T) {
	db := newDB(t)
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, newDelta("m", "a", 0, 1))))
	mustFlush(t, db)
	path := streamTo(t, db)
	mustApply(t, db, batches(3, 0, batch(0, 2, 0, newDelta("m", "a", 0, 2, 3))))
	mustFlush(t, db)
	old := db.gen
	r, _, size, err := db.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Replace(path); err != nil {
		t.Fatalf("Replace: %v", err)
	}
	if n := countOf(t, db); n != 1 {
		t.Errorf("%d values after the swap, want the 1 of the stream", n)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file was not taken over: %v", err)
	}
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != size {
		t.Errorf("the stream of the old file: %d bytes, %v, want %d", len(b), err, size)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	<-old.closed
	// What is applied now lasts in the new file.
	mustApply(t, db, batches(3, 0, batch(0, 2, 0, newDelta("m", "a", 0, 2, 3))))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, db.path, manual(t))
	defer again.Close()
	if n := countOf(t, again); n != 3 {
		t.Errorf("%d values after a restart, want 3", n)
	}
}

func TestReplace_RefusesForeignAndDamagedFiles(t *testing.T) {
	db := newDB(t)
	mustApply(t, db, batches(2, 0, batch(0, 1, 0, newDelta("m", "a", 0, 1))))
	mustFlush(t, db)
	dir := filepath.Dir(db.path)
	foreign := filepath.Join(dir, "foreign.db")
	other := mustOpen(t, foreign, manual(t))
	e := initEntry()
	e.Cluster.ID = "foreign"
	mustApply(t, other, e)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Replace(foreign); !errors.Is(err, ErrCluster) {
		t.Errorf("Replace with a foreign file = %v, want ErrCluster", err)
	}
	damaged := streamTo(t, db)
	edit(t, damaged, "nodes/10s", nodeKey{0, 0, 0}.append(nil), func(b []byte) []byte { b[3] ^= 1; return b })
	var de *DamagedError
	if err := db.Replace(damaged); !errors.As(err, &de) {
		t.Errorf("Replace with a damaged file = %v, want a DamagedError", err)
	}
	if err := db.Replace(filepath.Join(dir, "absent.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Replace with no file = %v", err)
	}
	for _, path := range []string{foreign, damaged} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a refused file is gone: %v", err)
		}
	}
	if a := mustQuery(t, db, window.Query{Metric: "m"}); a.Count() != 1 {
		t.Errorf("%d values, want 1 as before", a.Count())
	}
}
