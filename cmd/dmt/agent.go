package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
	_ "github.com/distributed-median-tracker/dmt/client/spool" // what --spool is made of
	"github.com/distributed-median-tracker/dmt/window"
)

// maxAgentSeries is the most that --max-series may be: each series takes up to
// 12 KB.
const maxAgentSeries = 1_000_000

type agentArgs struct {
	connection
	output
	node       string
	metric     string
	statsd     string
	socket     string
	stdin      bool
	insecure   bool
	flushEvery time.Duration
	maxSeries  int
	spool      string
	logs       logArgs
}

func newAgentCmd(s streams) *cobra.Command {
	a := &agentArgs{}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Sketch what the programs of this machine measure, and ship it",
		Long: `Agent counts for programs that do not use the Go client. It takes timers (ms),
histograms (h) and distributions (d) of StatsD and DogStatsD on a UDP port or a
Unix datagram socket, and lines on stdin: "METRIC VALUE", or with --metric one
value per line. It sketches them in memory and ships one sketch per metric and
ten seconds, each counted exactly once by the cluster.

A sample rate is a weight: a value at @0.1 counts ten times. Tags become labels;
what a metric name may not have becomes _. Counters, gauges, sets, events and
service checks are ignored and counted by type. A line that is none is counted
by reason, and named in the log at most every ten seconds for each reason.

Without a socket it reads stdin and ends with it. Otherwise it prints "ready" and
where it listens, and runs until it is interrupted. On its way out it ships
what it has, prints what became of everything, and says what could not be sent.
With --spool that waits in a directory for the next start, also after a crash.

The exit code is 4 if values could not be sent and are not in the spool, 5 if the
cluster refused some, and 1 if lines of stdin were left out.`,
		Example: `  dmt agent --statsd 127.0.0.1:8125
  dmt agent --statsd-socket /run/dmt/statsd.sock --spool /var/lib/dmt-agent --node web-17
  printf 'latency_us 12\nlatency_us 900\n' | dmt agent --node web-1
  seq 1000 | dmt agent --metric latency_us --node web-2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAgent(cmd.Context(), s, a) },
	}
	f := cmd.Flags()
	f.StringVar(&a.node, "node", "", "`id` of this node (default: the host's name)")
	f.StringVar(&a.metric, "metric", "", "`name` of what the values on stdin are; the lines then hold a value only")
	f.StringVar(&a.statsd, "statsd", "", "`host:port` to listen on for StatsD over UDP; port 0 takes any that is free")
	f.StringVar(&a.socket, "statsd-socket", "", "`path` of a Unix datagram socket to listen on for StatsD")
	f.BoolVar(&a.stdin, "stdin", false, "read stdin besides a socket")
	f.BoolVar(&a.insecure, "insecure", false, "allow to listen for UDP beyond this machine: whoever reaches the port may add values")
	f.DurationVar(&a.flushEvery, "flush-every", 10*time.Second, "ship every `duration`; a bucket of ten seconds goes out at once by default")
	f.IntVar(&a.maxSeries, "max-series", 10_000, "most metrics, labels included; lines of further ones are refused")
	f.StringVar(&a.spool, "spool", "", "`directory` in which what is not acknowledged survives this process")
	a.connection.flags(cmd)
	a.output.flags(cmd)
	a.logs.flags(cmd, "info")
	must(cmd.MarkFlagDirname("spool"))
	return cmd
}

// check refuses what cannot be meant, and fills in what was left out.
func (a *agentArgs) check() error {
	if err := a.output.check(); err != nil {
		return err
	}
	if a.node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("name of this host, which would be the node: %w; --node says it", err)
		}
		a.node = name
	}
	if err := window.CheckNode(a.node); err != nil {
		return err
	}
	if a.metric != "" {
		metric, err := window.ParseMetric(a.metric)
		if err != nil {
			return err
		}
		a.metric = string(metric)
	}
	a.stdin = a.stdin || a.statsd == "" && a.socket == ""
	switch {
	case a.metric != "" && !a.stdin:
		return usagef("--metric: is for values on stdin, which is not read: add --stdin")
	case a.flushEvery < 100*time.Millisecond || a.flushEvery > time.Hour:
		return usagef("--flush-every: %v is not between 100ms and 1h", a.flushEvery)
	case a.maxSeries < 1 || a.maxSeries > maxAgentSeries:
		return usagef("--max-series: %d is not in 1..%d", a.maxSeries, maxAgentSeries)
	case a.timeout <= 0:
		return usagef("--timeout: %v is not positive", a.timeout)
	}
	return nil
}

func runAgent(ctx context.Context, s streams, a *agentArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	logger, err := a.logs.logger(s.Err)
	if err != nil {
		return err
	}
	sockets, err := a.listen(ctx)
	if err != nil {
		return err
	}
	c, err := client.New(a.addrs, client.Options{Logger: logger, Spool: a.spool})
	if err != nil {
		return errors.Join(fmt.Errorf("client: %w", err), closeSockets(sockets))
	}
	k := newSink(c.Recorder(a.node, client.RecorderOptions{FlushEvery: a.flushEvery}), a.maxSeries, logger)
	err = a.collect(ctx, s, k, sockets)
	// Close has its own time: what was read before an interrupt is sent.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	closeErr := c.Close(closing)
	return errors.Join(err, a.verdict(s, k, c.Stats(), closeErr))
}

// collect reads all inputs until the last of them ends, one breaks, or ctx
// ends, and then what has arrived at the sockets by now. Afterwards the sink is
// closed.
func (a *agentArgs) collect(ctx context.Context, s streams, k *sink, sockets []*socket) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var reading sync.WaitGroup
	for _, socket := range sockets {
		reading.Go(func() {
			if err := socket.read(k); err != nil {
				stop(failure{err})
			}
		})
	}
	if a.stdin {
		// A read of a terminal or a pipe cannot be called off. When we are told
		// to stop it is left behind, and finds the sink closed.
		go func() {
			if err := k.readLines(s.In, a.metric); err != nil || len(sockets) == 0 {
				stop(err)
			}
		}()
	}
	err := announceSockets(s, sockets)
	if err == nil {
		<-ctx.Done()
		var broken failure // else we were asked to stop, or stdin has ended
		if errors.As(context.Cause(ctx), &broken) {
			err = broken
		}
	}
	for _, socket := range sockets {
		err = errors.Join(err, socket.stop())
	}
	reading.Wait()
	k.close()
	return errors.Join(err, closeSockets(sockets))
}

// announceSockets says where values may be sent.
func announceSockets(s streams, sockets []*socket) error {
	if len(sockets) == 0 {
		return nil
	}
	places := make([]string, len(sockets))
	for i, socket := range sockets {
		places[i] = socket.place
	}
	_, err := fmt.Fprintf(s.Out, "ready\n%s\n", strings.Join(places, ","))
	return err
}

// listen opens the sockets that were asked for.
func (a *agentArgs) listen(ctx context.Context) ([]*socket, error) {
	var sockets []*socket
	if a.statsd != "" {
		udp, err := listenUDP(ctx, a.statsd, a.insecure)
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, udp)
	}
	if a.socket != "" {
		unix, err := listenUnix(a.socket)
		if err != nil {
			return nil, errors.Join(err, closeSockets(sockets))
		}
		sockets = append(sockets, unix)
	}
	return sockets, nil
}
