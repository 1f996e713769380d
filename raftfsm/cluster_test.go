package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCluster is members with real files on loopback, which reach each other
// through the real upgrade transport (or raft's in-memory one) and ask each
// other in memory.
type testCluster struct {
	t       testing.TB
	inmem   bool
	tune    func(*Options)
	members []*testMember

	mu     sync.Mutex // guards the two below
	byAddr map[string]*testMember
	cut    map[string]bool // addresses behind a partition
}

type testMember struct {
	c        *testCluster
	id       string
	dir      string
	addr     string
	listener net.Listener // held between runs, so that nobody takes the port

	mu   sync.Mutex // guards the three below
	node *Node
	http *http.Server
	mem  *raft.InmemTransport
}

// newCluster prepares n members, "a", "b" …, and starts none.
func newCluster(t testing.TB, n int, tune func(*Options)) *testCluster {
	return makeCluster(t, n, false, tune)
}

// newInmemCluster is one without a socket, which also runs in a synctest bubble.
func newInmemCluster(t testing.TB, n int, tune func(*Options)) *testCluster {
	return makeCluster(t, n, true, tune)
}

func makeCluster(t testing.TB, n int, inmem bool, tune func(*Options)) *testCluster {
	c := &testCluster{t: t, inmem: inmem, tune: tune, byAddr: make(map[string]*testMember), cut: make(map[string]bool)}
	for i := range n {
		c.add(string(rune('a' + i)))
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			m.stop()
			if m.listener != nil {
				m.listener.Close()
			}
		}
	})
	return c
}

func (c *testCluster) add(id string) *testMember {
	m := &testMember{c: c, id: id, dir: c.t.TempDir()}
	if c.inmem {
		m.addr = id + ":1"
	} else {
		m.listen("127.0.0.1:0")
		m.addr = m.listener.Addr().String()
	}
	c.members = append(c.members, m)
	c.mu.Lock()
	c.byAddr[m.addr] = m
	c.mu.Unlock()
	return m
}

func (m *testMember) listen(addr string) {
	m.c.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		m.c.t.Fatal(err)
	}
	m.listener = ln
}

func (c *testCluster) addrs() []string {
	var list []string
	for _, m := range c.members {
		list = append(list, m.addr)
	}
	return list
}

// options are those of a member of a cluster that forms from all members.
func (m *testMember) options() Options {
	o := Options{
		Dir: m.dir, ID: m.id, Address: m.addr, Join: m.c.addrs(), BootstrapExpect: len(m.c.members),
		Peers: memPeers{m}, MinFreeDisk: -1, Logger: testLogger(m.c.t),
		Dial: m.dial,
		OnFatal: func(err error) {
			if !errors.Is(err, ErrRemoved) { // the tests that remove members look for it themselves
				m.c.t.Errorf("member %s: fatal: %v", m.id, err)
			}
		},
		Storage: storage.Options{FlushEvery: -1},
	}
	if m.c.inmem {
		o.Transport = m.inmemTransport
	}
	if len(m.c.members) == 1 {
		o.Join, o.BootstrapExpect = nil, 0
	}
	if m.c.tune != nil {
		m.c.tune(&o)
	}
	return o
}

func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("DMT_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (m *testMember) start(tune ...func(*Options)) *Node {
	m.c.t.Helper()
	o := m.options()
	for _, f := range tune {
		f(&o)
	}
	n, err := Open(o)
	if err != nil {
		m.c.t.Fatalf("open %s: %v", m.id, err)
	}
	m.mu.Lock()
	m.node = n
	m.mu.Unlock()
	if m.c.inmem {
		return n
	}
	if m.listener == nil {
		m.listen(m.addr)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /raft", n.UpgradeHandler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	m.mu.Lock()
	m.http = server
	m.mu.Unlock()
	go server.Serve(m.listener) // ends in stop
	return n
}

func (m *testMember) running() *Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

func (m *testMember) end(f func(*Node)) {
	m.mu.Lock()
	n, server := m.node, m.http
	m.node, m.http = nil, nil
	m.mu.Unlock()
	if n == nil {
		return
	}
	f(n)
	if server != nil {
		server.Close()
	}
	m.listener = nil
}

func (m *testMember) kill() { m.end((*Node).Kill) }

func (m *testMember) stop() {
	m.end(func(n *Node) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			m.c.t.Errorf("shut down %s: %v", m.id, err)
		}
	})
}

// eventually waits for a condition, which says what is missing.
func eventually(t testing.TB, within time.Duration, missing func() string) {
	t.Helper()
	if err := until(t.Context(), within, missing); err != nil {
		t.Fatal(err)
	}
}

