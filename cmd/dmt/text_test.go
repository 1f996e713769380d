package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestPrintable_EscapesWhatATerminalObeys(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	f("web-1", "web-1")
	f("Zürich 日本", "Zürich 日本")
	f("a\nb", "a\nb")
	f("red\x1b[31m", `red\x1b[31m`)
	f("left\u202eright", `left\u202eright`)
	f("bell\a", `bell\a`)
	f("bad\xff", `bad\xff`)
	f("real \ufffd", "real \ufffd")
	if got := cell("a\nb"); got != `a\nb` {
		t.Errorf("cell of two lines = %q", got)
	}
}

func TestShieldNegatives_OnlyValuesOfAdd(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := strings.Join(shieldNegatives(strings.Fields(in)), " "); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
	f("add m 1 --node a", "add m 1 --node a --")
	f("add m -1 2 -.5 --node a", "add m 2 --node a -- -1 -.5")
	f("add m -1e3 --node=a --at -86400", "add m --node=a --at -86400 -- -1e3")
	f("add m --node a -- -1", "add m --node a -- -1")
	f("add m 1 -o json", "add m 1 -o json --")
	f("query m -q 0.5", "query m -q 0.5")
	f("", "")
}

func TestNumber_InTablesNeverNarrowsTheInterval(t *testing.T) {
	table, csv := &output{format: "table"}, &output{format: "csv"}
	for _, v := range []float64{0.1, -0.1, 16.04710233470323, 15.960438730678698, 1e-310, -1e-310, math.MaxFloat64, -math.MaxFloat64, 123456789.5, 5e-324} {
		n, err := sketch.Float(v)
		if err != nil {
			t.Fatal(err)
		}
		lower, err1 := strconv.ParseFloat(table.number(n, -1), 64)
		upper, err2 := strconv.ParseFloat(table.number(n, 1), 64)
		if err := errors.Join(err1, err2); err != nil || lower > v || upper < v {
			t.Errorf("%v is shown as [%v, %v], %v", v, table.number(n, -1), table.number(n, 1), err)
		}
		if near := table.number(n, 0); len(near) > len("-1.234567e-310") {
			t.Errorf("%v is shown as %s", v, near)
		}
		if full := csv.number(n, -1); full != n.String() {
			t.Errorf("%v in CSV is %s", v, full)
		}
	}
	if got := table.number(sketch.Int(math.MaxInt64), -1); got != "9223372036854775807" {
		t.Errorf("MaxInt64 is shown as %s", got)
	}
}

func TestExitCode_TellsKindsApart(t *testing.T) {
	f := func(err error, want int) {
		t.Helper()
		if got := exitCode(err); got != want {
			t.Errorf("exitCode(%v) = %d, want %d", err, got, want)
		}
	}
	f(nil, exitOK)
	f(errors.New("disk"), exitFailure)
	f(usagef("flag"), exitUsage)
	f(fmt.Errorf("at: %w", &window.InputError{Field: "at"}), exitUsage)
	f(&client.RefusedError{Reason: window.ReasonNotAligned}, exitUsage)
	f(client.ErrNoData, exitNoData)
	f(fmt.Errorf("m: %w", client.ErrUnknownMetric), exitNoData)
	f(noDataError("none"), exitNoData)
	f(fmt.Errorf("%w: nobody", client.ErrUnavailable), exitUnavailable)
	f(&client.UnsentError{Err: context.DeadlineExceeded}, exitUnavailable)
	f(&client.RefusedError{Reason: "too_new"}, exitRefused)
	f(failuref("3 broken: %w", &client.RefusedError{Reason: "too_new"}), exitFailure)
}

func TestRows_OneBadLineCostsOneRow(t *testing.T) {
	header := "timestamp,node,value\n"
	f := func(text string, want ...string) {
		t.Helper()
		var got []string
		r, err := newRows(strings.NewReader(text), columns{"timestamp", "node", "value"})
		if err != nil {
			t.Fatalf("newRows(%.60q): %v", text, err)
		}
		for {
			v, err := r.read()
			if errors.Is(err, io.EOF) {
				break
			}
			if broken := (*brokenLine)(nil); errors.As(err, &broken) {
				got = append(got, fmt.Sprintf("broken %d", broken.line))
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%d %s %v", v.unix, v.node, v.value))
		}
		if !slices.Equal(got, want) {
			t.Errorf("rows of %.80q:\n%q, want\n%q", text, got, want)
		}
	}
	f(header)
	f(header+"5,a,1\n6,a,2", "5 a 1", "6 a 2")
	f("\ufeff"+header+"5,a,1\r\n\r\n6,a,2\r\n", "5 a 1", "6 a 2")
	f(header+`-5,"a, ""b""",1e3`+"\n", `-5 a, "b" 1000`)
	f(header+"5,a,1\n6,\"a,2\n7,a,3\n", "5 a 1", "broken 3", "7 a 3")
	f(header+"5,a\n6,a,2,3\n7,a,3\n", "broken 2", "broken 3", "7 a 3")
	f(header+"5,a,"+strings.Repeat("1", 3*maxLine)+"\n7,a,3\n", "broken 2", "7 a 3")
	f(header+"5,a,"+strings.Repeat("1", 3*maxLine), "broken 2")
	f(header+"5,a,0x10\n5,a,Inf\n5,*,1\n5,,1\n1e9,a,1\n99999999999999,a,1\n", "broken 2", "broken 3", "broken 4", "broken 5", "broken 6", "broken 7")
	f("value,x,node,timestamp\n1,,a,1970-01-01T00:00:09.9Z\n", "9 a 1")

	for _, bad := range []string{"", "a,b,c\n", header[:9] + "\n", "\x1f\x8bnot gzip"} {
		if _, err := newRows(strings.NewReader(bad), columns{"timestamp", "node", "value"}); err == nil {
			t.Errorf("newRows(%q) accepts it", bad)
		}
	}
}

func FuzzRows(f *testing.F) {
	f.Add([]byte("timestamp,node,value\n5,a,1\n"))
	f.Add([]byte("timestamp,node,value\n5,\"a,1\n2026-11-23T10:00:00Z,b,-0.5\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := newRows(bytes.NewReader(text), columns{"timestamp", "node", "value"})
		if err != nil {
			return
		}
		for range len(text) + 1 {
			v, err := r.read()
			if broken := (*brokenLine)(nil); errors.As(err, &broken) {
				continue
			}
			if err != nil {
				return
			}
			if window.CheckNode(v.node) != nil || v.unix < window.MinTime || v.unix >= window.MaxTime {
				t.Errorf("%q gives a row of node %q at %d", text, v.node, v.unix)
			}
		}
		t.Errorf("%q has more rows than bytes", text)
	})
}
