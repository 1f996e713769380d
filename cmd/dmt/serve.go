package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/internal/server"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/window"
)

// stopWithin bounds a clean stop: after it the process ends anyway.
const stopWithin = 30 * time.Second

type serveArgs struct {
	dir, addr, advertise, id string
	join                     []string
	bootstrapExpect          int
	retention                string
	precision                int
	insecure                 bool
	snapshotEntries          uint64
	trailingLogs             uint64
	snapshotInterval         time.Duration
	logs                     logArgs
}

func newServeCmd(s streams) *cobra.Command {
	a := &serveArgs{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one member",
		Long: `Serve runs one member of a cluster until it is interrupted. It prints "ready"
and its address once it belongs to a cluster that has a leader.

With an empty directory and no --join it is a cluster of one. Three servers
started with the same --join and --bootstrap-expect 3, in any order, form one
cluster, once; starting them again is harmless. A server with --join alone
joins the cluster that it finds there. Retention and precision are fixed when
the cluster is formed.

There is no TLS and no authentication yet: whoever reaches the port may write,
read and remove members. So addresses beyond this machine need --insecure.

If the disk fails, the member stops with exit code 1 rather than go on with a
file it cannot trust.`,
		Example: `  dmt serve
  dmt serve --dir a --addr 127.0.0.1:7171 --bootstrap-expect 3 --join 127.0.0.1:7171,127.0.0.1:7172,127.0.0.1:7173`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), s, a) },
	}
	f := cmd.Flags()
	f.StringVar(&a.dir, "dir", "dmt-data", "data `directory`, created if need be")
	f.StringVar(&a.addr, "addr", server.DefaultListen, "`host:port` to listen on; port 0 takes any that is free")
	f.StringVar(&a.advertise, "advertise", "", "`host:port` that clients and members dial (default: the address listened on)")
	f.StringVar(&a.id, "id", "", "`name` of the member (default: kept in the directory, random at first)")
	f.StringSliceVar(&a.join, "join", nil, "`addresses` of members, to form a cluster with or to join")
	f.IntVar(&a.bootstrapExpect, "bootstrap-expect", 0, "form a cluster once this `number` of members has met")
	f.StringVar(&a.retention, "retention", "standard", "what is kept how long: standard, forever or a `file`")
	f.IntVar(&a.precision, "precision", 7, "of stored sketches, 5 to 8: bins are 2.2, 1.1, 0.54 or 0.27 % wide")
	f.BoolVar(&a.insecure, "insecure", false, "allow to listen beyond this machine without TLS and authentication")
	f.Uint64Var(&a.snapshotEntries, "snapshot-entries", raftfsm.DefaultSnapshotEntries, "log `entries` after which the log is truncated")
	f.Uint64Var(&a.trailingLogs, "trailing-logs", raftfsm.DefaultTrailingLogs, "log `entries` kept behind a snapshot")
	f.DurationVar(&a.snapshotInterval, "snapshot-interval", raftfsm.DefaultSnapshotInterval, "how often the size of the log is looked at")
	a.logs.flags(cmd, "info")
	must(cmd.MarkFlagDirname("dir"))
	return cmd
}

func runServe(ctx context.Context, s streams, a *serveArgs) error {
	o, err := a.options(s.Err)
	if err != nil {
		return err
	}
	srv, err := server.Start(ctx, o)
	if err != nil {
		return err
	}
	return serveUntil(ctx, s, o.Logger, srv)
}

func (a *serveArgs) options(stderr io.Writer) (server.Options, error) {
	tiers, err := readRetention(a.retention)
	if err != nil {
		return server.Options{}, err
	}
	logger, err := a.logs.logger(stderr)
	if err != nil {
		return server.Options{}, err
	}
	switch {
	case a.dir == "":
		return server.Options{}, usagef("--dir: empty")
	case a.precision < 5 || a.precision > 8:
		return server.Options{}, usagef("--precision: %d is none of 5, 6, 7, 8", a.precision)
	case a.bootstrapExpect < 0:
		return server.Options{}, usagef("--bootstrap-expect: %d is negative", a.bootstrapExpect)
	case a.bootstrapExpect > 1 && len(a.join) == 0:
		return server.Options{}, usagef("--bootstrap-expect: needs --join with the addresses of all %d members", a.bootstrapExpect)
	}
	return server.Options{
		Listen:    a.addr,
		Advertise: a.advertise,
		Insecure:  a.insecure,
		Logger:    logger,
		Raft: raftfsm.Options{
			Dir: a.dir, ID: a.id, Join: a.join, BootstrapExpect: a.bootstrapExpect,
			Precision: a.precision, Tiers: tiers, Version: version(),
			SnapshotEntries: a.snapshotEntries, TrailingLogs: a.trailingLogs, SnapshotInterval: a.snapshotInterval,
		},
	}, nil
}

// readRetention reads "standard", "forever" or the file of that name.
func readRetention(text string) (window.Tiers, error) {
	if text != "standard" && text != "forever" {
		b, err := os.ReadFile(text)
		if err != nil {
			return nil, usageError{fmt.Errorf(`--retention: neither "standard" nor "forever" nor a file: %w`, err)}
		}
		text = string(b)
	}
	return window.ParseTiers(text)
}

// serveUntil says when the servers are ready and stops them, the leader last,
// when ctx ends or one of them breaks.
func serveUntil(ctx context.Context, s streams, log *slog.Logger, servers ...*server.Server) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel(nil)
	for _, srv := range servers {
		watches.Go(func() {
			select {
			case <-srv.Done():
				cancel(failure{srv.Err()})
			case <-ctx.Done():
			}
		})
	}
	err := announce(ctx, s, servers)
	if err == nil {
		<-ctx.Done()
	}
	var broken failure
	if cause := context.Cause(ctx); errors.As(cause, &broken) {
		err = broken
	} else if ctx.Err() != nil {
		err = nil // we were asked to stop, at whatever point
		log.Info("stopping")
	}
	return errors.Join(err, shutdown(servers))
}

// announce waits until writes are accepted, on as many disks as there are
// servers, and prints where.
func announce(ctx context.Context, s streams, servers []*server.Server) error {
	addrs := make([]string, len(servers))
	for i, srv := range servers {
		if err := srv.WaitReady(ctx); err != nil {
			return err
		}
		addrs[i] = srv.Addr()
	}
	if err := waitVoters(ctx, servers); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.Out, "ready\n%s\n", strings.Join(addrs, ","))
	return err
}

// waitVoters returns when every server counts as many voters as there are
// servers: the members of a new cluster get their votes one by one.
func waitVoters(ctx context.Context, servers []*server.Server) error {
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for _, srv := range servers {
		for countVoters(srv) < len(servers) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticks.C:
			}
		}
	}
	return nil
}

func countVoters(srv *server.Server) int {
	n := 0
	for _, m := range srv.Node().Members() {
		if m.Voter {
			n++
		}
	}
	return n
}

// shutdown stops followers first: the last of them to go would otherwise wait
// for an election that nobody is left to win.
func shutdown(servers []*server.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	var errs []error
	for _, leader := range []bool{false, true} {
		for _, srv := range servers {
			if srv.Node().IsLeader() == leader {
				errs = append(errs, srv.Shutdown(ctx))
			}
		}
	}
	for _, srv := range servers {
		errs = append(errs, srv.Shutdown(ctx)) // whoever changed sides meanwhile
	}
	return errors.Join(errs...)
}
