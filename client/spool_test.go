package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/client/internal/record"
	"github.com/distributed-median-tracker/dmt/client/spool"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
)

func TestRecord_TakesTheLargestBatch(t *testing.T) {
	if record.MaxEntries < batchEntries {
		t.Errorf("a record holds %d entries, a batch %d", record.MaxEntries, batchEntries)
	}
}

// lives runs one process after the other against one fake cluster and one spool.
type lives struct {
	f   *fake
	w   *wire
	dir string
}

func newLives(t *testing.T) *lives {
	f := newFake()
	t.Cleanup(func() { f.check(t) })
	return &lives{f: f, w: newWire(f, "a:1", "b:1", "c:1"), dir: t.TempDir()}
}

func (l *lives) start(t *testing.T, o Options) *Client {
	t.Helper()
	o.HTTPClient, o.Spool = l.w, l.dir
	c, err := New([]string{"a:1", "b:1", "c:1"}, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kill ends a client as kill -9 would: nothing more is written or sent.
func kill(c *Client) {
	c.mu.Lock()
	c.closed = true
	c.end()
	c.mu.Unlock()
	c.work.Wait()
	if c.spool != nil {
		c.spool.store.Close() // the system closes files, too
	}
	c.transport.close() // and connections
}

func TestSpool_SurvivesAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		l.w.make(func(string, string) trouble { return lost })
		for life := range 4 {
			c := l.start(t, Options{})
			rec := c.Recorder("n1", RecorderOptions{})
			rec.AddInts("m", []int64{1, 2, 3})
			c.MedianTracker("m").AddValue("n2", int64(life)) // shares the spool
			if err := c.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if life == 2 {
				time.Sleep(3*time.Minute + time.Second)
			}
			rec.AddInt("m", 99) // in the open bucket: lost with the process
			kill(c)
		}
		l.w.make(nil)
		c := l.start(t, Options{})
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := l.f.sum("m"); n != 16 {
			t.Errorf("%d values arrived, want 16", n)
		}
		if s := c.Stats(); s.Recovered != 16 || s.AckedValues != 16 || s.PendingBytes != 0 {
			t.Errorf("Stats = %+v", s)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		empty(t, l.dir)
	})
}

// empty fails the test if a spool holds anything.
func empty(t *testing.T, dir string) {
	t.Helper()
	store, found, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if len(found.Records) > 0 || len(found.Damage) > 0 {
		t.Errorf("the spool holds %d records, damage %v", len(found.Records), found.Damage)
	}
}

// TestSpool_CountsExactlyOnce kills at random moments, in every kind of
// trouble, and compares every bucket in the end.
func TestSpool_CountsExactlyOnce(t *testing.T) {
	seeds := uint64(25)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { spoolHistory(t, seed) })
	}
}

func spoolHistory(t *testing.T, seed uint64) {
	l := newLives(t)
	rng, bad, busy := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)), rand.New(rand.NewPCG(seed, 3))
	badness := rng.IntN(100)
	l.w.make(func(string, string) trouble {
		if bad.IntN(100) < badness {
			return trouble(1 + bad.IntN(int(repeated)))
		}
		return none
	})
	l.f.admit = func(b *dmtv1.Batch) error {
		switch n := busy.IntN(12); {
		case n == 0 && len(b.GetEntries()) > 1:
			return api.Error(connect.CodeResourceExhausted, api.ErrorDetail{Reason: api.ReasonTooLarge}, "too large")
		case n == 1:
			return api.Error(connect.CodeResourceExhausted, api.ErrorDetail{Reason: api.ReasonOverload, RetryAfterMs: 50}, "busy")
		}
		return nil
	}
	want := make(map[row]uint64)
	at := time.Unix(bucketOf(time.Now()), 0)
	for life := range 12 {
		c := l.start(t, Options{FlushEvery: 2 * time.Second, MaxInFlight: 1 + rng.IntN(8)})
		for range rng.IntN(20) {
			node, start := fmt.Sprint("n", rng.IntN(4)), at.Add(-time.Duration(rng.IntN(40))*10*time.Second)
			c.Recorder(node, RecorderOptions{}).AddIntAt("m", start, int64(life))
			want[row{"m", node, start.Unix()}]++
			if err := c.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(3) == 0 {
				time.Sleep(time.Duration(rng.IntN(8000)) * time.Millisecond)
			}
		}
		if rng.IntN(5) == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(5000))*time.Millisecond)
			if err := c.Close(ctx); err != nil && !errors.As(err, new(*UnsentError)) {
				t.Errorf("seed %d: Close = %v", seed, err)
			}
			cancel()
			continue
		}
		kill(c)
	}
	l.w.make(nil)
	l.f.admit = nil
	c := l.start(t, Options{})
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("seed %d: Close = %v", seed, err)
	}
	for k, n := range want {
		if s := l.f.rows[k]; s == nil || s.Count() != n {
			t.Errorf("seed %d: %v holds %v values, want %d", seed, k, s, n)
		}
	}
	if len(l.f.rows) != len(want) {
		t.Errorf("seed %d: %d buckets, want %d", seed, len(l.f.rows), len(want))
	}
	empty(t, l.dir)
}

func TestSpool_ABatchInDoubtKeepsItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		l.w.make(func(_, procedure string) trouble {
			if procedure == "Ingest" {
				return mute // counted, and nobody learns
			}
			return none
		})
		c := l.start(t, Options{})
		c.Recorder("n1", RecorderOptions{}).AddInts("m", []int64{1, 2, 3})
		if err := c.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if n := l.f.sum("m"); n != 3 {
			t.Fatalf("%d values counted before the kill, want 3", n)
		}
		kill(c)
		l.w.make(nil)
		c = l.start(t, Options{})
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := l.f.sum("m"); n != 3 || len(l.f.batches) != 1 {
			t.Errorf("%d values of %d producers, want 3 of 1", n, len(l.f.batches))
		}
		closeNow(t, c)
	})
}

// TestSpool_IsWrittenBeforeTheNetworkIsUsed looks into the file at the moment
// at which the first request arrives.
func TestSpool_IsWrittenBeforeTheNetworkIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		var c *Client
		seen := 0
		l.f.admit = func(b *dmtv1.Batch) error {
			seen++
			raw, err := os.ReadFile(filepath.Join(l.dir, spool.FileName))
			if err != nil || !bytes.Contains(raw, b.GetEntries()[0].GetSketch()) || !bytes.Contains(raw, b.GetProducer()) {
				t.Errorf("batch %d is not in the spool when it arrives: %v", b.GetSeq(), err)
			}
			return nil
		}
		c = l.start(t, Options{})
		for i := range 10 {
			c.Recorder("n1", RecorderOptions{}).AddInts("m", []int64{int64(i) * 1000, 5, 77777})
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if seen != 10 {
			t.Errorf("%d batches arrived, want 10", seen)
		}
		closeNow(t, c)
	})
}

func TestSpool_ARefusedBatchIsSettledOverAKill(t *testing.T) {
	for _, what := range []trouble{lost, mute} { // the empty batch, or its answer
		synctest.Test(t, func(t *testing.T) {
			l := newLives(t)
			refuse := true
			l.f.admit = func(*dmtv1.Batch) error {
				if refuse {
					l.w.mu.Lock()
					l.w.trouble = func(string, string) trouble { return what }
					l.w.mu.Unlock()
					return api.Error(connect.CodeInvalidArgument, api.ErrorDetail{Reason: api.ReasonPrecision, Field: "batches[0]"}, "no")
				}
				return nil
			}
			c := l.start(t, Options{})
			c.Recorder("n1", RecorderOptions{}).AddInts("m", []int64{1, 2})
			if err := c.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Second)
			kill(c)
			refuse = false
			l.w.make(nil)
			c = l.start(t, Options{})
			if err := c.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			if n := l.f.sum("m"); n != 2 || l.f.empties != 1 {
				t.Errorf("%d values and %d empty batches, want 2 and 1", n, l.f.empties)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
			empty(t, l.dir)
		})
	}
}

func TestSpool_CloseSaysWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		l.w.make(func(string, string) trouble { return lost })
		c := l.start(t, Options{OnDrop: func(d Dropped) { t.Errorf("told of %+v", d) }})
		c.Recorder("n1", RecorderOptions{}).AddInts("m", []int64{1, 2, 3})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := c.Close(ctx)
		u := (*UnsentError)(nil)
		if !errors.As(err, &u) || u.Values != 3 || u.Spooled != 3 || !strings.Contains(err.Error(), "kept in the spool") {
			t.Errorf("Close = %v, want 3 values kept", err)
		}
		if s := c.Stats(); s.Dropped != 0 {
			t.Errorf("%d values dropped", s.Dropped)
		}
		l.w.make(nil)
		c = l.start(t, Options{})
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := l.f.sum("m"); n != 3 {
			t.Errorf("%d values arrived, want 3", n)
		}
	})
}

