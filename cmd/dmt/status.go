package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/distributed-median-tracker/dmt/client"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
)

type statusArgs struct {
	connection
	output
}

func newStatusCmd(s streams) *cobra.Command {
	a := &statusArgs{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the cluster is",
		Long: `Status shows the cluster as the member that answers sees it: its leader, how far
the log is applied, what is kept how long, and what an operator should look at.
Without a leader the exit code is 4.`,
		Example: "  dmt status\n  dmt status --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), s, a) },
	}
	a.connection.flags(cmd)
	a.output.flags(cmd)
	return cmd
}

func runStatus(ctx context.Context, s streams, a *statusArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		fields := statusTable(&a.output, st)
		if a.format == "table" {
			err = fields.writeFields(s)
		} else {
			err = a.write(s.Out, fields, statusToProto(st))
		}
		if err == nil && st.LeaderID == "" {
			return fmt.Errorf("%w: no leader", client.ErrUnavailable)
		}
		return err
	})
}

// statusTable has one row per fact.
func statusTable(o *output, st *client.Status) table {
	t := table{header: []string{"field", "value"}}
	t.add("cluster", orNone(st.ClusterID))
	t.add("member", fmt.Sprintf("%s at %s, version %s", st.ID, st.Address, st.Version))
	leader := "none"
	if st.LeaderID != "" {
		leader = fmt.Sprintf("%s at %s, term %d", st.LeaderID, st.LeaderAddress, st.Term)
	}
	t.add("leader", leader)
	up, voters := 0, 0
	for _, m := range st.Members {
		if m.Reachable {
			up++
		}
		if m.Voter {
			voters++
		}
	}
	t.add("members", fmt.Sprintf("%d, %d of them voters, %d reachable", len(st.Members), voters, up))
	t.add("applied", fmt.Sprintf("%d of %d committed log entries", st.AppliedIndex, st.CommitIndex))
	clock := "none"
	if st.Clock.Unix() > 0 {
		clock = o.time(st.Clock.Unix())
	}
	t.add("clock", clock)
	t.add("precision", fmt.Sprint(st.Precision))
	t.add("data", fmt.Sprintf("%s on disk, %s in memory", size(st.DataBytes), size(st.HeadBytes)))
	for _, tier := range st.Tiers {
		t.add("tier "+tier.Width, fmt.Sprintf("nodes %s, fleet %s", keep(tier.KeepNode), keep(tier.KeepFleet)))
	}
	t.add("alarms", orNone(strings.Join(st.Alarms, ", ")))
	return t
}

// writeFields writes rows of name and value, without a header.
func (t *table) writeFields(s streams) error {
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	for _, r := range t.rows {
		// The writer keeps its first error for Flush.
		_, _ = fmt.Fprintf(w, "%s\t%s\n", cell(r[0]), cell(r[1]))
	}
	return w.Flush()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// keep writes a retention as --retention takes it.
func keep(d string) string {
	if d == "" {
		return "forever"
	}
	return d
}

// statusToProto is the answer of the cluster as it came.
func statusToProto(st *client.Status) *dmtv1.StatusResponse {
	m := &dmtv1.StatusResponse{
		ClusterId: st.ClusterID, Id: st.ID, Address: st.Address, LeaderId: st.LeaderID, LeaderAddress: st.LeaderAddress,
		Term: st.Term, AppliedIndex: st.AppliedIndex, CommitIndex: st.CommitIndex, Clock: timestamppb.New(st.Clock),
		Precision: uint32(st.Precision), Alarms: st.Alarms, DataBytes: st.DataBytes, HeadBytes: st.HeadBytes, Version: st.Version,
	}
	for _, t := range st.Tiers {
		m.Tiers = append(m.Tiers, &dmtv1.Tier{Width: t.Width, KeepNode: t.KeepNode, KeepFleet: t.KeepFleet})
	}
	for _, member := range st.Members {
		m.Members = append(m.Members, memberToProto(member))
	}
	return m
}

func memberToProto(m client.Member) *dmtv1.Member {
	return &dmtv1.Member{
		Id: m.ID, Address: m.Address, Voter: m.Voter, Leader: m.Leader, AppliedIndex: m.AppliedIndex, Reachable: m.Reachable,
		FreeDiskBytes: m.FreeDiskBytes, ClockSkewMs: m.ClockSkew.Milliseconds(), Version: m.Version,
	}
}
