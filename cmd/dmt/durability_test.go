package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	durabilityRounds    = 12
	durabilityProducers = 3

	// durabilityAcks is how many flushes must be acknowledged before a round's
	// members are killed, several snapshots' worth of log entries.
	durabilityAcks = 150
)

// TestServe_KilledUnderLoadCountsEverythingOnce kills real processes with
// SIGKILL while batches are on their way, and starts them again, round after
// round: every value must be there once, on every member, in its own bucket.
// Logs are truncated every few entries, so that restarts begin from the
// database, and members that were away longer from a snapshot of another one.
func TestServe_KilledUnderLoadCountsEverythingOnce(t *testing.T) {
	t.Parallel()
	rounds := durabilityRounds
	if testing.Short() {
		rounds = 3
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	members := newProcesses(t, 3)
	for _, m := range members {
		m.start(t)
	}
	books := newLedger(seed)
	for round := range rounds {
		pressure := startProducers(t, books, members, round)
		pressure.await(t, durabilityAcks)
		if round%3 == 2 {
			// One is away for longer than the log reaches back.
			away := members[round%len(members)]
			away.kill(t)
			pressure.await(t, durabilityAcks)
		}
		for _, m := range members {
			m.kill(t)
		}
		for _, m := range members {
			m.start(t)
		}
		pressure.await(t, durabilityProducers)
		pressure.stop(t)
		for _, m := range members {
			if err := books.compare(t.Context(), m.addr); err != nil {
				t.Fatalf("round %d: member %s: %v", round, m.id, err)
			}
		}
	}
	for _, m := range members {
		m.stop(t)
	}
	for _, m := range members {
		if err := books.compareFile(t.Context(), filepath.Join(m.dir, "group-0", "state.db")); err != nil {
			t.Errorf("file of member %s: %v", m.id, err)
		}
	}
	installed := 0
	for _, m := range members {
		installed += m.installed
	}
	if installed == 0 {
		t.Error("no member began from another one's snapshot: the test no longer shows that it may")
	}
	t.Logf("%d rounds, %d values in %d buckets, %d snapshots installed", rounds, books.values, len(books.sketches), installed)
}

// process is one "dmt serve" in a process of its own.
type process struct {
	id, addr, dir string
	args          []string
	cmd           *exec.Cmd // nil while it does not run
	stderr        *lineBuffer
	installed     int // snapshots of other members, in the lives before
}

func newProcesses(t *testing.T, n int) []*process {
	t.Helper()
	addrs, err := freeAddrs(n)
	if err != nil {
		t.Fatal(err)
	}
	var list []*process
	for i, addr := range addrs {
		p := &process{id: memberName(i), addr: addr, dir: filepath.Join(t.TempDir(), memberName(i))}
		p.args = []string{
			"serve", "--id", p.id, "--dir", p.dir, "--addr", addr,
			"--join", strings.Join(addrs, ","), "--bootstrap-expect", fmt.Sprint(n), "--retention", "forever",
			"--snapshot-entries", "8", "--trailing-logs", "2", "--snapshot-interval", "50ms",
		}
		list = append(list, p)
	}
	t.Cleanup(func() {
		for _, p := range list {
			if p.cmd != nil {
				_ = p.cmd.Process.Kill()
				_ = p.cmd.Wait()
			}
			if t.Failed() && p.stderr != nil {
				t.Logf("member %s says:\n%s", p.id, p.stderr)
			}
		}
	})
	return list
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.stderr = &lineBuffer{}
	p.cmd = exec.Command("dmt", p.args...)
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process as a power cut would, unless it does not run.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("member %s is gone already: %v", p.id, err)
	}
	exit := (*exec.ExitError)(nil)
	if err := p.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("member %s ended by itself: %v", p.id, err)
	}
	p.ended()
}

// stop asks the process to end and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("member %s: %v", p.id, err)
	}
	p.ended()
}

// ended closes the books of one life.
func (p *process) ended() {
	p.cmd = nil
	p.installed += strings.Count(p.stderr.String(), `msg="state replaced"`)
}

// cellKey is where a value belongs.
type cellKey struct {
	metric window.Metric
	node   string
	start  int64
}

// ledger is what the members must hold.
type ledger struct {
	random *rand.Rand
	start  int64 // of the first bucket

	mu       sync.Mutex // guards what follows, and random
	sketches map[cellKey]*sketch.Sketch
	values   int
}

const (
	ledgerMetrics = 2
	ledgerNodes   = 12
	ledgerBuckets = 20
)

func newLedger(seed uint64) *ledger {
	return &ledger{
		random:   rand.New(rand.NewPCG(seed, 0)),
		start:    window.TenSeconds.Floor(time.Now().Unix()) - 10*ledgerBuckets,
		sketches: map[cellKey]*sketch.Sketch{},
	}
}

// draw returns a new value and books it as added.
func (l *ledger) draw() (cellKey, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := cellKey{
		metric: window.Metric(fmt.Sprintf("metric_%d", l.random.IntN(ledgerMetrics))),
		node:   fmt.Sprintf("node-%d", l.random.IntN(ledgerNodes)),
		start:  l.start + 10*l.random.Int64N(ledgerBuckets),
	}
	v := l.random.Int64N(2_000_000) - 500_000
	if l.sketches[k] == nil {
		l.sketches[k] = sketch.New(sketch.DefaultPrecision)
	}
	l.sketches[k].AddInt(v)
	l.values++
	return k, v
}

