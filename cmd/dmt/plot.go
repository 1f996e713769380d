package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/plot"
	"github.com/distributed-median-tracker/dmt/window"
)

// autoStep is what --step says when the step follows from the span.
const autoStep = "auto"

type plotArgs struct {
	connection
	question      dmtv1.QueryRequest
	step          string
	scale         string
	out           string
	width, height int
	utc           bool
}

func newPlotCmd(s streams) *cobra.Command {
	a := &plotArgs{}
	cmd := &cobra.Command{
		Use:   "plot METRIC",
		Short: "Draw the median over time, in the terminal or as SVG",
		Long: `Plot draws a metric over time: the median, the middle half of the values (p25
to p75) and p99, one answer for each step. Where there is no data the picture
stays empty; nothing is averaged or guessed.

Without --last, --from and --to it draws all time. --step auto takes the
shortest round step (10s, 30s, 1m, 5m, 10m, 30m, 1h, ...) that gives at most 300
points, and in a terminal no more than it has columns.

--out x.svg writes a picture for reports and web pages instead, with the
certified interval of the median, and gaps shaded as "no data"; --out - writes
it to stdout. Values of one sign that span more than three decades are drawn on
a logarithmic scale, unless --scale says linear. With no data in the window the
exit code is 3.`,
		Example: `  dmt plot latency_us
  dmt plot latency_us --from 2026-11-23T10:00Z --to 2026-11-23T11:00Z --step 1m --node 'web-*'
  dmt plot latency_us --out latency.svg --width 1200`,
		Args: exactly("METRIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.question.Metric = args[0]
			return runPlot(cmd.Context(), s, a)
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.question.Last, "last", "", "the window of this `duration` that ends now")
	f.StringVar(&a.question.From, "from", "", "begin of the window, a `time`")
	f.StringVar(&a.question.To, "to", "", "end of the window, a `time`, itself excluded")
	f.StringVar(&a.step, "step", autoStep, "one point per step of this `duration`, or auto")
	f.StringArrayVar(&a.question.Nodes, "node", nil, "only nodes that match this `glob`; may be repeated")
	f.StringVar(&a.scale, "scale", "auto", "of `values`: auto, linear or log")
	f.StringVar(&a.out, "out", "", "write an SVG to this `file`, x.svg, or - for stdout")
	f.IntVar(&a.width, "width", 0, "columns (as the terminal has, else 80), of an SVG pixels (900)")
	f.IntVar(&a.height, "height", 0, "rows (15), of an SVG pixels (360)")
	f.BoolVar(&a.utc, "utc", false, "times in UTC instead of local time")
	readFlag(cmd, &a.question.Read)
	f.StringVar(&a.question.MaxStaleness, "max-staleness", "", "with --read stale: refuse answers older than this `duration`")
	a.connection.flags(cmd)
	must(cmd.RegisterFlagCompletionFunc("scale", cobra.FixedCompletions([]string{"auto", "linear", "log"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func runPlot(ctx context.Context, s streams, a *plotArgs) error {
	scale, err := a.check(s)
	if err != nil {
		return err
	}
	now := time.Now()
	q, err := a.query(now)
	if err != nil {
		return err
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		series, err := a.series(ctx, c, q)
		if err != nil {
			return err
		}
		return a.draw(s, series, scale)
	})
}

// check refuses pictures that are not drawn, and fills in the width.
func (a *plotArgs) check(s streams) (plot.Scale, error) {
	scale, ok := map[string]plot.Scale{"auto": plot.Auto, "linear": plot.Linear, "log": plot.Log}[a.scale]
	if !ok {
		return 0, usagef("--scale: %q is none of auto, linear, log", a.scale)
	}
	if ext := strings.ToLower(filepath.Ext(a.out)); a.out != "" && a.out != "-" && ext != ".svg" {
		return 0, usagef("--out: %q: pictures are written as SVG only: name it x.svg", a.out)
	}
	width, height := [2]int{plot.MinColumns, plot.MaxColumns}, [2]int{plot.MinRows, plot.MaxRows}
	if a.out != "" {
		width, height = [2]int{plot.MinWidth, plot.MaxWidth}, [2]int{plot.MinHeight, plot.MaxHeight}
	}
	if a.width != 0 && (a.width < width[0] || a.width > width[1]) {
		return 0, usagef("--width: %d is not in %d..%d", a.width, width[0], width[1])
	}
	if a.height != 0 && (a.height < height[0] || a.height > height[1]) {
		return 0, usagef("--height: %d is not in %d..%d", a.height, height[0], height[1])
	}
	if a.width == 0 && a.out == "" {
		a.width = columns80
		if f, ok := s.Out.(*os.File); ok && s.OutTerminal {
			if w, _, err := term.GetSize(int(f.Fd())); err == nil { // else as in a pipe
				a.width = min(max(w, plot.MinColumns), plot.MaxColumns)
			}
		}
	}
	return scale, nil
}

// columns80 is how wide a picture is where no terminal says it.
const columns80 = 80

// query reads the question. A step of 0 means auto.
func (a *plotArgs) query(now time.Time) (window.Query, error) {
	a.question.Step = a.step
	if a.step == autoStep {
		a.question.Step = ""
	}
	a.question.Quantiles = plot.Quantiles()
	q, err := api.QueryFromProto(&a.question, now)
	if err != nil {
		return q, err
	}
	// Resolved here, so that steps are those of the span that is asked.
	if !q.Span.IsAll() {
		q.Span, err = q.Span.At(now)
	}
	return q, err
}

// series asks for the points.
func (a *plotArgs) series(ctx context.Context, c *client.Client, q window.Query) (plot.Series, error) {
	if q.Span.IsAll() || q.Span.From == window.MinTime {
		covered, err := coveredSpan(ctx, c, q)
		if err != nil {
			return plot.Series{}, err
		}
		q.Span = covered
	}
	auto := q.Step == 0
	if auto {
		q.Step = plot.Step(q.Span, window.TenSeconds, a.points()).Duration()
	}
	if err := a.fits(q); err != nil {
		return plot.Series{}, err
	}
	answer, err := c.Query(ctx, q)
	if base, ok := coarser(err); auto && ok {
		q.Step = plot.Step(q.Span, base, a.points()).Duration()
		answer, err = c.Query(ctx, q)
	}
	if errors.Is(err, client.ErrNoData) {
		return plot.Series{}, noData(answer)
	}
	if err != nil {
		return plot.Series{}, err
	}
	return plot.FromAnswer(answer, window.Width(q.Step/time.Second))
}

// coveredSpan returns the part of an endless span in which there is data.
func coveredSpan(ctx context.Context, c *client.Client, q window.Query) (window.Span, error) {
	asked := q.Span
	q.Span, q.Step, q.Quantiles = window.All(), 0, nil
	answer, err := c.Query(ctx, q)
	if errors.Is(err, client.ErrNoData) {
		return window.Span{}, noData(answer)
	}
	if err != nil || asked.IsAll() {
		return answer.Span, err
	}
	covered := answer.Span.Intersect(asked)
	if covered.Empty() {
		answer.Asked = asked
		return covered, noData(answer)
	}
	return covered, nil
}

// points is how many steps a picture has room for.
func (a *plotArgs) points() int {
	if a.out != "" {
		return plot.MaxPoints
	}
	return min(plot.MaxPoints, a.width-plot.Margin)
}

// fits refuses steps for which the picture is too narrow: it draws every one.
func (a *plotArgs) fits(q window.Query) error {
	if a.out != "" {
		return nil
	}
	points := plot.Steps(q.Span, window.Width(q.Step/time.Second))
	room := a.width - plot.Margin
	if points <= room {
		return nil
	}
	return usagef("--step: %s makes %d points, and there is room for %d: use a step of %v, or --width %d, or --out x.svg",
		window.FormatDuration(q.Step), points, room, plot.Step(q.Span, window.TenSeconds, room), points+plot.Margin)
}

// coarser returns the finest bucket of a cluster that refused a step because it
// is no multiple of it.
func coarser(err error) (window.Width, bool) {
	var refused *client.RefusedError
	if !errors.As(err, &refused) || refused.Field != "step" || refused.Reason != window.ReasonRange {
		return 0, false
	}
	d, err := window.ParseDuration(refused.Limit)
	return window.Width(d / time.Second), err == nil && d >= time.Second && d%time.Second == 0
}

// draw writes the picture.
func (a *plotArgs) draw(s streams, series plot.Series, scale plot.Scale) error {
	zone := time.Local
	if a.utc {
		zone = time.UTC
	}
	if a.out == "" {
		colour := s.OutTerminal && os.Getenv("NO_COLOR") == ""
		_, err := s.Out.Write([]byte(series.Terminal(plot.TerminalOptions{
			Width: a.width, Height: a.height, Scale: scale, Zone: zone, Colour: colour,
		})))
		return err
	}
	svg := series.SVG(plot.SVGOptions{Width: a.width, Height: a.height, Scale: scale, Zone: zone})
	if a.out == "-" {
		_, err := s.Out.Write(svg)
		return err
	}
	if err := os.WriteFile(a.out, svg, 0o644); err != nil {
		return err
	}
	say(s.Err, "wrote %s: %d points of %v", a.out, len(series.Points), series.Step)
	return nil
}
