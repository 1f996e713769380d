package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/window"
)

const (
	// loadRows is how many rows are sketched before they are sent and waited
	// for. More makes fuller sketches of files that are not sorted by time;
	// fewer holds less in memory.
	loadRows = 20_000

	// loadNodes bounds the recorders that are held at once.
	loadNodes = 10_000
)

type loadArgs struct {
	connection
	output
	columns columns
	files   []string
	metric  string
}

func newLoadCmd(s streams) *cobra.Command {
	a := &loadArgs{}
	cmd := &cobra.Command{
		Use:   "load FILE...",
		Short: "Load measurements from CSV files",
		Long: `Load reads CSV files, plain or gzipped, sketches their values per node and ten
seconds, and sends the sketches. A file begins with a header; the time of a row
is unix seconds or RFC 3339. Integers are counted as integers, decimals as
64-bit floats.

A broken line is named by its number and left out, and so are rows that are
older than the cluster keeps; the rest is loaded. The exit code is 1 if there
were broken lines, 5 if the cluster refused rows. Loading a file again counts
it again. The time-out is for each part of the load that is sent.`,
		Example: `  dmt load rtt.csv.gz --metric rtt_ms
  dmt load a.csv b.csv --metric latency_us --time-column when --node-column host --value-column us`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("FILE is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.files = args
			if err := required(cmd, "metric"); err != nil {
				return err
			}
			return runLoad(cmd.Context(), s, a)
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.metric, "metric", "", "`name` of what was measured")
	f.StringVar(&a.columns.time, "time-column", "timestamp", "`column` that has the time")
	f.StringVar(&a.columns.node, "node-column", "node", "`column` that has the node")
	f.StringVar(&a.columns.value, "value-column", "value", "`column` that has the value")
	a.connection.flags(cmd)
	a.output.flags(cmd)
	return cmd
}

func runLoad(ctx context.Context, s streams, a *loadArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	metric, err := window.ParseMetric(a.metric)
	if err != nil {
		return err
	}
	c, err := a.open()
	if err != nil {
		return err
	}
	l := &loader{args: a, streams: s, client: c, metric: string(metric), recorders: map[string]*recorded{}}
	err = l.all(ctx)
	// Close has its own time: what was read before an interrupt is counted.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	err = errors.Join(err, notRefused(c.Close(closing)))
	if err != nil && l.rows == 0 {
		return err
	}
	return errors.Join(l.summary(c.Stats()), err, l.verdict(c.Stats()))
}

// notRefused drops refusals, which the summary counts by reason.
func notRefused(err error) error {
	if refused := (*client.RefusedError)(nil); errors.As(err, &refused) {
		if unsent := (*client.UnsentError)(nil); !errors.As(err, &unsent) {
			return nil
		}
	}
	return err
}

// loader counts the rows of files into recorders, one per node.
type loader struct {
	args    *loadArgs
	streams streams
	client  *client.Client
	metric  string

	recorders map[string]*recorded
	since     int // rows since the last flush

	rows   uint64 // read, broken ones included
	broken uint64
}

type recorded struct {
	recorder *client.Recorder
	handle   *client.Handle
}

func (l *loader) all(ctx context.Context) error {
	tiers, err := l.tiers(ctx)
	if err != nil {
		return err
	}
	for _, name := range l.args.files {
		if err := l.announce(ctx, name, tiers); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	bar, err := newBar(l.streams, l.args.files)
	if err != nil {
		return err
	}
	defer bar.finish()
	for _, name := range l.args.files {
		if err := l.file(ctx, name, bar); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return l.flush(ctx)
}

// tiers asks the cluster how it keeps what it is sent.
func (l *loader) tiers(ctx context.Context) (window.Tiers, error) {
	ctx, cancel := context.WithTimeout(ctx, l.args.timeout)
	defer cancel()
	st, err := l.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, t := range st.Tiers {
		fmt.Fprintf(&text, "%s node=%s fleet=%s\n", t.Width, keep(t.KeepNode), keep(t.KeepFleet))
	}
	return window.ParseTiers(text.String())
}

// announce reads a file once for its times and says where they will land, so
// that nobody waits for a load that will be refused.
func (l *loader) announce(ctx context.Context, name string, tiers window.Tiers) error {
	rows, closer, err := openRows(name, l.args.columns, io.Discard)
	if err != nil {
		return err
	}
	first, last, tooOld := window.MaxTime, window.MinTime, 0
	oldest := tiers.MaxPast(time.Now().Unix())
	for ctx.Err() == nil {
		r, err := rows.read()
		if broken := (*brokenLine)(nil); errors.As(err, &broken) {
			continue
		}
		if err != nil {
			break // a file that ends badly is reported when it is loaded
		}
		first, last = min(first, r.unix), max(last, r.unix)
		if r.unix < oldest {
			tooOld++
		}
	}
	if err := errors.Join(ctx.Err(), closer.Close()); err != nil {
		return err
	}
	base := tiers[0]
	switch {
	case first > last:
		l.say("%s: no rows", name)
	default:
		l.say("%s: %s to %s, lands in the %s tier, kept %s", name,
			l.args.time(first), l.args.time(last), base.Width, window.FormatKeep(base.KeepNode))
	}
	if tooOld > 0 {
		l.say("%s: %d rows are older than anything the cluster keeps (since %s): they will be refused", name, tooOld, l.args.time(oldest))
	}
	return nil
}

func (l *loader) say(format string, args ...any) {
	say(l.streams.Err, format, args...)
}

func (l *loader) file(ctx context.Context, name string, bar *bar) (err error) {
	rows, closer, err := openRows(name, l.args.columns, bar)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	complaints := 0
	for {
		r, err := rows.read()
		broken := (*brokenLine)(nil)
		switch {
		case errors.As(err, &broken):
			l.rows++
			l.broken++
			complaints++
			bar.above(func() { complain(l.streams.Err, complaints, "%s: %v", name, broken) })
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("line %d: %w", rows.line, err)
		}
		l.rows++
		if err := l.add(ctx, r); err != nil {
			return err
		}
	}
}

func (l *loader) add(ctx context.Context, r row) error {
	n := l.recorders[r.node]
	if n == nil {
		rec := l.client.Recorder(r.node, client.RecorderOptions{})
		n = &recorded{rec, rec.Metric(l.metric)}
		l.recorders[r.node] = n
	}
	if err := addNumber(n.handle, r.value, time.Unix(r.unix, 0)); err != nil {
		return err
	}
	if l.since++; l.since < loadRows {
		return nil
	}
	return l.flush(ctx)
}

// flush waits until all rows so far are counted: that bounds the memory.
func (l *loader) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.args.timeout)
	defer cancel()
	l.since = 0
	if err := notRefused(l.client.Flush(ctx)); err != nil {
		return err
	}
	if len(l.recorders) < loadNodes {
		return nil
	}
	for _, n := range l.recorders {
		if err := notRefused(n.recorder.Close(ctx)); err != nil {
			return err
		}
	}
	clear(l.recorders)
	return nil
}

// summary writes what became of the rows.
func (l *loader) summary(st client.Stats) error {
	if l.args.format == "json" {
		return json.NewEncoder(l.streams.Out).Encode(newLoadResult(l, st))
	}
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	amount := count
	if l.args.format == "table" {
		count = grouped
		amount = func(n uint64) string { return size(int64(n)) }
	}
	t := table{header: []string{"field", "value"}}
	t.add("rows", count(l.rows))
	t.add("values", count(st.AckedValues))
	t.add("broken", count(l.broken))
	for _, reason := range slices.Sorted(maps.Keys(st.Refused)) {
		t.add("refused "+reason, count(st.Refused[reason]))
	}
	t.add("sketches", count(st.Sketches))
	t.add("batches", count(st.Batches))
	t.add("bytes_sent", amount(st.BytesSent))
	t.add("bytes_raw", amount(st.RawBytes))
	if l.args.format == "table" {
		return t.writeFields(l.streams)
	}
	return t.writeCSV(l.streams.Out)
}

// loadResult is the summary for programs; counts are strings as everywhere.
type loadResult struct {
	Rows      uint64            `json:"rows,string"`
	Values    uint64            `json:"values,string"`
	Broken    uint64            `json:"broken,string"`
	Refused   map[string]string `json:"refused"`
	Sketches  uint64            `json:"sketches,string"`
	Batches   uint64            `json:"batches,string"`
	BytesSent uint64            `json:"bytes_sent,string"`
	BytesRaw  uint64            `json:"bytes_raw,string"`
}

func newLoadResult(l *loader, st client.Stats) loadResult {
	r := loadResult{
		Rows: l.rows, Values: st.AckedValues, Broken: l.broken, Refused: map[string]string{},
		Sketches: st.Sketches, Batches: st.Batches, BytesSent: st.BytesSent, BytesRaw: st.RawBytes,
	}
	for reason, n := range st.Refused {
		r.Refused[reason] = strconv.FormatUint(n, 10)
	}
	return r
}

// verdict says by the exit code whether all rows are counted.
func (l *loader) verdict(st client.Stats) error {
	if l.broken > 0 {
		return failuref("%d of %d rows are broken and were left out", l.broken, l.rows)
	}
	var refused uint64
	for _, n := range st.Refused {
		refused += n
	}
	if refused > 0 {
		return &client.RefusedError{Reason: strings.Join(slices.Sorted(maps.Keys(st.Refused)), ", "), Values: refused, Message: "the rest is loaded"}
	}
	return nil
}
