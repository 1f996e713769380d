package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/window"
)

// scriptListening implements "listening FILE NAME...": waits until an agent
// that runs in the background has written to FILE where it listens, and sets
// the variables to the places.
func scriptListening(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: listening FILE NAME...")
	}
	ts.Check(await(args[0]+" to say where", func() error {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		said := strings.Split(string(text), "\n")
		if len(said) < 3 || said[0] != "ready" {
			return fmt.Errorf("it says %q", text)
		}
		places := strings.Split(said[1], ",")
		if len(places) != len(args)-1 {
			return fmt.Errorf("it listens at %q", places)
		}
		for i, place := range places {
			ts.Setenv(args[1+i], place)
		}
		return nil
	}))
}

// scriptSend implements "send NETWORK PLACE FILE": each paragraph of FILE is one
// datagram.
func scriptSend(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: send NETWORK PLACE FILE")
	}
	place := args[1]
	if args[0] == "unixgram" {
		place = ts.MkAbs(place)
	}
	conn, err := net.Dial(args[0], place)
	ts.Check(err)
	for packet := range strings.SplitSeq(ts.ReadFile(args[2]), "\n\n") {
		_, err := conn.Write([]byte(packet))
		ts.Check(err)
	}
	ts.Check(conn.Close())
}

// testSink counts into a client that never reaches anybody.
func testSink(t *testing.T, maxSeries int, log io.Writer) (*sink, *client.Client) {
	t.Helper()
	c, err := client.New([]string{"127.0.0.1:1"}, client.Options{FlushEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.Close(ctx); err != nil {
			t.Logf("close: %v", err) // what was counted has nowhere to go
		}
	})
	return newSink(c.Recorder("n", client.RecorderOptions{}), maxSeries, slog.New(slog.NewTextHandler(log, nil))), c
}

func TestSink_CountsByWeightReasonAndKind(t *testing.T) {
	k, c := testSink(t, 100, io.Discard)
	k.packet("udp", "a:1|ms\nb:1:2:3|d|@0.1\r\n\na:x|ms\na:1|c\na:1|c\nu:1|g\n_e{1,1}:a|b\n", false)
	for range 10 {
		k.packet("udp", "a:7|h|@0.3", false)
	}
	if got := c.Stats().Values; got != 1+30+33 {
		t.Errorf("%d values counted, want 1 + 3x10 + 10/0.3", got)
	}
	if k.packets != 11 || k.lines != 17 {
		t.Errorf("%d packets with %d lines, want 11 with 17", k.packets, k.lines)
	}
	if got := fmt.Sprint(k.bad, k.ignored); got != "map[bad_value:1] map[counter:2 event:1 gauge:1]" {
		t.Errorf("bad and ignored lines: %s", got)
	}
}

func TestSink_OneSeriesForAllSpellings(t *testing.T) {
	k, c := testSink(t, 2, io.Discard)
	k.packet("udp", "a.b:1|ms|#x:1,y:2\na_b:2|d|#y:2,x:1\na-b:3|h|#x:1,y:2,x:1\nsecond:1|ms\n", false)
	if len(k.series) != 2 || c.Stats().Values != 4 {
		t.Errorf("%d series with %d values, want 2 with 4", len(k.series), c.Stats().Values)
	}
	k.packet("udp", "third:1|ms\na.b:1|ms|#y:2,x:1", false)
	if k.bad["too_many_series"] != 1 || c.Stats().Values != 5 {
		t.Errorf("past the most series: %v refused and %d values, want 1 and 5", k.bad, c.Stats().Values)
	}
	for i := range 100 {
		k.packet("udp", fmt.Sprintf("second:1|ms|#%s", strings.Repeat(",", i)), false)
	}
	if len(k.spellings) > 4*k.max {
		t.Errorf("%d spellings remembered, the bound is %d", len(k.spellings), 4*k.max)
	}
}

func TestSink_BoundsLines(t *testing.T) {
	k, c := testSink(t, 10, io.Discard)
	long := "a:1" + strings.Repeat(":1", maxAgentLine/2) + "|d"
	k.packet("udp", "a:1|ms\n"+long+"\na:1|ms", false)
	k.packet("unix", "a:1|ms\na:1|m", true) // cut: the last line may have been another
	if k.bad["too_long"] != 2 || c.Stats().Values != 3 || len(k.ignored) != 0 {
		t.Errorf("%v refused, %d values, %v ignored", k.bad, c.Stats().Values, k.ignored)
	}
	if err := k.readLines(strings.NewReader("a 1\na "+strings.Repeat("1", 3*maxAgentLine)+"\na 2\r\n\na 3"), ""); err != nil {
		t.Fatal(err)
	}
	if k.bad["too_long"] != 3 || c.Stats().Values != 6 {
		t.Errorf("%v refused, %d values", k.bad, c.Stats().Values)
	}
}

func TestSink_NamesALineOncePerReasonAndWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		k := newSink(nil, 10, slog.New(slog.NewTextHandler(&log, nil)))
		named := func(want int, last ...string) {
			t.Helper()
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(lines) != want {
				t.Fatalf("%d lines in the log, want %d:\n%s", len(lines), want, &log)
			}
			for _, part := range last {
				if !strings.Contains(lines[want-1], part) {
					t.Errorf("log line %s, want %s in it", lines[want-1], part)
				}
			}
		}
		for range 1000 {
			k.packet("udp", "a\x1b[31m:x|ms", false)
		}
		named(1, "source=udp", "reason=bad_value", `\x1b[31m`, "unnamed_before=0")
		k.packet("udp", "a:1|ms|"+strings.Repeat("é", 100), false)
		named(2, "reason=bad_section", `...`)
		time.Sleep(nameEvery)
		k.packet("udp", "a:y|ms", false)
		named(3, "reason=bad_value", "a:y|ms", "unnamed_before=999")
		if k.bad["bad_value"] != 1001 {
			t.Errorf("%d lines counted as bad", k.bad["bad_value"])
		}
	})
}

func TestListenUDP_KeepsToThisMachine(t *testing.T) {
	f := func(address string, insecure bool, want int) {
		t.Helper()
		s, err := listenUDP(t.Context(), address, insecure)
		if err == nil {
			err = closeSockets([]*socket{s})
		}
		if exitCode(err) != want {
			t.Errorf("listen on %q: %v, want exit code %d", address, err, want)
		}
	}
	f("127.0.0.1:0", false, exitOK)
	f("localhost:0", false, exitOK)
	f(":0", false, exitUsage)
	f("0.0.0.0:0", false, exitUsage)
	f("[::]:0", false, exitUsage)
	f("192.0.2.1:0", false, exitUsage)
	f("127.0.0.1", false, exitUsage)
	f("127.0.0.1:99999", false, exitFailure)
}

func TestListenUnix_ReplacesOnlyWhatIsDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); exitCode(err) != exitFailure {
		t.Errorf("a socket in use: %v, want exit code 1", err)
	}
	if err := first.conn.Close(); err != nil { // as a kill would: the file stays
		t.Fatal(err)
	}
	second, err := listenUnix(path)
	if err != nil {
		t.Fatalf("a socket left behind: %v", err)
	}
	if err := closeSockets([]*socket{second}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); exitCode(err) != exitUsage {
		t.Errorf("a file that is no socket: %v, want exit code 2", err)
	}
}

// TestAgent_SpoolOutlivesTheCluster stops an agent while there is no cluster,
// and starts another one on its spool when there is.
func TestAgent_SpoolOutlivesTheCluster(t *testing.T) {
	t.Parallel()
	dead, err := freeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	spool := t.TempDir()
	agent := func(addrs, in, timeout string) (int, agentResult, string) {
		t.Helper()
		var out bytes.Buffer
		stderr := &lineBuffer{}
		code := run(t.Context(), []string{"agent", "--addr", addrs, "--node", "n", "--metric", "m", "--spool", spool,
			"--timeout", timeout, "--json"}, streams{In: strings.NewReader(in), Out: &out, Err: stderr})
		var r agentResult
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("exit code %d, %q: %v; %s", code, &out, err, stderr)
		}
		return code, r, stderr.String()
	}
	code, r, said := agent(dead[0], "1\n2\n3\n", "300ms")
	if code != exitOK || r.Spooled != 3 || r.Unsent != 0 || !strings.Contains(said, "3 of them kept in the spool") {
		t.Fatalf("without a cluster: exit code %d, %+v, %s", code, r, said)
	}
	addrs, stop, err := startCluster(t.TempDir(), "--members", "1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	code, r, said = agent(addrs, "4\n", "30s")
	if code != exitOK || r.Recovered != 3 || r.Acked != 4 {
		t.Fatalf("with a cluster: exit code %d, %+v, %s", code, r, said)
	}
	c, err := client.New([]string{addrs}, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	ans, err := c.Query(t.Context(), window.Query{Metric: "m"})
	if err != nil || ans.Count() != 4 {
		t.Errorf("the cluster counts %d values, want 4; %v", ans.Count(), err)
	}
}
