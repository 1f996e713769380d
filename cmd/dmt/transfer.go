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

// successor is the voter that is furthest along and does not lead. With it
// named, a transfer whose answer is lost can be repeated: to "any other" the
// second time would hand leadership back.
func successor(st *client.Status) string {
	var best client.Member
	for _, m := range st.Members {
		if m.Voter && m.Reachable && !m.Leader && (best.ID == "" || m.AppliedIndex > best.AppliedIndex) {
			best = m
		}
	}
	return best.ID
}

func runTransfer(ctx context.Context, s streams, a *transferArgs) error {
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		id := a.id
		if id == "" {
			st, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if id = successor(st); id == "" {
				return failuref("no other member could lead: none that votes answers")
			}
		}
		leader, err := c.Transfer(ctx, id)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.Out, "leader is %s\n", printable(orNone(leader)))
		return err
	})
}
