package main

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// queryArgs is the command line of query. The question is spelled as on the
// wire, so that both mean the same.
type queryArgs struct {
	connection
	output
	question  dmtv1.QueryRequest
	quantiles []string
}

func newQueryCmd(s streams) *cobra.Command {
	a := &queryArgs{}
	cmd := &cobra.Command{
		Use:   "query METRIC",
		Short: "Ask for medians and quantiles over a window",
		Long: `Query answers with the median of a metric, or with any quantiles, over any
window: the value, and the interval that is certain to hold the true one. The
bound is the largest relative error that the value can have; "exact" says that
it has none, "interval" that zero lies inside and only the interval is claimed.

Without --last, --from and --to the window is all time. Windows are widened to
whole buckets of ten seconds, and the answer shows the span really covered;
with --align strict they are refused instead. With no data in the window the
exit code is 3.`,
		Example: `  dmt query latency_us
  dmt query latency_us --last 1h -q 0.5,0.9,0.99
  dmt query latency_us --from 2026-11-23T10:00Z --to 2026-11-23T11:00Z --step 10m
  dmt query latency_us --node 'web-*' --by node --json`,
		Args: exactly("METRIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.question.Metric = args[0]
			return runQuery(cmd.Context(), s, a)
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.question.Last, "last", "", "the window of this `duration` that ends now")
	f.StringVar(&a.question.From, "from", "", "begin of the window, a `time`")
	f.StringVar(&a.question.To, "to", "", "end of the window, a `time`, itself excluded")
	f.StringSliceVarP(&a.quantiles, "quantiles", "q", []string{"0.5"}, "`quantiles`, each from 0 to 1")
	f.StringArrayVar(&a.question.Nodes, "node", nil, "only nodes that match this `glob`; may be repeated")
	f.StringVar(&a.question.By, "by", "", "`node` for one answer per node")
	f.StringVar(&a.question.Step, "step", "", "one answer per step of this `duration`")
	f.StringVar(&a.question.Read, "read", "linearizable", "how `fresh`: linearizable, leader or stale")
	f.StringVar(&a.question.Align, "align", "outward", "`what` windows that cut buckets become: outward or strict")
	f.StringVar(&a.question.MaxStaleness, "max-staleness", "", "with --read stale: refuse answers older than this `duration`")
	a.connection.flags(cmd)
	a.output.flags(cmd)
	for flag, words := range map[string][]string{"by": {"node"}, "read": {"linearizable", "leader", "stale"}, "align": {"outward", "strict"}} {
		must(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
	}
	return cmd
}

func runQuery(ctx context.Context, s streams, a *queryArgs) error {
	q, err := a.query(time.Now())
	if err != nil {
		return err
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		answer, err := c.Query(ctx, q)
		if err != nil && !errors.Is(err, client.ErrNoData) {
			return err
		}
		if werr := a.write(s.Out, answerTable(&a.output, answer), api.AnswerToProto(answer)); werr != nil {
			return werr
		}
		if err != nil {
			return noData(answer)
		}
		return nil
	})
}

// query reads the question, refusing what no cluster would answer.
func (a *queryArgs) query(now time.Time) (window.Query, error) {
	if err := a.check(); err != nil {
		return window.Query{}, err
	}
	a.question.Quantiles = a.question.Quantiles[:0]
	for _, text := range a.quantiles {
		q, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return window.Query{}, usagef("-q: %q is not a number", text)
		}
		a.question.Quantiles = append(a.question.Quantiles, q)
	}
	// How wide the cluster's finest bucket is, only the cluster knows: it
	// checks steps and alignment once more.
	return api.QueryFromProto(&a.question, now)
}

func noData(answer window.Answer) error {
	if answer.Asked.IsAll() {
		return noDataError("no data of " + string(answer.Metric))
	}
	return noDataError("no data of " + string(answer.Metric) + " in " + answer.Asked.String())
}

// noDataError is client.ErrNoData in words that name what was asked.
type noDataError string

func (e noDataError) Error() string        { return string(e) }
func (e noDataError) Is(target error) bool { return target == client.ErrNoData }

// answerTable has one row per result and quantile.
func answerTable(o *output, answer window.Answer) table {
	t := table{header: []string{"from", "to", "node", "nodes", "count", "min", "max", "q", "value", "lower", "upper", "bound"}}
	for _, r := range answer.Results {
		for _, e := range r.Estimates {
			t.add(o.time(r.Span.From), o.time(r.Span.To), r.Node, strconv.Itoa(r.Nodes), strconv.FormatUint(r.Count, 10),
				o.number(r.Min, 0), o.number(r.Max, 0), strconv.FormatFloat(e.Q, 'g', -1, 64),
				o.number(e.Value, 0), o.number(e.Lower, -1), o.number(e.Upper, 1), bound(o, e))
		}
	}
	return t
}

// number writes a number: in full for programs, for people with no more digits
// than they read. What is left off never makes an interval too narrow: towards
// says that the text may lie only below (-1) or only above (1) the number.
func (o *output) number(n sketch.Number, towards int) string {
	if _, whole := n.Int64(); whole || o.format != "table" {
		return n.String()
	}
	v := n.Float64()
	// A millionth is more than rounding to seven digits can take away.
	for _, nudged := range []float64{v, v + float64(towards)*math.Abs(v)*1e-6} {
		text := strconv.FormatFloat(nudged, 'g', 7, 64)
		short, err := strconv.ParseFloat(text, 64)
		if err == nil && (towards == 0 || towards < 0 && short <= v || towards > 0 && short >= v) {
			return text
		}
	}
	return n.String()
}

// bound writes the certified relative error: a number for programs, words and
// percent, rounded up, for people.
func bound(o *output, e window.QuantileEstimate) string {
	switch {
	case math.IsInf(e.MaxRelativeError, 1) && o.format == "csv":
		return ""
	case o.format == "csv":
		return strconv.FormatFloat(e.MaxRelativeError, 'g', -1, 64)
	case e.Exact:
		return "exact"
	case math.IsInf(e.MaxRelativeError, 1):
		return "interval"
	}
	percent := math.Ceil(e.MaxRelativeError*100*1000) / 1000
	return strconv.FormatFloat(percent, 'f', 3, 64) + " %"
}
