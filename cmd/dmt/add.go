package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// maxLine bounds a line of input. A number or a row is far shorter.
const maxLine = 64 << 10

type addArgs struct {
	connection
	output
	metric string
	values []string
	node   string
	at     string
}

func newAddCmd(s streams) *cobra.Command {
	a := &addArgs{}
	cmd := &cobra.Command{
		Use:   "add METRIC VALUE...",
		Short: "Add values of one node",
		Long: `Add counts values of one node: integers, or decimals, which are counted as
64-bit floats. NaN, infinities and hexadecimal numbers are refused. If a value
on the command line is bad, none is counted.

With - for the values they are read from stdin, one per line, and counted as
they come; a bad line is named and left out, and the exit code is then 1.`,
		Example: `  dmt add latency_us 12 15 900 --node web-1
  dmt add latency_us 31 --node web-1 --at 90m
  dmt add temperature -3.5 0 2.25 --node probe-7
  seq 1000 | dmt add latency_us - --node web-2`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return errors.New("METRIC is missing")
			case len(args) == 1:
				return errors.New("VALUE is missing (or - for stdin)")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.metric, a.values = args[0], args[1:]
			if err := required(cmd, "node"); err != nil {
				return err
			}
			return runAdd(cmd.Context(), s, a)
		},
	}
	cmd.Flags().StringVar(&a.node, "node", "", "`id` of the node that measured the values")
	cmd.Flags().StringVar(&a.at, "at", "", "`time` of the measurement (default now)")
	a.connection.flags(cmd)
	a.output.flags(cmd)
	return cmd
}

// shieldNegatives moves negative values of add behind "--", where they are not
// taken for flags. What follows a flag is left to that flag.
func shieldNegatives(args []string) []string {
	if len(args) == 0 || args[0] != "add" || slices.Contains(args, "--") {
		return args
	}
	isNegative := func(s string) bool {
		return len(s) > 1 && s[0] == '-' && (s[1] == '.' || '0' <= s[1] && s[1] <= '9')
	}
	kept, negative := []string{}, []string{"--"}
	for i, arg := range args {
		ofFlag := i > 0 && strings.HasPrefix(args[i-1], "--") && !strings.Contains(args[i-1], "=")
		if isNegative(arg) && !ofFlag {
			negative = append(negative, arg)
			continue
		}
		kept = append(kept, arg)
	}
	return append(kept, negative...)
}

func runAdd(ctx context.Context, s streams, a *addArgs) error {
	metric, at, err := a.parse(time.Now())
	if err != nil {
		return err
	}
	stdin := len(a.values) == 1 && a.values[0] == "-"
	var values []sketch.Number
	if !stdin {
		if values, err = parseValues(a.values); err != nil {
			return err
		}
	}
	c, err := a.open()
	if err != nil {
		return err
	}
	h := c.Recorder(a.node, client.RecorderOptions{}).Metric(string(metric))
	var bad error
	if stdin {
		bad = addLines(ctx, s, h, at)
	} else {
		for _, v := range values {
			bad = errors.Join(bad, addNumber(h, v, at))
		}
	}
	// What was read is sent even when the reading was interrupted.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		return a.where(errors.Join(err, bad))
	}
	n := c.Stats().AckedValues
	if err := a.written(s, n, metric); err != nil {
		return err
	}
	return bad
}

// parse checks everything that is said once.
func (a *addArgs) parse(now time.Time) (window.Metric, time.Time, error) {
	if err := a.check(); err != nil {
		return "", time.Time{}, err
	}
	metric, err := window.ParseMetric(a.metric)
	if err != nil {
		return "", time.Time{}, err
	}
	if err := window.CheckNode(a.node); err != nil {
		return "", time.Time{}, err
	}
	if a.at == "" {
		return metric, time.Time{}, nil
	}
	unix, err := window.ParseTime(a.at, now)
	if err != nil {
		return "", time.Time{}, window.InField(err, "at")
	}
	return metric, time.Unix(unix, 0), nil
}

func parseValues(texts []string) ([]sketch.Number, error) {
	values := make([]sketch.Number, len(texts))
	for i, text := range texts {
		v, err := sketch.ParseNumber(text)
		if err != nil {
			return nil, usagef("value %q: not a finite decimal number; nothing was counted", text)
		}
		values[i] = v
	}
	return values, nil
}

// addNumber counts v now, or in the bucket of at when that is set.
func addNumber(h *client.Handle, v sketch.Number, at time.Time) error {
	i, isInt := v.Int64()
	switch {
	case isInt && at.IsZero():
		h.AddInt(i)
	case isInt:
		h.AddIntAt(at, i)
	case at.IsZero():
		return h.Add(v.Float64())
	default:
		return h.AddAt(at, v.Float64())
	}
	return nil
}

// addLines counts the numbers of stdin until its end or that of ctx.
func addLines(ctx context.Context, s streams, h *client.Handle, at time.Time) error {
	lines := bufio.NewScanner(s.In)
	lines.Buffer(nil, maxLine)
	number, bad := 0, 0
	for ctx.Err() == nil && lines.Scan() {
		number++
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		v, err := sketch.ParseNumber(text)
		if err == nil {
			err = addNumber(h, v, at)
		}
		if err != nil {
			bad++
			complain(s.Err, bad, "line %d: %.40q: not a finite decimal number", number, text)
		}
	}
	if err := lines.Err(); err != nil {
		return failuref("line %d: %w", number+1, err)
	}
	if bad > 0 {
		return failuref("%d of %d lines left out", bad, number)
	}
	return ctx.Err()
}

func (a *addArgs) written(s streams, n uint64, metric window.Metric) error {
	if a.format == "table" {
		values := "values"
		if n == 1 {
			values = "value"
		}
		_, err := fmt.Fprintf(s.Out, "counted %d %s of %s on %s\n", n, values, printable(string(metric)), printable(a.node))
		return err
	}
	t := table{header: []string{"count"}}
	t.add(fmt.Sprint(n))
	return a.write(s.Out, t, &dmtv1.AddValuesResponse{Count: n})
}
