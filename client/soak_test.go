package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/client/clustertest"
	"github.com/distributed-median-tracker/dmt/storage"
)

// fleet is what all producers have added, by node and bucket.
type fleet struct {
	cluster *clustertest.Cluster
	dir     string
	stop    chan struct{}
	work    sync.WaitGroup

	mu    sync.Mutex // guards what follows
	want  map[cell]uint64
	lives int
	errs  []error
}

type cell struct {
	metric, node string
	start        int64 // -1 for any
}

func (f *fleet) added(c cell, n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want[c] += n
}

func (f *fleet) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// producer counts until it is stopped: values of one node into known buckets,
// and through a Local into the open one. With a spool it is killed at random
// once all that it has added would survive, and begins again.
func (f *fleet) producer(i int) {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	node, spools := fmt.Sprintf("node-%03d", i), i%5 < 2
	for ended := false; !ended; {
		o := client.Options{FlushEvery: time.Second, MaxInFlight: 1 + i%8}
		if spools {
			o.Spool = filepath.Join(f.dir, node)
		}
		c, err := client.New(f.cluster.Addrs(), o)
		if err != nil {
			f.failed(err)
			return
		}
		f.mu.Lock()
		f.lives++
		f.mu.Unlock()
		ended = f.life(c, rng, node, spools)
	}
}

// life returns true when the producer is to stop.
func (f *fleet) life(c *client.Client, rng *rand.Rand, node string, spools bool) bool {
	rec := c.Recorder(node, client.RecorderOptions{})
	local := rec.Metric("open").Local()
	tick := time.NewTicker(time.Duration(50+rng.IntN(100)) * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			local.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			if err := c.Close(ctx); err != nil {
				f.failed(fmt.Errorf("%s: close: %w", node, err))
			}
			return true
		case now := <-tick.C:
			start := now.Unix() / 10 * 10
			for range 1 + rng.IntN(5) {
				rec.AddIntAt("known", time.Unix(start, 0), rng.Int64N(1_000_000))
				f.added(cell{"known", node, start}, 1)
			}
			for range rng.IntN(300) {
				local.AddInt(rng.Int64N(1_000_000))
				f.added(cell{"open", node, -1}, 1)
			}
			if !spools || rng.IntN(20) > 0 {
				continue
			}
			local.Close()
			if err := c.Sync(context.Background()); err != nil {
				f.failed(fmt.Errorf("%s: sync: %w", node, err))
			}
			client.Kill(c)
			return false
		}
	}
}

// soakTime is how long the soak lasts, and how long a fault does at most.
func soakTime(t *testing.T) (all, fault time.Duration) {
	if s := os.Getenv("DMT_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("DMT_SOAK: %v", err)
		}
		return d, 30 * time.Second
	}
	return 5 * time.Second, time.Second
}

// TestSoak_EveryBucketOnEveryMember has two hundred producers count while
// members are killed, cut off one by one and all together, and producers with
// spools are killed. In the end every bucket of every node holds what was
// added to it, on every member, and nothing of the clients is left. A longer
// one, with faults of up to 30 s: DMT_SOAK=10m go test -run Soak -timeout 30m.
func TestSoak_EveryBucketOnEveryMember(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	all, most := soakTime(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %v", seed, all)
	rng := rand.New(rand.NewPCG(seed, 1))
	// Elections that a busy machine does not start for nothing.
	options := clustertest.Options{}
	options.Raft.TimeoutScale = 1
	f := &fleet{cluster: clustertest.Start(t, 3, options), dir: t.TempDir(), stop: make(chan struct{}), want: make(map[cell]uint64)}
	goroutines, memory := runtime.NumGoroutine(), heapInUse()

	const producers = 200
	for i := range producers {
		f.work.Go(func() { f.producer(i) })
	}
	faults := 0
	for until := time.Now().Add(all); time.Now().Before(until); faults++ {
		f.fault(rng, most)
	}
	f.cluster.Heal()
	f.cluster.WaitReady()
	close(f.stop)
	f.work.Wait()
	for _, err := range f.errs {
		t.Error(err)
	}
	f.cluster.WaitEqual()
	var values uint64
	for i := range f.cluster.Len() {
		values = f.check(t, i)
	}
	t.Logf("%d values of %d producers in %d lives, %d faults", values, producers, f.lives, faults)
	// Members keep connections among themselves warm for a minute.
	for i := range f.cluster.Len() {
		f.cluster.Stop(i)
		f.cluster.Restart(i)
	}
	f.cluster.WaitReady()
	settles(t, goroutines, memory)
}

// fault does one thing to the cluster, and undoes it.
func (f *fleet) fault(rng *rand.Rand, most time.Duration) {
	wait := func() { <-time.After(time.Duration(rng.Int64N(int64(most)))) }
	switch rng.IntN(4) {
	case 0:
		k := f.cluster.Leader()
		f.cluster.Kill(k)
		wait()
		f.cluster.Restart(k)
	case 1:
		k := f.cluster.Follower()
		f.cluster.Stop(k)
		wait()
		f.cluster.Restart(k)
	case 2:
		f.cluster.Partition(f.cluster.Leader())
		wait()
		f.cluster.Heal()
	case 3: // the cluster is away
		for i := range f.cluster.Len() {
			f.cluster.Partition(i)
		}
		wait()
		f.cluster.Heal()
	}
	f.cluster.WaitReady()
	wait()
}

// check compares one member with what was added, and returns how much it was.
func (f *fleet) check(t *testing.T, member int) (values uint64) {
	t.Helper()
	found := make(map[cell]uint64)
	_, err := f.cluster.Server(member).Node().Store().Walk(t.Context(), func(r storage.Row) error {
		n, err := countOf(r.Sketch)
		c := cell{string(r.Metric), r.Node, r.Bucket.Start}
		if c.metric == "open" {
			c.start = -1
		}
		found[c] += n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	together := make(map[cell]uint64)
	for c, n := range f.want {
		if found[c] != n {
			t.Errorf("member %d: %v holds %d values, want %d", member, c, found[c], n)
		}
		together[cell{c.metric, "*", c.start}] += n
		values += n
	}
	for c, n := range together {
		if found[c] != n {
			t.Errorf("member %d: the fleet's %v holds %d values, want %d", member, c, found[c], n)
		}
	}
	if len(found) != len(f.want)+len(together) {
		t.Errorf("member %d: %d buckets, want %d", member, len(found), len(f.want)+len(together))
	}
	return values
}

// settles waits until goroutines are as many as before, and compares the heap:
// what the members keep of some hundred thousand values is small.
func settles(t *testing.T, goroutines int, memory int64) {
	t.Helper()
	const slack = 24 << 20
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(30 * time.Second); ; <-tick.C {
		left, n := ofClients(), runtime.NumGoroutine()
		grown := heapInUse() - memory
		if len(left) == 0 && n <= goroutines+10 && grown < slack {
			t.Logf("%d goroutines before, %d after; the heap grew by %d KiB", goroutines, n, grown>>10)
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d goroutines of clients are left, %d in all, %d before; the heap grew by %d KiB; by origin:\n%s",
				len(left), n, goroutines, grown>>10, origins())
		}
	}
}

// origins counts goroutines by what has created them.
func origins() string {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	count := make(map[string]int)
	for _, stack := range strings.Split(string(buf), "\n\n") {
		_, by, _ := strings.Cut(stack, "created by ")
		by, _, _ = strings.Cut(by, " in goroutine")
		count[by]++
	}
	var lines []string
	for by, n := range count {
		lines = append(lines, fmt.Sprintf("%6d %s", n, by))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
