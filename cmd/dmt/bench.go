package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
)

type benchArgs struct {
	connection
	output
	scenarios []string

	local      bool
	dir        string
	retention  string
	precision  int
	cpuProfile string

	duration, maxLoad time.Duration
	clients           int
	batch             int
	nodes             int
	rate              float64
	rounds            int
	size              int
	targetLeader      bool
	seed              uint64
}

// scenario is one thing that bench measures.
type scenario struct {
	name, short string
	local       bool // needs members that it may kill
	run         func(*bench, context.Context) error
}

func benchScenarios() []scenario {
	return []scenario{
		{"ingest", "batches of sketches, as fast as they are acknowledged", false, (*bench).ingest},
		{"single", "calls of one sketch each, from many clients", false, (*bench).single},
		{"paced", "the same at half of what single reaches, or at --rate: time to the acknowledgement", false, (*bench).paced},
		{"query", "medians of fleets and nodes over hours, idle and while ingesting", false, (*bench).query},
		{"disk", "size of the files for each node and bucket", false, (*bench).disk},
		{"failover", "kill -9 of the leader to the next acknowledged write", true, (*bench).failover},
		{"restart", "start of a member with data to its first answer", true, (*bench).restart},
		{"catchup", "start of an empty member until it has what the others have", true, (*bench).catchup},
	}
}

func newBenchCmd(s streams) *cobra.Command {
	a := &benchArgs{}
	cmd := &cobra.Command{
		Use:   "bench SCENARIO...",
		Short: "Measure how fast a cluster is",
		Long: `Bench puts load on a cluster through its public API and prints what it measures,
one line for each figure. With --local it starts three members in a temporary
directory, each a process of its own, for each scenario, and removes them
afterwards. Without, it measures the cluster at --addr: what it writes there
stays, under the metric bench{run="...",scenario="..."}.

Every sketch holds 1000 lognormal values and is made before the clock runs.
Batches are acknowledged when they are on the disks of a quorum. The generator
takes its share of this machine: on few cores it is a good part of the load.

Scenarios:
` + describeScenarios() + `  all        all of them; without --local those that need no member killed`,
		Example: `  dmt bench all --local
  dmt bench ingest single --local --duration 30s --json
  dmt bench ingest --addr 10.0.0.1:7171,10.0.0.2:7171 --clients 16 --batch 1000`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("SCENARIO is missing: " + strings.Join(scenarioNames(), ", ") + " or all")
			}
			return nil
		},
		ValidArgs: append(scenarioNames(), "all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.scenarios = args
			return runBench(cmd.Context(), s, a)
		},
	}
	a.benchFlags(cmd)
	a.connection.flags(cmd)
	a.output.flags(cmd)
	cmd.AddCommand(newBenchMemberCmd(s))
	return cmd
}

func (a *benchArgs) benchFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&a.local, "local", false, "start three members for each scenario instead of using --addr")
	f.StringVar(&a.dir, "dir", "", "with --local: `directory` in which theirs are made and removed (default: the system's for temporary files)")
	f.StringVar(&a.retention, "retention", "forever", "with --local: standard, forever or a `file`")
	f.IntVar(&a.precision, "precision", 7, "with --local: of stored sketches, 5 to 8")
	f.StringVar(&a.cpuProfile, "cpu-profile", "", "with --local: `directory` for a CPU profile of each member")
	f.DurationVar(&a.duration, "duration", 10*time.Second, "how long each load is measured, up to 10m")
	f.DurationVar(&a.maxLoad, "max-load", 2*time.Minute, "most time that a scenario spends on writing the data that it then measures; it says what fitted in")
	f.IntVar(&a.clients, "clients", 0, "`number` of clients at once (default 8 with batches, 256 with single sketches)")
	f.IntVar(&a.batch, "batch", 500, "sketches in a batch")
	f.IntVar(&a.nodes, "nodes", 0, "`number` of nodes that ship sketches (default 100000 written in ingest, 1000 asked in query)")
	f.Float64Var(&a.rate, "rate", 0, "sketches per second in paced (default: half of what single reaches)")
	f.IntVar(&a.rounds, "rounds", 10, "leaders killed in failover")
	f.IntVar(&a.size, "size", 64, "`MiB` of sketches in disk, restart and catchup")
	f.BoolVar(&a.targetLeader, "target-leader", false, "send writes to the leader instead of to any member, which passes them on")
	f.Uint64Var(&a.seed, "seed", 0, "`seed` of the values (default: random, and printed)")
	must(cmd.MarkFlagDirname("dir"))
	must(cmd.MarkFlagDirname("cpu-profile"))
}