func TestSpool_OneOwnerAndOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		c := l.start(t, Options{})
		defer closeNow(t, c)
		if _, err := New([]string{"a:1"}, Options{Spool: l.dir}); !errors.Is(err, spool.ErrLocked) {
			t.Errorf("New on a spool in use = %v, want ErrLocked", err)
		}
		if err := c.Recorder("n1", RecorderOptions{Spool: l.dir}).Err(); err != nil {
			t.Errorf("the same spool: %v", err)
		}
		rec := c.Recorder("n1", RecorderOptions{Spool: l.dir + "2"})
		if err := rec.Err(); err == nil || !strings.Contains(err.Error(), "one spool") {
			t.Errorf("another spool: %v", err)
		}
		other, _, w := newTest(t, Options{})
		defer closeNow(t, other)
		w.make(func(string, string) trouble { return lost })
		bad := other.Recorder("n1", RecorderOptions{Spool: l.dir})
		bad.AddInt("m", 1)
		if err := bad.Err(); !errors.Is(err, spool.ErrLocked) {
			t.Errorf("Err of a recorder whose spool is taken = %v", err)
		}
		if err := other.Sync(t.Context()); !errors.Is(err, ErrNoSpool) {
			t.Errorf("Sync without a spool = %v", err)
		}
		// What came before the spool goes into it with the first that has one.
		dir := t.TempDir()
		good := other.Recorder("n2", RecorderOptions{Spool: dir})
		if err := errors.Join(good.Err(), other.Sync(t.Context())); err != nil {
			t.Error(err)
		}
		kill(other)
		_, found, err := record.Open(dir)
		if err != nil || len(found.Records) != 1 {
			t.Errorf("found %+v, %v", found, err)
		}
	})
}

func TestSpool_ForgetsByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		l.w.make(func(_, procedure string) trouble {
			if procedure == "Ingest" {
				return lost
			}
			return none
		})
		c := l.start(t, Options{SpoolAge: time.Hour, MaxInFlight: 1})
		rec := c.Recorder("n1", RecorderOptions{})
		for range 3 { // the first becomes a batch
			rec.AddInts("m", []int64{1, 2})
			if err := c.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Minute)
		}
		time.Sleep(21 * time.Minute)
		if s := c.Stats(); s.Dropped != 2 || !holds(rec.Err(), ReasonAge) && !refusedFor(rec.Err(), ReasonAge) {
			t.Errorf("%d values dropped, Err %v; want those of the second sketch", s.Dropped, rec.Err())
		}
		kill(c)
		l.w.make(nil)
		c = l.start(t, Options{SpoolAge: time.Hour})
		err := c.Flush(t.Context())
		if !refusedFor(err, ReasonAge) || !strings.Contains(err.Error(), "may have been counted") {
			t.Errorf("Flush = %v, want the batch given up", err)
		}
		if n := l.f.sum("m"); n != 2 || c.Stats().Dropped != 2 {
			t.Errorf("%d values arrived, %d dropped; want 2, 2", n, c.Stats().Dropped)
		}
		closeNow(t, c)
	})
}

func TestSpool_DamageIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLives(t)
		l.w.make(func(string, string) trouble { return lost })
		c := l.start(t, Options{})
		for i := range 20 {
			c.Recorder(fmt.Sprint("n", i), RecorderOptions{}).AddInts("m", []int64{1, 2, 3})
		}
		if err := c.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		kill(c)
		path := filepath.Join(l.dir, spool.FileName)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[bytes.LastIndex(raw, []byte("n19"))] = 'x'
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		l.w.make(nil)
		var text bytes.Buffer
		told := 0
		c = l.start(t, Options{Logger: slog.New(slog.NewTextHandler(&text, nil)), OnDrop: func(d Dropped) {
			if d.Reason == ReasonDamaged {
				told++
			}
		}})
		if err := c.Flush(t.Context()); !refusedFor(err, ReasonDamaged) {
			t.Errorf("Flush = %v, want the damage", err)
		}
		synctest.Wait()
		if n := l.f.sum("m"); n != 57 || told != 1 || !strings.Contains(text.String(), "spool was damaged") {
			t.Errorf("%d values arrived, told %d times, log:\n%s", n, told, text.String())
		}
		closeNow(t, c)
	})
}

