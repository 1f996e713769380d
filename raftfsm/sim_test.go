package raftfsm

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

var (
	simSeed  = flag.Uint64("dmt.seed", 0, "simulate this seed only, and print its plan")
	simSeeds = flag.Int("dmt.seeds", 0, "simulate this many seeds from 1 on; 0 is 30, or 6 with -short")
)

// simSeedList is what the flags ask for.
func simSeedList() []uint64 {
	if *simSeed != 0 {
		return []uint64{*simSeed}
	}
	n := *simSeeds
	if n == 0 {
		n = 30
		if testing.Short() {
			n = 6
		}
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i) + 1
	}
	return list
}

// sim is three members with real files and production timeouts on a network
// that loses, delays, doubles and reorders, in a bubble of fake time. Writers and
// readers use it while a plan breaks it. What they saw is judged in
// sim_check_test.go.
type sim struct {
	plan    simPlan
	plant   simPlant
	net     *simNet
	dir     string
	members []*simMember
	addrs   []string
	began   time.Time
	book    *simBook

	faults, installs atomic.Int64
	terms            sync.Map // that entries were applied of
	hashes           sync.Map // of the content, by index

	mu   sync.Mutex // guards errs
	errs []error
}

type simMember struct {
	id, addr, dir string
	disk          atomic.Int64 // how long a write to the log takes, nanoseconds

	db *storage.DB // of the last run; for the state machine's goroutine

	mu   sync.Mutex // guards node
	node *Node
}

func (m *simMember) running() *Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// simResult is what is known of a simulation when it is over.
type simResult struct {
	plan                    simPlan
	err                     error // the first that went wrong
	acked, reads            int
	faults, installs, terms int64
	sent, lost, doubled     uint64
	history                 *simBook
}

// runSim simulates one seed with a bug planted, or none.
func runSim(t *testing.T, seed uint64, plant simPlant) (r simResult) {
	t.Helper()
	dir := simDir(t)
	synctest.Test(t, func(t *testing.T) {
		s := &sim{plan: newSimPlan(seed), plant: plant, net: newSimNet(seed), dir: dir, book: newSimBook()}
		for _, id := range []string{"a", "b", "c"} {
			m := &simMember{id: id, addr: id + ":1", dir: filepath.Join(dir, id)}
			s.members, s.addrs = append(s.members, m), append(s.addrs, m.addr)
			s.net.nodes[m.addr] = m.running
		}
		s.run()
		r = s.result()
	})
	return r
}

// simDir is in memory where that is possible: a simulated crash ends a process,
// not a machine, so that nothing depends on what an fsync did.
func simDir(t *testing.T) string {
	t.Helper()
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "dmt-sim-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *sim) run() {
	defer func() {
		for _, m := range s.members {
			s.end(m, func(n *Node) error { n.Kill(); return nil })
		}
		s.net.close()
	}()
	for _, m := range s.members {
		s.start(m)
	}
	if !s.ready() {
		return
	}
	s.began = time.Now()
	var tracks, load sync.WaitGroup
	stop := s.startLoad(&load)
	tracks.Go(func() { s.runTrack(s.plan.net) })
	tracks.Go(func() { s.runTrack(s.plan.members) })
	tracks.Wait()
	s.net.heal(s.addrs)
	for _, m := range s.members {
		m.disk.Store(0)
		s.start(m)
	}
	close(stop)
	load.Wait()
	if !s.failed() && s.ready() {
		s.checkEnd()
	}
	if n := s.installs.Load(); n > simMaxInstalls {
		s.fail("%d installs: the same snapshot again and again", n)
	}
}

// simMaxInstalls is far above what a plan explains; usually it is under ten.
const simMaxInstalls = 40

func (s *sim) result() simResult {
	r := simResult{plan: s.plan, history: s.book, faults: s.faults.Load(), installs: s.installs.Load()}
	s.terms.Range(func(any, any) bool { r.terms++; return true })
	r.acked, r.reads = s.book.size()
	r.sent, r.lost, r.doubled = s.net.sent, s.net.lost, s.net.doubled
	if len(s.errs) > 0 {
		r.err = s.errs[0]
	}
	return r
}

// fail notes what went wrong. The rest of the run is cut short.
func (s *sim) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, fmt.Errorf("at %v: %w", time.Since(s.began).Round(time.Millisecond), fmt.Errorf(format, args...)))
}

func (s *sim) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.errs) > 0
}

// ready waits until every member is.
func (s *sim) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, m := range s.members {
		n := m.running()
		if n == nil {
			return false
		}
		if err := n.WaitReady(ctx); err != nil {
			s.fail("member %s is not ready after all faults are healed: %w", m.id, err)
			return false
		}
	}
	return true
}

func (s *sim) start(m *simMember) {
	if m.running() != nil || s.failed() {
		return
	}
	n, err := Open(Options{
		Dir: m.dir, ID: m.id, Address: m.addr, Join: s.addrs, BootstrapExpect: len(s.members),
		Peers: simPeers{s.net, m.addr}, MinFreeDisk: -1, Logger: testLogger(nil),
		Transport:    func(Identity) (raft.Transport, error) { return s.net.listen(m.addr), nil },
		OnFatal:      func(err error) { s.fail("member %s stops: %w", m.id, err) },
		TrailingLogs: s.plan.trailing, SnapshotEntries: s.plan.snapshots, SnapshotInterval: 500 * time.Millisecond,
		Storage: storage.Options{FlushEvery: s.plan.flushEvery},
		opened:  func(db *storage.DB) { s.opened(m, db) },
		machine: func(f raft.FSM) raft.FSM { return s.machine(m, f) },
		writing: func() {
			if d := m.disk.Load(); d > 0 {
				s.net.sleep(time.Duration(d))
			}
		},
	})
	if err != nil {
		s.fail("open %s: %w", m.id, err)
		return
	}
	m.mu.Lock()
	m.node = n
	m.mu.Unlock()
}

