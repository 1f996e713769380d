package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/distributed-median-tracker/dmt/client"
)

type membersArgs struct {
	connection
	output
}

func newMembersCmd(s streams) *cobra.Command {
	a := &membersArgs{}
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the members of the cluster",
		Long: `Members lists the members as the leader sees them: who votes, who answers, how
far each has applied the log, and how far its clock is off.`,
		Example: "  dmt members\n  dmt members -o csv",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runMembers(cmd.Context(), s, a) },
	}
	a.connection.flags(cmd)
	a.output.flags(cmd)
	return cmd
}

func runMembers(ctx context.Context, s streams, a *membersArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		t := table{header: []string{"id", "address", "role", "reachable", "applied_index", "free_disk", "clock_skew", "version"}}
		var messages []proto.Message
		for _, m := range st.Members {
			t.add(m.ID, m.Address, role(m), yesNo(m.Reachable), strconv.FormatUint(m.AppliedIndex, 10),
				a.bytes(m.FreeDiskBytes), fmt.Sprint(m.ClockSkew), m.Version)
			messages = append(messages, memberToProto(m))
		}
		return a.writeList(s.Out, t, "members", messages)
	})
}

func role(m client.Member) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	}
	return "learner" // not a voter until it has caught up
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
