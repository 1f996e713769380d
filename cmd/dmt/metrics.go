package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/distributed-median-tracker/dmt/client"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

type metricsArgs struct {
	connection
	output
	read string
}

func newMetricsCmd(s streams) *cobra.Command {
	a := &metricsArgs{}
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "List what is measured",
		Long: `Metrics lists the metrics, with how many values and nodes each has, when its
first bucket begins and its last one ends. With none the exit code is 3.`,
		Example: "  dmt metrics\n  dmt metrics --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runMetrics(cmd.Context(), s, a) },
	}
	readFlag(cmd, &a.read)
	a.connection.flags(cmd)
	a.output.flags(cmd)
	return cmd
}

func readFlag(cmd *cobra.Command, read *string) {
	cmd.Flags().StringVar(read, "read", "linearizable", "how `fresh`: linearizable, leader or stale")
	must(cmd.RegisterFlagCompletionFunc("read", cobra.FixedCompletions([]string{"linearizable", "leader", "stale"}, cobra.ShellCompDirectiveNoFileComp)))
}

func runMetrics(ctx context.Context, s streams, a *metricsArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	read, err := window.ParseRead(a.read)
	if err != nil {
		return err
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		infos, err := c.Metrics(ctx, read)
		if err != nil {
			return err
		}
		t := table{header: []string{"metric", "count", "nodes", "buckets", "first", "last"}}
		var messages []proto.Message
		for _, m := range infos {
			t.add(string(m.Metric), strconv.FormatUint(m.Count, 10), strconv.Itoa(m.Nodes), strconv.FormatUint(m.Buckets, 10),
				a.time(m.First.Unix()), a.time(m.Last.Unix()))
			messages = append(messages, &dmtv1.MetricInfo{
				Metric: string(m.Metric), Count: m.Count, Nodes: int32(m.Nodes), Buckets: m.Buckets,
				First: timestamppb.New(m.First), Last: timestamppb.New(m.Last),
			})
		}
		if err := a.writeList(s.Out, t, "metrics", messages); err != nil {
			return err
		}
		if len(infos) == 0 {
			return noDataError("no metrics yet")
		}
		return nil
	})
}
