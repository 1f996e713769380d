package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newRootCmd builds the whole command line.
func newRootCmd(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "dmt",
		Short: "Medians of everything your nodes measure, with an interval that is certain",
		Long: `dmt tracks medians and quantiles over thousands of nodes. Nodes ship small
sketches instead of values; a replicated cluster keeps one per metric, node and
ten seconds; any quantile over any window is answered with an interval that is
certain to hold the true one.

Times are RFC 3339 (2026-11-23T10:00Z), unix seconds, or an age (90m, 2d).
Every flag can be set in the environment: --addr is DMT_ADDR.

Exit codes: 0 ok, 1 failure, 2 usage, 3 no data in the window,
4 unavailable (no leader, no quorum, time-out), 5 refused (limits).`,
		Example: `  dmt demo
  dmt local`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnv(cmd.Flags())
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		newDemoCmd(s), newLocalCmd(s), newServeCmd(s),
		newAddCmd(s), newLoadCmd(s), newAgentCmd(s),
		newQueryCmd(s), newPlotCmd(s), newDiffCmd(s),
		newMetricsCmd(s), newNodesCmd(s), newBenchCmd(s),
		newStatusCmd(s), newMembersCmd(s), newJoinCmd(s), newRemoveCmd(s), newTransferCmd(s),
		newVersionCmd(s), newCompletionCmd(s),
	)
	asUsage(root)
	return root
}

// asUsage makes what cobra itself refuses, wrong arguments and missing flags,
// end with the exit code for usage.
func asUsage(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		asUsage(c)
	}
}

// exactly accepts the named arguments, no more and no fewer.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return fmt.Errorf("%s is missing", strings.Join(names[len(args):], " and "))
		}
		if len(args) > len(names) {
			return fmt.Errorf("unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// required refuses a flag that is neither given nor in the environment.
func required(cmd *cobra.Command, flag string) error {
	f := cmd.Flags().Lookup(flag)
	if f == nil {
		return errors.New("no flag --" + flag)
	}
	if f.Value.String() == "" || f.Value.String() == "[]" {
		return usagef("--%s is missing (or %s in the environment)", flag, envName(flag))
	}
	return nil
}
