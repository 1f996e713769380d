package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

	// loadNodes bounds the recorders that are held at once, 2 KB each. Past it
	// the load goes on with a new client: to close recorders one by one takes
	// longer the more there are.
	loadNodes = 50_000
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
	l := &loader{args: a, streams: s, metric: string(metric), refused: map[string]uint64{}}
	if err := l.open(); err != nil {
		return err
	}
	err = l.all(ctx)
	// What was read before an interrupt is counted.
	err = errors.Join(err, l.close(context.WithoutCancel(ctx)))
	if err != nil && l.rows == 0 {
		return a.where(err)
	}
	return errors.Join(l.summary(), a.where(err), l.verdict())
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
	metric  string

	client  *client.Client
	handles map[string]*client.Handle // by node
	since   int                       // rows since the last flush

	rows    uint64 // read, broken ones included
	broken  uint64
	refused map[string]uint64 // by reason, of clients that are closed
	sent    client.Stats      // the same: sums of what the summary shows
}

func (l *loader) open() (err error) {
	l.client, err = l.args.open()
	l.handles = map[string]*client.Handle{}
	return err
}

// close waits until everything is counted and adds up what the client did.
func (l *loader) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.args.timeout)
	defer cancel()
	err := notRefused(l.client.Close(ctx))
	st := l.client.Stats()
	l.sent.AckedValues += st.AckedValues
	l.sent.Sketches += st.Sketches
	l.sent.Batches += st.Batches
	l.sent.BytesSent += st.BytesSent
	l.sent.RawBytes += st.RawBytes
	for reason, n := range st.Refused {
		l.refused[reason] += n
	}
	return err
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
	if first > last {
		l.say("%s: no rows", name)
	} else {
		l.say("%s: %s to %s, %s", name, l.args.time(first), l.args.time(last), landing(tiers, first, last, time.Now().Unix()))
	}
	if tooOld > 0 {
		l.say("%s: %d rows are older than anything the cluster keeps (since %s): they will be refused", name, tooOld, l.args.time(oldest))
	}
	return nil
}

// landing says which tiers values from first to last end up in: the finest that
// still keeps their time, so a coarser one the older they are.
func landing(tiers window.Tiers, first, last, now int64) string {
	finest, ok := tiers.Landing(last, now)
	if !ok {
		return "lands nowhere"
	}
	coarsest, _ := tiers.Landing(max(first, tiers.MaxPast(now)), now)
	if coarsest == finest {
		return fmt.Sprintf("lands in the %s tier, kept %s", finest.Width, window.FormatKeep(finest.KeepNode))
	}
	return fmt.Sprintf("lands in the %s to %s tiers, kept %s to %s", finest.Width, coarsest.Width,
		window.FormatKeep(finest.KeepNode), window.FormatKeep(coarsest.KeepNode))
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
	h := l.handles[r.node]
	if h == nil {
		h = l.client.Recorder(r.node, client.RecorderOptions{}).Metric(l.metric)
		l.handles[r.node] = h
	}
	if err := addNumber(h, r.value, time.Unix(r.unix, 0)); err != nil {
		return err
	}
	if l.since++; l.since < loadRows {
		return nil
	}
	return l.flush(ctx)
}

// flush waits until all rows so far are counted: that bounds the memory.
func (l *loader) flush(ctx context.Context) error {
	l.since = 0
	if len(l.handles) >= loadNodes {
		return errors.Join(l.close(ctx), l.open())
	}
	ctx, cancel := context.WithTimeout(ctx, l.args.timeout)
	defer cancel()
	return notRefused(l.client.Flush(ctx))
}
