package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/statsd"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	// maxAgentLine bounds a line. The longest that can be of use, with 16 tags
	// of full length and some values, is shorter.
	maxAgentLine = 8 << 10

	// maxExcerpt is how much of a bad line is named.
	maxExcerpt = 80

	// nameEvery is how often a bad line is named for one reason. More often
	// fills the log of a machine with one misbehaving program.
	nameEvery = 10 * time.Second
)

// Why an agent refuses lines, besides what package statsd finds.
var (
	errLongLine   = &statsd.BadLine{Reason: "too_long", Message: fmt.Sprintf("longer than %d bytes", maxAgentLine)}
	errManySeries = &statsd.BadLine{Reason: "too_many_series", Message: "another metric than the --max-series before it"}
	errPlain      = &statsd.BadLine{Reason: "bad_line", Message: "not a metric and a number"}
	errPlainValue = &statsd.BadLine{Reason: "bad_value", Message: "not a finite decimal number"}
	errPlainName  = &statsd.BadLine{Reason: "bad_name", Message: "not a metric"}
	errNotCounted = &statsd.BadLine{Reason: "not_counted", Message: "refused by the recorder"}
)

// sink counts lines from any number of inputs into one recorder.
type sink struct {
	recorder *client.Recorder
	max      int // series
	log      *slog.Logger

	mu        sync.Mutex // guards what follows
	closed    bool
	line      statsd.Line // reused
	spellings map[spelling]*series
	series    map[window.Metric]*series
	warned    map[string]*warning // by reason

	packets, lines uint64
	bad, ignored   counts
}

// spelling is how a line names its series. Finding the series by it spares
// making the metric, which costs ten times as much.
type spelling struct{ name, tags string }

// series is one metric with its labels.
type series struct {
	handle *client.Handle
	carry  statsd.Carry
}

// warning is what was said about bad lines of one reason.
type warning struct {
	next time.Time // not again before
	held uint64    // lines since, that were not named
}

func newSink(r *client.Recorder, maxSeries int, log *slog.Logger) *sink {
	return &sink{
		recorder: r, max: maxSeries, log: log,
		spellings: make(map[spelling]*series), series: make(map[window.Metric]*series),
		warned: make(map[string]*warning), bad: make(counts), ignored: make(counts),
	}
}

// close makes the sink deaf: an input that was left behind counts nothing.
func (k *sink) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
}

// packet counts the lines of one datagram. What was cut off is no line.
func (k *sink) packet(source, text string, cut bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.packets++
	for more := true; more; {
		var line string
		line, text, more = strings.Cut(text, "\n")
		line = strings.TrimSuffix(line, "\r")
		switch {
		case line == "" && !(cut && !more):
			continue
		case len(line) > maxAgentLine, cut && !more:
			k.refuse(source, line, errLongLine)
			continue
		}
		k.lines++
		if err := k.statsd(line); err != nil {
			k.name(source, line, err)
		}
	}
}

// statsd counts one line of StatsD. k.mu is held, as in all that follows.
func (k *sink) statsd(line string) error {
	l := &k.line
	if err := l.Parse(line); err != nil {
		return err
	}
	if !l.Kind.Measured() {
		k.ignored[l.Kind.String()]++
		if k.ignored[l.Kind.String()] == 1 {
			k.log.Info("ignored: only timers, histograms and distributions have quantiles; further ones are only counted", "type", l.Kind.String())
		}
		return nil
	}
	s := k.spellings[spelling{l.Name, l.Tags}]
	if s == nil {
		metric, err := l.Metric()
		if err != nil {
			return err
		}
		if s, err = k.find(metric, spelling{l.Name, l.Tags}); err != nil {
			return err
		}
	}
	for _, v := range l.Values {
		if err := s.add(v, s.carry.Weight(l.Rate)); err != nil {
			return errors.Join(errNotCounted, err)
		}
	}
	return nil
}

// find returns the series of a metric, and remembers how it was spelled.
func (k *sink) find(metric window.Metric, as spelling) (*series, error) {
	s := k.series[metric]
	if s == nil {
		if len(k.series) >= k.max {
			return nil, errManySeries
		}
		s = &series{handle: k.recorder.Metric(string(metric))}
		k.series[metric] = s
	}
	if len(k.spellings) >= 4*k.max {
		clear(k.spellings) // tags in ever other orders: begin again
	}
	// Parts of a line would keep all of its packet in memory.
	k.spellings[spelling{strings.Clone(as.name), strings.Clone(as.tags)}] = s
	return s, nil
}

// add counts v n times.
func (s *series) add(v sketch.Number, n uint64) error {
	if i, ok := v.Int64(); ok {
		s.handle.AddIntN(i, n)
		return nil
	}
	return s.handle.AddN(v.Float64(), n)
}

// readLines counts the lines of r until its end: "METRIC VALUE", or only values
// where the metric is given.
func (k *sink) readLines(r io.Reader, metric string) error {
	lines := bufio.NewReaderSize(r, maxAgentLine+len("\r\n"))
	long := false // the rest of a line that was refused
	for {
		b, err := lines.ReadSlice('\n')
		cut := errors.Is(err, bufio.ErrBufferFull)
		if !long && !k.plainLine(b, metric, cut) {
			return nil // closed
		}
		long = cut
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !cut:
			return failuref("stdin: %w", err)
		}
	}
}

// plainLine counts a line that was read, and returns false if the sink is
// closed.
func (k *sink) plainLine(b []byte, metric string, cut bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return false
	}
	if cut {
		k.refuse("stdin", string(b), errLongLine)
		return true
	}
	line := strings.TrimSpace(string(b))
	if line == "" {
		return true
	}
	k.lines++
	if err := k.plain(line, metric); err != nil {
		k.name("stdin", line, err)
	}
	return true
}

func (k *sink) plain(line, metric string) error {
	value := line
	if metric == "" {
		// Label values may hold blanks, a number may not.
		i := strings.LastIndexAny(line, " \t")
		if i < 0 {
			return errPlain
		}
		metric, value = strings.TrimSpace(line[:i]), line[i+1:]
	}
	v, err := sketch.ParseNumber(value)
	if err != nil {
		return errPlainValue
	}
	as := spelling{name: metric, tags: "plain"} // a name of StatsD may mean something else
	s := k.spellings[as]
	if s == nil {
		m, err := window.ParseMetric(metric)
		if err != nil {
			return errPlainName
		}
		if s, err = k.find(m, as); err != nil {
			return err
		}
	}
	return s.add(v, 1)
}

// refuse counts and names a line that was not even looked at.
func (k *sink) refuse(source, line string, err error) {
	k.lines++
	k.name(source, line, err)
}

// name counts a bad line by its reason, and shows it where none like it was
// shown lately.
func (k *sink) name(source, line string, err error) {
	bad := errNotCounted
	errors.As(err, &bad)
	k.bad[bad.Reason]++
	w := k.warned[bad.Reason]
	if w == nil {
		w = &warning{}
		k.warned[bad.Reason] = w
	}
	now := time.Now()
	if now.Before(w.next) {
		w.held++
		return
	}
	k.log.Warn("bad line", "source", source, "reason", bad.Reason, "why", bad.Message, "line", excerpt(line), "unnamed_before", w.held)
	w.next, w.held = now.Add(nameEvery), 0
}

// excerpt returns the beginning of a line, safe to show.
func excerpt(line string) string {
	if len(line) <= maxExcerpt {
		return cell(line)
	}
	return cell(line[:maxExcerpt]) + "..."
}
