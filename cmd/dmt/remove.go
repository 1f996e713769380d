package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
)

type removeArgs struct {
	connection
	id string
}

func newRemoveCmd(s streams) *cobra.Command {
	a := &removeArgs{}
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Take a member out of the cluster",
		Long: `Remove takes a member out of the cluster, whether it still runs or not. What it
has stored stays in its directory and is of no more use to the cluster.`,
		Example: "  dmt remove member-3",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.id = args[0]
			return runRemove(cmd.Context(), s, a)
		},
	}
	a.connection.flags(cmd)
	return cmd
}

func runRemove(ctx context.Context, s streams, a *removeArgs) error {
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		if err := c.Remove(ctx, a.id); err != nil {
			return err
		}
		_, err := fmt.Fprintf(s.Out, "removed %s\n", printable(a.id))
		return err
	})
}
