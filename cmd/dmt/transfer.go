package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
)

type transferArgs struct {
	connection
	id string
}

func newTransferCmd(s streams) *cobra.Command {
	a := &transferArgs{}
	cmd := &cobra.Command{
		Use:   "transfer [ID]",
		Short: "Hand leadership to another member",
		Long: `Transfer hands leadership to the member ID, or without one to the member that is
furthest along. Nothing is lost meanwhile: writes wait for the new leader.`,
		Example: "  dmt transfer\n  dmt transfer member-2",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				a.id = args[0]
			}
			return runTransfer(cmd.Context(), s, a)
		},
	}
	a.connection.flags(cmd)
	return cmd
}

func runTransfer(ctx context.Context, s streams, a *transferArgs) error {
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		leader, err := c.Transfer(ctx, a.id)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.Out, "leader is %s\n", printable(orNone(leader)))
		return err
	})
}
