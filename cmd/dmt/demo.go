package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/server"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/window"
)

const (
	demoMembers = 3
	demoMetric  = "offset_us"

	// demoPatience bounds every wait of the demo. An election takes a second.
	demoPatience = 30 * time.Second

	// maxDemoValues bounds the memory of the exact values: 8 bytes for each.
	maxDemoValues = 50_000_000
)

type demoArgs struct {
	nodes    int
	duration time.Duration
	seed     uint64
}

func newDemoCmd(s streams) *cobra.Command {
	a := &demoArgs{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a cluster track the median of a thousand nodes and lose its leader",
		Long: `Demo runs three members in a temporary directory and simulates nodes of very
different volume, location and sign, which stream values through the real
client. Every line compares the certified interval with the exact median of the
same values, which the demo keeps in memory. Halfway it kills the leader while
batches are on their way, and goes on; later it starts that member again.

At the end every value must be counted once, on each member, and every exact
median must have been inside its interval: then the verdict is ok and the exit
code 0, else 1.`,
		Example: `  dmt demo
  dmt demo --nodes 200 --duration 5s --seed 7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), s, a) },
	}
	f := cmd.Flags()
	f.IntVar(&a.nodes, "nodes", 1000, "`number` of nodes")
	f.DurationVar(&a.duration, "duration", 30*time.Second, "how long the nodes stream")
	f.Uint64Var(&a.seed, "seed", 0, "`seed` of the simulation (default: random, and printed)")
	return cmd
}

func runDemo(ctx context.Context, s streams, a *demoArgs) (err error) {
	if a.nodes < 1 || a.nodes > 100_000 {
		return usagef("--nodes: %d is not in 1..100000", a.nodes)
	}
	if a.duration < time.Second || a.duration > time.Hour {
		return usagef("--duration: %v is not between 1s and 1h", a.duration)
	}
	if a.seed == 0 {
		a.seed = rand.Uint64()
	}
	dir, err := os.MkdirTemp("", "dmt-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{args: a, dir: dir, screen: newScreen(s), fleet: newFleet(a)}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	if err := d.stream(ctx); err != nil {
		if ctx.Err() != nil {
			return failuref("interrupted: no verdict")
		}
		return err
	}
	return d.verdict(ctx)
}

// demo is a running cluster, the nodes that stream to it, and what was seen.
type demo struct {
	args   *demoArgs
	dir    string
	screen *screen
	fleet  *fleet

	servers []*server.Server
	addrs   []string
	client  *client.Client
	began   time.Time

	points   int // answers compared
	outside  int // of these, exact medians that were not inside the interval
	worst    float64
	failover time.Duration
}

// start brings up the members and the client, with one recorder per node.
func (d *demo) start(ctx context.Context) error {
	listeners, err := listenAll(ctx, slices.Repeat([]string{"127.0.0.1:0"}, demoMembers))
	if err != nil {
		return err
	}
	for _, l := range listeners {
		d.addrs = append(d.addrs, l.Addr().String())
	}
	if d.servers, err = startLocal(ctx, listeners, d.options); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for _, srv := range d.servers {
		if err := srv.WaitReady(wait); err != nil {
			return err
		}
	}
	if err := waitVoters(wait, d.servers); err != nil {
		return err
	}
	if d.client, err = client.New(d.addrs, client.Options{}); err != nil {
		return err
	}
	d.fleet.record(d.client)
	d.screen.printf("%d members on %s; %s nodes; seed %d\n\n", len(d.servers), d.addrs[0], grouped(uint64(d.args.nodes)), d.args.seed)
	return nil
}

func (d *demo) options(i int) server.Options {
	return server.Options{Raft: raftfsm.Options{
		Dir: filepath.Join(d.dir, memberName(i)), Tiers: window.ForeverTiers(), MinFreeDisk: -1,
	}}
}

func (d *demo) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	var err error
	if d.client != nil {
		err = d.client.Close(ctx)
	}
	return errors.Join(err, shutdown(d.servers))
}

// stream lets the nodes measure in real time, and stops them for a moment at
// every point to compare: the exact median is worth comparing only with an
// answer over the same values.
func (d *demo) stream(ctx context.Context) error {
	const tick = 50 * time.Millisecond
	every := max(time.Second, d.args.duration/10)
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	d.began = time.Now()
	compared := d.began
	killed, revived := -1, false
	d.screen.header()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
		elapsed := time.Since(d.began)
		d.fleet.advance(min(elapsed, d.args.duration))
		d.screen.progress(elapsed, d.fleet.count())
		var err error
		switch {
		case killed < 0 && elapsed >= d.args.duration/2:
			killed, err = d.killLeader(ctx)
		case !revived && killed >= 0 && elapsed >= d.args.duration*3/4:
			revived, err = true, d.revive(ctx, killed)
		}
		if err != nil {
			return err
		}
		if done := elapsed >= d.args.duration; done || time.Since(compared) >= every {
			if err := d.compare(ctx); err != nil {
				return err
			}
			if done {
				return nil
			}
			compared = time.Now()
		}
	}
}

// compare asks for the median of everything and sets it beside the exact one.
func (d *demo) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	if err := d.client.Flush(ctx); err != nil {
		return err
	}
	answer, err := d.client.Query(ctx, window.Query{Metric: demoMetric})
	if err != nil {
		return err
	}
	e, ok := answer.Median()
	if !ok {
		return fmt.Errorf("asked for one median, got %d", len(answer.Results))
	}
	buckets, err := d.buckets(ctx)
	if err != nil {
		return err
	}
	exact := d.fleet.median()
	inside := e.Lower.Cmp(exact) <= 0 && exact.Cmp(e.Upper) <= 0 && answer.Count() == d.fleet.count()
	d.points++
	if !inside {
		d.outside++
	}
	d.worst = max(d.worst, relativeError(e.Float64(), exact.Float64()))
	stats := d.client.Stats()
	d.screen.row(time.Since(d.began), answer.Count(), e, exact, inside, stats.BytesSent/buckets, stats.RawBytes/buckets)
	return nil
}

// buckets returns how many pairs of node and bucket there are.
func (d *demo) buckets(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	nodes, err := d.client.Nodes(ctx, demoMetric, window.Leader)
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, node := range nodes {
		n += node.Buckets
	}
	return max(n, 1), nil
}

// killLeader ends the leader without warning while batches are on their way
// to it, and waits until they are acknowledged all the same.
func (d *demo) killLeader(ctx context.Context) (int, error) {
	leader := -1
	for i, srv := range d.servers {
		if srv.Node().IsLeader() {
			leader = i
		}
	}
	if leader < 0 {
		return -1, nil // between two leaders: at the next tick there is one
	}
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	flushed := make(chan error, 1)
	go func() { flushed <- d.client.Flush(ctx) }()
	d.servers[leader].Kill()
	at := time.Now()
	if err := <-flushed; err != nil {
		return leader, fmt.Errorf("after the leader was killed: %w", err)
	}
	d.failover = time.Since(at)
	d.screen.printf("  -- killed the leader, %s, with batches on their way; all acknowledged %.1f s later\n", memberName(leader), d.failover.Seconds())
	return leader, nil
}

// revive starts the killed member again where it was.
func (d *demo) revive(ctx context.Context, i int) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", d.addrs[i])
	if err != nil {
		return err
	}
	o := d.options(i)
	o.Listener = l
	o.Raft.ID, o.Raft.Join, o.Raft.BootstrapExpect = memberName(i), d.addrs, len(d.addrs)
	srv, err := server.Start(ctx, o)
	if err != nil {
		return errors.Join(err, ignoreClosed(l.Close()))
	}
	d.servers[i] = srv
	d.screen.printf("  -- started %s again\n", memberName(i))
	return nil
}

// verdict asks every member for the count, which it must answer from its own
// state as of now, and says whether all of it was right.
func (d *demo) verdict(ctx context.Context) error {
	var wrong []error
	for i, addr := range d.addrs {
		n, err := countAt(ctx, addr)
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s: %w", memberName(i), err))
		case n != d.fleet.count():
			wrong = append(wrong, fmt.Errorf("%s counts %d values of %d", memberName(i), n, d.fleet.count()))
		}
	}
	if d.outside > 0 {
		wrong = append(wrong, fmt.Errorf("%d of %d exact medians outside their interval", d.outside, d.points))
	}
	buckets, err := d.buckets(ctx)
	if err != nil {
		return err
	}
	d.summary(buckets)
	if err := errors.Join(wrong...); err != nil {
		d.screen.printf("verdict: failed\n")
		return failure{err}
	}
	d.screen.printf("verdict: ok\n")
	return nil
}

// countAt returns how many values one member has counted.
func countAt(ctx context.Context, addr string) (n uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	c, err := client.New([]string{addr}, client.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	answer, err := c.Query(ctx, window.Query{Metric: demoMetric})
	return answer.Count(), err
}

func (d *demo) summary(buckets uint64) {
	s := d.client.Stats()
	d.screen.printf("\n%s values of %s nodes, counted once on each of %d members\n", grouped(s.Values), grouped(uint64(d.args.nodes)), len(d.addrs))
	d.screen.printf("%d medians compared, %d inside their interval; the worst estimate was off by %.3f %%\n", d.points, d.points-d.outside, 100*d.worst)
	d.screen.printf("sent %s in %s sketches, raw values would be %s: %d against %d bytes per node and bucket\n",
		size(int64(s.BytesSent)), grouped(s.Sketches), size(int64(s.RawBytes)), s.BytesSent/buckets, s.RawBytes/buckets)
}