func scenarioNames() []string {
	var names []string
	for _, sc := range benchScenarios() {
		names = append(names, sc.name)
	}
	return names
}

func describeScenarios() string {
	var b strings.Builder
	for _, sc := range benchScenarios() {
		only := ""
		if sc.local {
			only = " (only with --local)"
		}
		fmt.Fprintf(&b, "  %-9s  %s%s\n", sc.name, sc.short, only)
	}
	return b.String()
}

// chosen returns the scenarios that were named, in their own order.
func (a *benchArgs) chosen() ([]scenario, error) {
	all := slices.Contains(a.scenarios, "all")
	for _, name := range a.scenarios {
		if name != "all" && !slices.Contains(scenarioNames(), name) {
			return nil, usagef("scenario: %q is none of %s, all", name, strings.Join(scenarioNames(), ", "))
		}
	}
	var list []scenario
	for _, sc := range benchScenarios() {
		named := slices.Contains(a.scenarios, sc.name)
		switch {
		case named && sc.local && !a.local:
			return nil, usagef("%s: kills members, and so needs --local", sc.name)
		case named, all && (a.local || !sc.local):
			list = append(list, sc)
		}
	}
	return list, nil
}

func (a *benchArgs) check() error {
	if err := a.output.check(); err != nil {
		return err
	}
	if _, err := readRetention(a.retention); err != nil {
		return err
	}
	in := func(flag string, n, least, most int) error {
		if n < least || n > most {
			return usagef("--%s: %d is not in %d..%d", flag, n, least, most)
		}
		return nil
	}
	switch {
	case a.duration < time.Second || a.duration > 10*time.Minute:
		return usagef("--duration: %v is not between 1s and 10m", a.duration)
	case a.maxLoad < time.Second || a.maxLoad > time.Hour:
		return usagef("--max-load: %v is not between 1s and 1h", a.maxLoad)
	case a.rate < 0 || a.rate > 1e6:
		return usagef("--rate: %v is not in 0..1000000", a.rate)
	case a.timeout <= 0:
		return usagef("--timeout: %v is not positive", a.timeout)
	case !a.local && (a.dir != "" || a.cpuProfile != ""):
		return usagef("--dir, --cpu-profile: are for --local")
	}
	return errors.Join(
		in("clients", a.clients, 0, 4096), in("batch", a.batch, 1, 10_000), in("nodes", a.nodes, 0, 1_000_000),
		in("rounds", a.rounds, 1, 1000), in("size", a.size, 1, 16<<10), in("precision", a.precision, 5, 8))
}

func runBench(ctx context.Context, s streams, a *benchArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	list, err := a.chosen()
	if err != nil {
		return err
	}
	if a.seed == 0 {
		a.seed = rand.Uint64()
	}
	say(s.Err, "seed %d", a.seed)
	r := newFigures(s, &a.output)
	for _, sc := range list {
		if err = a.one(ctx, s, sc, r); err != nil {
			err = fmt.Errorf("%s: %w", sc.name, err)
			break
		}
	}
	if ctx.Err() != nil {
		err = failuref("interrupted")
	}
	return errors.Join(a.where(err), r.finish(a.seed))
}

// one measures one scenario, on a cluster of its own if they are local.
func (a *benchArgs) one(ctx context.Context, s streams, sc scenario, r *figures) (err error) {
	b := &bench{args: a, streams: s, scenario: sc.name, figures: r}
	addrs := a.addrs
	if a.local {
		if b.local, err = startBenchCluster(ctx, a); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.local.close()) }()
		addrs = b.local.addrs()
	}
	if b.client, err = client.New(addrs, client.Options{}); err != nil {
		return usageError{fmt.Errorf("--addr: %w", err)}
	}
	// Only questions go through it, so there is nothing to be flushed.
	defer func() { err = errors.Join(err, b.client.Close(context.WithoutCancel(ctx))) }()
	if err := b.prepare(ctx, addrs); err != nil {
		return err
	}
	defer b.transport.CloseIdleConnections()
	return sc.run(b, ctx)
}
