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

type nodesArgs struct {
	connection
	output
	metric string
	read   string
}

func newNodesCmd(s streams) *cobra.Command {
	a := &nodesArgs{}
	cmd := &cobra.Command{
		Use:   "nodes METRIC",
		Short: "List who measured a metric",
		Long: `Nodes lists the nodes that measured a metric, with how many values each has,
when its first bucket begins and its last one ends.`,
		Example: "  dmt nodes latency_us\n  dmt nodes latency_us -o csv",
		Args:    exactly("METRIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.metric = args[0]
			return runNodes(cmd.Context(), s, a)
		},
	}
	readFlag(cmd, &a.read)
	a.connection.flags(cmd)
	a.output.flags(cmd)
	return cmd
}

func runNodes(ctx context.Context, s streams, a *nodesArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	metric, err := window.ParseMetric(a.metric)
	if err != nil {
		return err
	}
	read, err := window.ParseRead(a.read)
	if err != nil {
		return err
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		infos, err := c.Nodes(ctx, string(metric), read)
		if err != nil {
			return err
		}
		t := table{header: []string{"node", "count", "buckets", "first", "last"}}
		var messages []proto.Message
		for _, n := range infos {
			t.add(n.Node, strconv.FormatUint(n.Count, 10), strconv.FormatUint(n.Buckets, 10), a.time(n.First.Unix()), a.time(n.Last.Unix()))
			messages = append(messages, &dmtv1.NodeInfo{
				Node: n.Node, Count: n.Count, Buckets: n.Buckets,
				First: timestamppb.New(n.First), Last: timestamppb.New(n.Last),
			})
		}
		if err := a.writeList(s.Out, t, "nodes", messages); err != nil {
			return err
		}
		if len(infos) == 0 {
			return noDataError("no data of " + string(metric))
		}
		return nil
	})
}
