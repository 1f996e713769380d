package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// diffArgs is the command line of diff. Both sides are spelled as on the wire.
type diffArgs struct {
	connection
	output
	current, base        dmtv1.QueryRequest
	quantile             float64
	offset, read, maxAge string
}

func newDiffCmd(s streams) *cobra.Command {
	a := &diffArgs{}
	cmd := &cobra.Command{
		Use:   "diff METRIC [BASE-METRIC]",
		Short: "Compare two windows, two metrics or two nodes",
		Long: `Diff compares the median of a metric, or another quantile, with a base: another
window (--offset, or --base-from and --base-to), another metric (the second
argument), other nodes (--base-node), or several of these. What is not said of
the base is as on the other side.

The difference is current minus base, with the interval certain to hold it, and
so is the ratio, current by base, where the base is certainly not 0. The verdict
is "up" or "down" where the two intervals share no number, so that the
difference is certain, else "undecided". Whether it matters is for you to say.
If either side has no data, there is no difference: the exit code is 3.

JSON (-o json) is one object: q; current and base, each with nodes (the globs)
and answer (the object that "dmt query" prints); difference and ratio, each with
value, lower, upper and exact, and null where there is none; verdict. CSV has
the lines of the table. Integers keep all their digits, and stand in strings in
JSON beyond 2^53; other ends are rounded outwards. An end of the difference or
ratio that is beyond the range of 64-bit floats is null, or empty.`,
		Example: `  dmt diff latency_us --last 1h --offset 1d
  dmt diff latency_us --from 2026-11-23T10:00Z --to 2026-11-23T11:00Z --base-from 2026-11-22T10:00Z --base-to 2026-11-22T11:00Z
  dmt diff latency_us --node web-1 --base-node web-2 -q 0.99
  dmt diff latency_us rtt_ms -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exactly("METRIC")(nil, args)
			}
			return exactly("METRIC", "BASE-METRIC")(nil, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.current.Metric, a.base.Metric = args[0], args[len(args)-1]
			return runDiff(cmd.Context(), s, a)
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.current.Last, "last", "", "the window of this `duration` that ends now")
	f.StringVar(&a.current.From, "from", "", "begin of the window, a `time`")
	f.StringVar(&a.current.To, "to", "", "end of the window, a `time`, itself excluded")
	f.StringVar(&a.offset, "offset", "", "the base is the window of this `duration` before")
	f.StringVar(&a.base.From, "base-from", "", "begin of the window of the base, a `time`")
	f.StringVar(&a.base.To, "base-to", "", "end of the window of the base, a `time`, itself excluded")
	f.StringArrayVar(&a.current.Nodes, "node", nil, "only nodes that match this `glob`; may be repeated")
	f.StringArrayVar(&a.base.Nodes, "base-node", nil, "the base is of nodes that match this `glob`; may be repeated")
	f.Float64VarP(&a.quantile, "quantile", "q", 0.5, "`quantile` that is compared, from 0 to 1")
	readFlag(cmd, &a.read)
	f.StringVar(&a.maxAge, "max-staleness", "", "with --read stale: refuse answers older than this `duration`")
	a.connection.flags(cmd)
	a.output.flags(cmd)
	return cmd
}

func runDiff(ctx context.Context, s streams, a *diffArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	current, base, err := a.queries(time.Now())
	if err != nil {
		return err
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		d := comparison{q: a.quantile, current: side{nodes: current.Nodes}, base: side{nodes: base.Nodes}}
		var err1, err2 error
		if d.current.answer, err1 = c.Query(ctx, current); err1 != nil && !errors.Is(err1, client.ErrNoData) {
			return err1
		}
		if d.base.answer, err2 = c.Query(ctx, base); err2 != nil && !errors.Is(err2, client.ErrNoData) {
			return fmt.Errorf("base: %w", err2)
		}
		if err := d.compare(); err != nil {
			return err
		}
		if err := a.show(s, &d); err != nil {
			return err
		}
		switch {
		case err1 != nil:
			return noData(d.current.answer)
		case err2 != nil:
			return fmt.Errorf("base: %w", noData(d.base.answer))
		}
		return nil
	})
}

// queries reads both sides, refusing what no cluster would answer. Both have
// the same present.
func (a *diffArgs) queries(now time.Time) (current, base window.Query, err error) {
	if current, err = a.side(&a.current, now); err != nil {
		return current, base, err
	}
	ownWindow := a.base.From != "" || a.base.To != ""
	switch {
	case a.offset != "" && ownWindow:
		return current, base, usagef("--offset excludes --base-from and --base-to")
	case a.offset == "" && !ownWindow && len(a.base.Nodes) == 0 && a.base.Metric == a.current.Metric:
		return current, base, usagef("nothing to compare with: name a second metric, or --offset, --base-from and --base-to, or --base-node")
	case len(a.base.Nodes) == 0:
		a.base.Nodes = a.current.Nodes
	}
	if base, err = a.side(&a.base, now); err != nil {
		var in *window.InputError
		if errors.As(err, &in) {
			err = window.InField(err, "base-"+in.Field)
		}
		return current, base, err
	}
	if !ownWindow {
		base.Span = current.Span
	}
	if a.offset != "" {
		base.Span, err = shifted(current.Span, a.offset)
	}
	return current, base, err
}

func (a *diffArgs) side(r *dmtv1.QueryRequest, now time.Time) (window.Query, error) {
	r.Quantiles, r.Read, r.MaxStaleness = []float64{a.quantile}, a.read, a.maxAge
	q, err := api.QueryFromProto(r, now)
	if err == nil && !q.Span.IsAll() {
		q.Span, err = q.Span.At(now)
	}
	return q, err
}

// shifted returns the window so much earlier.
func shifted(s window.Span, offset string) (window.Span, error) {
	d, err := window.ParseDuration(offset)
	if err != nil {
		return s, window.InField(err, "offset")
	}
	switch {
	case d == 0 || d%time.Second != 0:
		return s, usagef("--offset: %s is not a positive number of whole seconds", offset)
	case s.IsAll() || s.From == window.MinTime:
		return s, usagef("--offset: a window without begin cannot be earlier; say --last or --from")
	}
	seconds := int64(d / time.Second)
	if s.From-window.MinTime < seconds {
		return s, usagef("--offset: %s before %v is before the year 1", offset, s)
	}
	return window.Span{From: s.From - seconds, To: s.To - seconds}, nil
}

// side is one of the two things compared.
type side struct {
	nodes  []string
	answer window.Answer
}

// comparison is the result of diff. Without data on both sides it has no more
// than the sides.
type comparison struct {
	q             float64
	current, base side
	difference    *interval
	ratio         *interval // nil where the base may be 0
	verdict       string
}

// compare fills in what follows from the two answers.
func (c *comparison) compare() error {
	if len(c.current.answer.Results) == 0 || len(c.base.answer.Results) == 0 {
		return nil
	}
	current, ok1 := c.current.estimate(c.q)
	base, ok2 := c.base.estimate(c.q)
	if !ok1 || !ok2 {
		return fmt.Errorf("the cluster answers without the quantile %v", c.q)
	}
	c.difference, c.ratio, c.verdict = difference(current, base), ratio(current, base), verdict(current, base)
	return nil
}

func (s side) estimate(q float64) (sketch.Estimate, bool) {
	if len(s.answer.Results) != 1 {
		return sketch.Estimate{}, false
	}
	e, ok := s.answer.Results[0].Quantile(q)
	return e, ok && !e.Empty
}

// globs returns which nodes were asked for.
func (s side) globs() string {
	if len(s.nodes) == 0 {
		return window.AllNodes
	}
	return strings.Join(s.nodes, ",")
}

// verdict tells up and down only where no two numbers of the intervals leave it
// open.
func verdict(current, base sketch.Estimate) string {
	switch {
	case current.Lower.Cmp(base.Upper) > 0:
		return "up"
	case current.Upper.Cmp(base.Lower) < 0:
		return "down"
	}
	return "undecided"
}

// show writes the comparison. For people nothing is written where a side has no
// data; programs see which one that is.
func (a *diffArgs) show(s streams, c *comparison) error {
	if a.format == "json" {
		b, err := c.json()
		if err != nil {
			return err
		}
		_, err = s.Out.Write(b)
		return err
	}
	if c.difference == nil {
		return nil
	}
	return a.write(s.Out, diffTable(&a.output, c), nil)
}

// diffTable has one row per side, one for each thing that follows.
func diffTable(o *output, c *comparison) table {
	t := table{header: []string{"", "metric", "from", "to", "node", "nodes", "count", "q", "value", "lower", "upper", "bound"}}
	if o.format == "csv" {
		t.header[0] = "side"
	}
	for _, s := range []struct {
		name string
		side
	}{{"current", c.current}, {"base", c.base}} {
		r := s.answer.Results[0]
		e := window.QuantileEstimate{Q: c.q}
		e.Estimate, _ = s.estimate(c.q) // compare has seen to it
		t.add(s.name, string(s.answer.Metric), o.time(r.Span.From), o.time(r.Span.To), s.globs(), strconv.Itoa(r.Nodes), strconv.FormatUint(r.Count, 10),
			strconv.FormatFloat(c.q, 'g', -1, 64), o.number(e.Value, 0), o.number(e.Lower, -1), o.number(e.Upper, 1), bound(o, e))
	}
	for _, d := range []struct {
		name string
		*interval
	}{{"difference", c.difference}, {"ratio", c.ratio}} {
		if d.interval != nil {
			t.add(d.name, "", "", "", "", "", "", "", d.value.text(o, 0), d.lower.text(o, -1), d.upper.text(o, 1), d.bound(o))
		}
	}
	t.add("verdict", "", "", "", "", "", "", "", c.verdict)
	if o.format == "csv" { // where every line has every field
		last := len(t.rows) - 1
		t.rows[last] = append(t.rows[last], "", "", "")
	}
	return t
}

// json writes the comparison as the help describes it.
func (c *comparison) json() ([]byte, error) {
	type sideJSON struct {
		Nodes  []string        `json:"nodes"`
		Answer json.RawMessage `json:"answer"`
	}
	object := struct {
		Q          float64   `json:"q"`
		Current    sideJSON  `json:"current"`
		Base       sideJSON  `json:"base"`
		Difference *interval `json:"difference"`
		Ratio      *interval `json:"ratio"`
		Verdict    *string   `json:"verdict"`
	}{Q: c.q, Difference: c.difference, Ratio: c.ratio}
	for _, s := range []struct {
		from side
		to   *sideJSON
	}{{c.current, &object.Current}, {c.base, &object.Base}} {
		answer, err := api.MarshalJSON(api.AnswerToProto(s.from.answer))
		if err != nil {
			return nil, err
		}
		*s.to = sideJSON{append([]string{}, s.from.nodes...), answer}
	}
	if c.verdict != "" {
		object.Verdict = &c.verdict
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // as in the answers of query
	err := e.Encode(object)
	return b.Bytes(), err
}