// faulty is a store whose disk is full at times.
type faulty struct {
	record.Store
	full   bool
	torn   bool // what fails has reached the file all the same
	failed int
}

var errFull = errors.New("no space left on device")

func (s *faulty) Commit(put []record.Record, remove [][]byte) error {
	if s.full {
		s.failed++
		if s.torn {
			if err := s.Store.Commit(put, remove); err != nil {
				return err
			}
		}
		return errFull
	}
	return s.Store.Commit(put, remove)
}

func (s *faulty) Rewrite(all []record.Record) (bool, error) {
	if s.full {
		s.failed++
		return false, errFull
	}
	return s.Store.Rewrite(all)
}

// replaceDisk puts a faulty disk under a client's spool.
func replaceDisk(c *Client, torn bool) *faulty {
	c.spool.writing.Lock()
	defer c.spool.writing.Unlock()
	disk := &faulty{Store: c.spool.store, torn: torn}
	c.spool.store = disk
	return disk
}

func (s *faulty) set(c *Client, full bool) {
	c.spool.writing.Lock()
	defer c.spool.writing.Unlock()
	s.full = full
}

func TestSpool_FullDiskStopsNeitherCountingNorTruth(t *testing.T) {
	for _, torn := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				l := newLives(t)
				l.w.make(func(string, string) trouble { return lost })
				c := l.start(t, Options{})
				disk := replaceDisk(c, torn)
				rec := c.Recorder("n1", RecorderOptions{})
				rec.AddIntAt("m", time.Unix(0, 0), 1) // on disk, not sent
				if err := c.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				disk.set(c, true)
				l.w.make(nil)
				rec.AddIntAt("m", time.Unix(10, 0), 2)
				if err := c.Sync(t.Context()); !errors.Is(err, errFull) {
					t.Errorf("Sync with a full disk = %v", err)
				}
				if err := rec.Err(); !errors.Is(err, errFull) {
					t.Errorf("Err with a full disk = %v", err)
				}
				time.Sleep(5 * time.Minute)
				rec.AddIntAt("m", time.Unix(20, 0), 3) // new: passes
				time.Sleep(time.Minute)
				synctest.Wait()
				if l.f.rows[row{"m", "n1", 20}] == nil {
					t.Error("what is new waits for the disk")
				}
				if killed {
					kill(c)
					c = l.start(t, Options{})
				} else {
					disk.set(c, false)
					time.Sleep(time.Minute)
				}
				err := c.Close(t.Context())
				// A batch that was made smaller under its number is told of, and
				// counted in its smaller form.
				if err != nil && !(killed && torn && refusedFor(err, api.ReasonConflict)) {
					t.Errorf("torn %v, killed %v: Close = %v", torn, killed, err)
				}
				for start := range int64(3) {
					s := l.f.rows[row{"m", "n1", 10 * start}]
					if s != nil && s.Count() > 1 || s == nil && !killed {
						t.Errorf("torn %v, killed %v: bucket %d: %v", torn, killed, start, s)
					}
				}
				if !killed {
					empty(t, l.dir)
				}
			})
		}
	}
}

// TestSpool_WhatTheFileHoldsIsNotSentUnrecorded: the disk fails at the moment
// at which a sketch that is in the file already becomes part of a batch.
func TestSpool_WhatTheFileHoldsIsNotSentUnrecorded(t *testing.T) {
	for _, torn := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newLives(t)
			l.w.make(func(string, string) trouble { return lost })
			c := l.start(t, Options{})
			disk := replaceDisk(c, torn)
			rec := c.Recorder("n1", RecorderOptions{FlushEvery: time.Second})
			rec.AddInt("m", 1)
			if err := c.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			disk.set(c, true)
			l.w.make(nil)
			time.Sleep(2*time.Minute + time.Second/2)
			synctest.Wait()
			if disk.failed == 0 || l.f.sum("m") != 0 {
				t.Errorf("torn %v: %d commits failed, %d values were sent; want some and none", torn, disk.failed, l.f.sum("m"))
			}
			kill(c)
			c = l.start(t, Options{})
			if err := c.Flush(t.Context()); err != nil && !(torn && refusedFor(err, api.ReasonConflict)) {
				t.Error(err)
			}
			if n := l.f.sum("m"); n > 1 || n == 0 && !torn {
				t.Errorf("torn %v: %d values arrived, want 1", torn, n)
			}
			closeNow(t, c)
		})
	}
}
