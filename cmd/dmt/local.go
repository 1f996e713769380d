package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/internal/server"
	"github.com/distributed-median-tracker/dmt/raftfsm"
)

// maxLocal members share one process and one disk; more would show nothing.
const maxLocal = 9

type localArgs struct {
	members   int
	dir       string
	addr      string
	retention string
	precision int
	logs      logArgs

	addrGiven, membersGiven bool
}

func newLocalCmd(s streams) *cobra.Command {
	a := &localArgs{}
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run a whole cluster on this machine, for development and tests",
		Long: `Local runs a persistent cluster in one process, on loopback: the first member
listens on --addr, the others on the ports after it. When writes are accepted it
prints "ready" and the addresses. An interrupt stops it cleanly; started again
on the same directory it goes on where it was.

With port 0 the members take ports that are free, and keep them in the
directory.`,
		Example: `  dmt local
  dmt local --members 1 --dir /tmp/dmt --addr 127.0.0.1:9000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.addrGiven, a.membersGiven = cmd.Flags().Changed("addr"), cmd.Flags().Changed("members")
			return runLocal(cmd.Context(), s, a)
		},
	}
	f := cmd.Flags()
	f.IntVar(&a.members, "members", 3, "`number` of members")
	f.StringVar(&a.dir, "dir", "dmt-local", "data `directory`, created if need be")
	f.StringVar(&a.addr, "addr", server.DefaultListen, "`host:port` of the first member")
	f.StringVar(&a.retention, "retention", "forever", "what is kept how long: standard, forever or a `file`; used when the cluster is formed")
	f.IntVar(&a.precision, "precision", 7, "of stored sketches, 5 to 8; used when the cluster is formed")
	a.logs.flags(cmd, "error")
	must(cmd.MarkFlagDirname("dir"))
	return cmd
}

func runLocal(ctx context.Context, s streams, a *localArgs) error {
	if a.members < 1 || a.members > maxLocal {
		return usagef("--members: %d is not in 1..%d", a.members, maxLocal)
	}
	if a.precision < 5 || a.precision > 8 {
		return usagef("--precision: %d is none of 5, 6, 7, 8", a.precision)
	}
	tiers, err := readRetention(a.retention)
	if err != nil {
		return err
	}
	logger, err := a.logs.logger(s.Err)
	if err != nil {
		return err
	}
	listeners, err := a.listen(ctx)
	if err != nil {
		return err
	}
	servers, err := startLocal(ctx, listeners, func(i int) server.Options {
		return server.Options{
			Logger: logger.With("member", memberName(i)),
			Raft:   raftfsm.Options{Dir: filepath.Join(a.dir, memberName(i)), Precision: a.precision, Tiers: tiers},
		}
	})
	if err != nil {
		return err
	}
	return serveUntil(ctx, s, logger, servers...)
}

func memberName(i int) string { return "member-" + strconv.Itoa(i+1) }

// startLocal starts one member per listener, all of one cluster, or none.
func startLocal(ctx context.Context, listeners []net.Listener, options func(i int) server.Options) ([]*server.Server, error) {
	var join []string
	for _, l := range listeners {
		join = append(join, l.Addr().String())
	}
	var servers []*server.Server
	for i, l := range listeners {
		o := options(i)
		o.Listener = l
		o.Raft.ID, o.Raft.Version = memberName(i), version()
		if len(listeners) > 1 {
			o.Raft.Join, o.Raft.BootstrapExpect = join, len(join)
		}
		srv, err := server.Start(ctx, o)
		if err != nil {
			for _, rest := range listeners[i:] {
				err = errors.Join(err, ignoreClosed(rest.Close()))
			}
			return nil, errors.Join(err, shutdown(servers))
		}
		servers = append(servers, srv)
	}
	return servers, nil
}

// ignoreClosed drops the error of closing a listener that a server which did
// not start has closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