func (s *sim) end(m *simMember, how func(*Node) error) {
	m.mu.Lock()
	n := m.node
	m.node = nil
	m.mu.Unlock()
	if n == nil {
		return
	}
	if err := how(n); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.fail("member %s ends: %w", m.id, err)
	}
}

// opened makes flushes take time, and plants bugs of storage.
func (s *sim) opened(m *simMember, db *storage.DB) {
	m.db = db
	takes := int64(s.plan.flushTakes)
	*storageHook[func()](db, "onFrozen") = func() { s.net.sleep(time.Duration(takes)) }
	if s.plant.storage != "" {
		*storageHook[bool](db, s.plant.storage) = true
	}
}

// storageHook reaches a field that storage has for tests.
func storageHook[T any](db *storage.DB, name string) *T {
	field := reflect.ValueOf(db).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() {
		panic("storage has no test hook " + name + " any more")
	}
	return (*T)(unsafe.Pointer(field.UnsafeAddr()))
}

// machine counts installs and terms, and plants bugs of the state machine.
func (s *sim) machine(m *simMember, f raft.FSM) raft.FSM {
	if s.plant.machine != nil {
		f = s.plant.machine(f.(raft.BatchingFSM))
	}
	return &simCounts{f.(raft.BatchingFSM), s, m}
}

// compare compares the content of a member with that of the first that came to
// the same index.
func (s *sim) compare(m *simMember) {
	h, index, err := m.db.Hash(context.Background())
	if err != nil {
		if !errors.Is(err, storage.ErrClosed) {
			s.fail("hash of %s: %w", m.id, err)
		}
		return
	}
	if first, loaded := s.hashes.LoadOrStore(index, h); loaded && first != h {
		s.fail("member %s differs from another at index %d", m.id, index)
	}
}

// role is the member that a fault hits.
func (s *sim) role(f simFault) *simMember {
	var leader *simMember
	var term uint64
	for _, m := range s.members {
		if n := m.running(); n != nil && n.IsLeader() && n.raft.CurrentTerm() > term {
			leader, term = m, n.raft.CurrentTerm()
		}
	}
	if leader == nil {
		return s.members[f.pick]
	}
	if f.leader {
		return leader
	}
	others := s.others(leader)
	return others[f.pick%len(others)]
}

func (s *sim) others(m *simMember) (list []*simMember) {
	for _, o := range s.members {
		if o != m {
			list = append(list, o)
		}
	}
	return list
}

// TestSim_Seeds holds the promises of the package over every seed.
func TestSim_Seeds(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sum simResult
	began := time.Now()
	t.Cleanup(func() {
		t.Logf("%d batches, %d reads, %d faults, %d installs, %d terms; %d messages, %d lost, %d twice; %v",
			sum.acked, sum.reads, sum.faults, sum.installs, sum.terms, sum.sent, sum.lost, sum.doubled, time.Since(began).Round(time.Millisecond))
	})
	for _, seed := range simSeedList() {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			r := runSim(t, seed, simPlant{})
			if r.err == nil {
				r.err = r.history.linearizable()
			}
			if *simSeed != 0 {
				t.Log(r.plan)
			}
			if r.err != nil {
				t.Errorf("%v\n%vreplay: go test ./raftfsm -run TestSim_Seeds -dmt.seed=%d", r.err, r.plan, seed)
			}
			t.Logf("%d batches, %d reads, %d faults, %d installs, %d terms", r.acked, r.reads, r.faults, r.installs, r.terms)
			mu.Lock()
			defer mu.Unlock()
			sum.acked, sum.reads = sum.acked+r.acked, sum.reads+r.reads
			sum.faults, sum.installs, sum.terms = sum.faults+r.faults, sum.installs+r.installs, sum.terms+r.terms
			sum.sent, sum.lost, sum.doubled = sum.sent+r.sent, sum.lost+r.lost, sum.doubled+r.doubled
		})
	}
}

// The same seed plans the same faults and gives the n-th message of a link the
// same fate; another seed does not.
func TestSim_ASeedIsAPlan(t *testing.T) {
	fates := func(seed uint64) (list []simFate) {
		n := newSimNet(seed)
		for i := range 200 {
			if i == 100 {
				n.setWeather(simStorm)
			}
			list = append(list, n.fate("a:1", "b:1"), n.fate("b:1", "a:1"))
		}
		return list
	}
	if a, b := newSimPlan(7).String(), newSimPlan(7).String(); a != b {
		t.Errorf("two plans of one seed:\n%s%s", a, b)
	}
	if newSimPlan(7).String() == newSimPlan(8).String() {
		t.Error("two seeds have one plan")
	}
	if !reflect.DeepEqual(fates(7), fates(7)) || reflect.DeepEqual(fates(7), fates(8)) {
		t.Error("the fate of messages is not a function of the seed")
	}
}
