package main

import (
	"fmt"
	"io"
	"time"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// screen is what the demo shows: lines that stay, and on a terminal one line
// below them that is always new.
type screen struct {
	w        io.Writer
	terminal bool
	drawn    time.Time // when the line that moves was last new
}

func newScreen(s streams) *screen { return &screen{w: s.Out, terminal: s.OutTerminal} }

// printf writes over the line that moves. A demo that nobody can see any more
// goes on to its verdict, which the exit code carries too.
func (s *screen) printf(format string, args ...any) {
	if s.terminal {
		_, _ = io.WriteString(s.w, "\r\x1b[K")
	}
	_, _ = fmt.Fprintf(s.w, format, args...)
}

// progress renews the line that moves, ten times a second.
func (s *screen) progress(elapsed time.Duration, values uint64) {
	if !s.terminal || time.Since(s.drawn) < 100*time.Millisecond {
		return
	}
	s.drawn = time.Now()
	_, _ = fmt.Fprintf(s.w, "\r\x1b[K%6.1f s  %12s  streaming", elapsed.Seconds(), grouped(values)) // see printf
}

func (s *screen) header() {
	s.printf("%8s  %12s  %10s  %-21s  %10s  %-6s  %s\n", "TIME", "VALUES", "MEDIAN", "CERTIFIED INTERVAL", "EXACT", "INSIDE", "BYTES PER NODE AND BUCKET")
}

func (s *screen) row(elapsed time.Duration, count uint64, e sketch.Estimate, exact sketch.Number, inside bool, sent, raw uint64) {
	verdict := "yes"
	if !inside {
		verdict = "NO"
	}
	interval := fmt.Sprintf("[%.2f, %.2f]", e.Lower.Float64(), e.Upper.Float64())
	s.printf("%6.1f s  %12s  %10.2f  %-21s  %10.1f  %-6s  %d sent, %d raw\n",
		elapsed.Seconds(), grouped(count), e.Float64(), interval, exact.Float64(), verdict, sent, raw)
}
