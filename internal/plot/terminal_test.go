package plot

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestTerminal_Golden(t *testing.T) {
	golden(t, "day.txt", []byte(day(t).Terminal(TerminalOptions{Width: 100})))
	golden(t, "decades.txt", []byte(decades(t).Terminal(TerminalOptions{})))
	golden(t, "one.txt", []byte(one(t).Terminal(TerminalOptions{Width: 50, Height: 7})))
}

func TestTerminal_GapsStayEmpty(t *testing.T) {
	// Every third step has no data: neither have its columns.
	s := series(t, "m", "2026-11-23 10:00:00", 10, 12, func(i int) []sketch.Number {
		if i%3 == 1 {
			return nil
		}
		return []sketch.Number{sketch.Int(int64(i))}
	})
	body := strings.Split(s.Terminal(TerminalOptions{Width: 60}), "\n")[1:]
	axis := 0
	for !strings.Contains(body[axis], "└") {
		axis++
	}
	left := utf8.RuneCountInString(body[axis][:strings.Index(body[axis], "└")]) + 1
	wide := (60 - left) / 12
	for _, line := range body[:axis] {
		for i, r := range []rune(line) {
			if column := i - left; column >= 0 && column/wide%3 == 1 && r != ' ' {
				t.Errorf("%q in column %d, which has no data:\n%s", r, column, strings.Join(body, "\n"))
			}
		}
	}
	for step := range 12 {
		drawn := false
		for _, line := range body[:axis] {
			for i, r := range []rune(line) {
				drawn = drawn || i >= left && (i-left)/wide == step && r != ' '
			}
		}
		if drawn != (step%3 != 1) {
			t.Errorf("step %d is drawn: %v\n%s", step, drawn, strings.Join(body, "\n"))
		}
	}
}

func TestTerminal_FitsItsWidthAndSteersNothing(t *testing.T) {
	for _, s := range []Series{decades(t), hostile(t), one(t)} {
		for _, width := range []int{80, 100, 200} {
			text := s.Terminal(TerminalOptions{Width: width, Zone: time.UTC})
			for line := range strings.Lines(text) {
				picture := strings.ContainsAny(line, "┤┼└")
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); picture && n > width {
					t.Errorf("a line of %d characters, want %d:\n%s", n, width, text)
				}
			}
			if strings.ContainsAny(text, "\x00\x1b\u202e") || !utf8.ValidString(text) {
				t.Errorf("a terminal would obey this: %q", text)
			}
		}
	}
	if text := one(t).Terminal(TerminalOptions{Colour: true}); !strings.Contains(text, "\x1b[") {
		t.Error("no colours where they are wanted")
	}
}