// until is eventually for goroutines, which must not end the test.
func until(ctx context.Context, within time.Duration, missing func() string) error {
	deadline := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		what := missing()
		if what == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the test ended: %s", what)
		case <-deadline:
			return fmt.Errorf("after %v: %s", within, what)
		}
	}
}

// startAll starts every member that does not run and waits until all are ready.
func (c *testCluster) startAll() {
	c.t.Helper()
	for _, m := range c.members {
		if m.running() == nil {
			m.start()
		}
	}
	c.ready()
}

func (c *testCluster) ready() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, m := range c.members {
		if n := m.running(); n != nil {
			if err := n.WaitReady(ctx); err != nil {
				c.t.Fatalf("member %s: %v", m.id, err)
			}
		}
	}
}

// leader waits for a member that leads and can prove it.
func (c *testCluster) leader() *testMember {
	c.t.Helper()
	var found *testMember
	eventually(c.t, 10*time.Second, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, m := range c.members {
			if n := m.running(); n != nil && n.IsLeader() {
				if _, err := n.ReadIndex(ctx); err == nil {
					found = m
					return ""
				}
			}
		}
		return "no member leads"
	})
	return found
}

func (c *testCluster) followers() []*testMember {
	c.t.Helper()
	leader := c.leader()
	return slices.DeleteFunc(slices.Clone(c.members), func(m *testMember) bool { return m == leader || m.running() == nil })
}

// testStart is a bucket of the present: an old one would be expired by the log
// clock, and rolled up already.
var testStart = time.Now().Unix() / 10 * 10

// testBatch holds n values of one node.
func testBatch(t testing.TB, producer byte, seq uint64, node string, n int) storage.Batch {
	t.Helper()
	s := sketch.New(7)
	for i := range n {
		s.AddInt(int64(seq)*1000 + int64(i))
	}
	b, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return storage.Batch{
		Producer: storage.ProducerID{producer, 1}, Seq: seq, SeenMs: 1 << 50, Hash: uint64(producer)<<32 | seq,
		Deltas: []storage.Delta{{Metric: "m", Node: node, Start: testStart, Sketch: b, Count: uint64(n)}},
	}
}

// ingest sends a batch to whoever leads until it is settled, as a client does.
func (c *testCluster) ingest(b storage.Batch) storage.Outcome {
	c.t.Helper()
	out, err := c.send(b)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *testCluster) send(b storage.Batch) (out storage.Outcome, err error) {
	err = until(c.t.Context(), 15*time.Second, func() string {
		missing := "no member runs"
		for _, m := range c.members {
			n := m.running()
			if n == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			outs, err := n.Ingest(ctx, []storage.Batch{b})
			cancel()
			if err == nil {
				out = outs[0]
				return ""
			}
			missing = fmt.Sprintf("%s: %v", m.id, err)
		}
		return missing
	})
	if err == nil && out.Status != storage.Applied && out.Status != storage.Duplicate {
		err = fmt.Errorf("batch %d of %x was answered %v", b.Seq, b.Producer[0], out.Status)
	}
	return out, err
}

// content is the number of values per node, from the rows themselves.
func content(t testing.TB, db *storage.DB) map[string]uint64 {
	t.Helper()
	counts := make(map[string]uint64)
	_, err := db.Walk(context.Background(), func(r storage.Row) error {
		h, err := sketch.Check(r.Sketch)
		if err == nil {
			counts[r.Node] += h.Count
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// equal waits until every running member holds the wanted values per node, and
// all the same hash of everything.
func (c *testCluster) equal(want map[string]uint64) {
	c.t.Helper()
	eventually(c.t, 20*time.Second, func() string { return c.differs(want) })
}

// differs says in what the content of a running member is not what it should be.
func (c *testCluster) differs(want map[string]uint64) string {
	c.t.Helper()
	full := maps.Clone(want)
	var total uint64
	for _, n := range want {
		total += n
	}
	if total > 0 {
		full[window.AllNodes] = total
	}
	var hash [32]byte
	first := ""
	for _, m := range c.members {
		n := m.running()
		if n == nil {
			continue
		}
		if got := content(c.t, n.Store()); !maps.Equal(got, full) {
			return fmt.Sprintf("member %s holds %v, want %v", m.id, got, full)
		}
		h, _, err := n.Store().Hash(context.Background())
		if err != nil {
			c.t.Fatal(err)
		}
		if first == "" {
			hash, first = h, m.id
		} else if h != hash {
			return fmt.Sprintf("members %s and %s hold the same counts and different content", first, m.id)
		}
	}
	return ""
}