// compare asks one member, which may have no leader, for everything it has.
func (l *ledger) compare(ctx context.Context, addr string) error {
	c, err := client.New([]string{addr}, client.Options{})
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	missing := maps.Clone(l.sketches)
	for m := range ledgerMetrics {
		q := window.Query{
			Metric: window.Metric(fmt.Sprintf("metric_%d", m)), Quantiles: []float64{0.25, 0.5, 0.75},
			ByNode: true, Step: window.TenSeconds.Duration(),
		}
		// A linearizable answer says how far the log is; the one that is
		// compared comes from the member's own state at that point or later.
		now, err := c.Query(ctx, q)
		if err != nil {
			return err
		}
		q.Read = window.Stale
		var own window.Answer
		err = await(fmt.Sprintf("index %d at %s", now.AppliedIndex, addr), func() error {
			if own, err = c.Query(ctx, q); err == nil && own.AppliedIndex < now.AppliedIndex {
				err = fmt.Errorf("at %d", own.AppliedIndex)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range own.Results {
			k := cellKey{q.Metric, r.Node, r.Span.From}
			want := missing[k]
			if want == nil {
				return fmt.Errorf("%v: %d values that nobody added", k, r.Count)
			}
			delete(missing, k)
			if err := sameCell(r, want); err != nil {
				return fmt.Errorf("%v: %w", k, err)
			}
		}
	}
	for k, s := range missing {
		return fmt.Errorf("%v: nothing of %d values (%d buckets are missing)", k, s.Count(), len(missing))
	}
	return nil
}

func sameCell(r window.Result, want *sketch.Sketch) error {
	if r.Count != want.Count() || r.Min != want.Min() || r.Max != want.Max() {
		return fmt.Errorf("count %d, min %v, max %v; want %d, %v, %v", r.Count, r.Min, r.Max, want.Count(), want.Min(), want.Max())
	}
	for _, e := range r.Estimates {
		if q := want.Quantile(e.Q); q.Lower != e.Lower || q.Upper != e.Upper {
			return fmt.Errorf("quantile %v in [%v, %v], want [%v, %v]", e.Q, e.Lower, e.Upper, q.Lower, q.Upper)
		}
	}
	return nil
}

// compareFile compares the bytes of every sketch in the database of a member
// that has stopped.
func (l *ledger) compareFile(ctx context.Context, path string) error {
	db, err := storage.Open(path, storage.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	missing := maps.Clone(l.sketches)
	_, err = db.Walk(ctx, func(r storage.Row) error {
		if r.Node == window.AllNodes {
			return nil
		}
		k := cellKey{r.Metric, r.Node, r.Bucket.Start}
		want := missing[k]
		if want == nil {
			return fmt.Errorf("%v: a row that nobody added", k)
		}
		delete(missing, k)
		b, err := want.MarshalBinary()
		if err == nil && string(b) != string(r.Sketch) {
			err = fmt.Errorf("%v: other bytes than the sketch of the values added", k)
		}
		return err
	})
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%d rows are missing", len(missing))
	}
	return err
}

// producers are clients that add, flush and count what is acknowledged.
type producers struct {
	acks    atomic.Int64
	done    context.CancelFunc
	workers sync.WaitGroup
	errs    chan error
}

func startProducers(t *testing.T, books *ledger, members []*process, round int) *producers {
	t.Helper()
	ctx, done := context.WithCancel(t.Context())
	l := &producers{done: done, errs: make(chan error, durabilityProducers)}
	for p := range durabilityProducers {
		// Each producer prefers another member.
		var addrs []string
		for i := range members {
			addrs = append(addrs, members[(i+p+round)%len(members)].addr)
		}
		c, err := client.New(addrs, client.Options{Timeout: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		l.workers.Go(func() {
			if err := l.produce(ctx, c, books); err != nil {
				l.errs <- fmt.Errorf("producer %d: %w", p, err)
			}
		})
	}
	return l
}

// produce adds values until ctx ends, and then waits until all are counted.
func (l *producers) produce(ctx context.Context, c *client.Client, books *ledger) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*patience)
	defer cancel()
	recorders := map[string]*client.Recorder{}
	for ctx.Err() == nil {
		for range 50 {
			k, v := books.draw()
			if recorders[k.node] == nil {
				recorders[k.node] = c.Recorder(k.node, client.RecorderOptions{})
			}
			recorders[k.node].AddIntAt(string(k.metric), time.Unix(k.start, 0), v)
		}
		if err := c.Flush(last); err != nil {
			return err
		}
		l.acks.Add(1)
	}
	return c.Close(last)
}

// await waits for n further acknowledgements.
func (l *producers) await(t *testing.T, n int64) {
	t.Helper()
	want := l.acks.Load() + n
	err := await("acknowledgements", func() error {
		select {
		case err := <-l.errs:
			t.Fatal(err)
		default:
		}
		if have := l.acks.Load(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// stop returns when every value that was added is acknowledged.
func (l *producers) stop(t *testing.T) {
	t.Helper()
	l.done()
	l.workers.Wait()
	close(l.errs)
	for err := range l.errs {
		t.Fatal(err)
	}
}
