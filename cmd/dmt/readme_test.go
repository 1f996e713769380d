package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const readme = "../../README.md"

// block is one fenced block of the README.
type block struct {
	language string
	lines    []string
}

func readmeBlocks(t *testing.T) []block {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !inside:
			blocks = append(blocks, block{language: language})
		case !fence && inside:
			b := &blocks[len(blocks)-1]
			b.lines = append(b.lines, line)
		}
		inside = inside != fence
	}
	return blocks
}

// session is one command of a console block and what it is said to print.
type session struct {
	command string
	want    []string
}

func (b block) sessions() []session {
	var list []session
	for _, line := range b.lines {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			list = append(list, session{command: command})
			continue
		}
		last := &list[len(list)-1]
		last.want = append(last.want, line)
	}
	return list
}

// shape is what two runs of a command have in common: the words, not the
// numbers, the times or the width of columns.
func shape(text string) string {
	text = regexp.MustCompile(`[0-9][0-9.,]*`).ReplaceAllString(text, "N")
	text = regexp.MustCompile(`\b([KMGT]i)?B\b|\bN(ms|s)\b`).ReplaceAllString(text, "N")
	text = regexp.MustCompile(`-?N`).ReplaceAllString(text, "N")
	text = regexp.MustCompile(`devel\S*|v?N[-.N]*\+dirty\S*`).ReplaceAllString(text, "version")
	text = regexp.MustCompile(`\b(leader|voter)\b`).ReplaceAllString(text, "role")
	return strings.Join(strings.Fields(text), " ")
}

// TestREADME_CommandsDoWhatItSays runs every command of the README, in order,
// against a cluster like the one it starts.
func TestREADME_CommandsDoWhatItSays(t *testing.T) {
	t.Parallel()
	addrs, stop, err := startCluster(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	first, _, _ := strings.Cut(addrs, ",")
	dir := t.TempDir()
	ran := 0
	for _, b := range readmeBlocks(t) {
		if b.language != "console" {
			continue
		}
		for _, s := range b.sessions() {
			ran++
			switch {
			case strings.HasPrefix(s.command, "go "), s.command == "dmt local":
				continue // the two tests below
			}
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(s.command, "127.0.0.1:7171", first))
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "TZ=UTC", "DMT_ADDR="+first)
			var stderr lineBuffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s", s.command, err, &stderr)
			}
			if got, want := shape(string(out)), shape(strings.Join(s.want, "\n")); got != want {
				t.Errorf("%s prints\n%s\nwhich has the shape\n%s\nwant\n%s", s.command, out, got, want)
			}
		}
	}
	if ran < 10 {
		t.Errorf("%d commands in the README: they were not found", ran)
	}
}

// TestREADME_FromSource runs what begins with "go": the demo, for a shorter
// time, the installation, and the program in Go.
func TestREADME_FromSource(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
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
	bin := t.TempDir()
	run := func(command string) string {
		t.Helper()
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "GOBIN="+bin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	for _, b := range readmeBlocks(t) {
		switch b.language {
		case "console":
			for _, s := range b.sessions() {
				if !strings.HasPrefix(s.command, "go ") {
					continue
				}
				out := run(strings.ReplaceAll(s.command, "--duration 20s", "--duration 2s --nodes 50"))
				if len(s.want) > 0 && !strings.HasSuffix(out, s.want[len(s.want)-1]+"\n") {
					t.Errorf("%s ends with\n%s\nwant %q", s.command, out, s.want[len(s.want)-1])
				}
			}
		case "go":
			program := filepath.Join(t.TempDir(), "main.go")
			source := strings.ReplaceAll(strings.Join(b.lines, "\n"), "127.0.0.1:7171", addrs)
			if err := os.WriteFile(program, []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := run("go run " + program); !strings.HasPrefix(out, "median: 49") && !strings.HasPrefix(out, "median: 50") {
				t.Errorf("the program prints %q, want a median near 499.5", out)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(bin, "dmt")); err != nil {
		t.Errorf("not installed: %v", err)
	}
}

// TestExamples_Work runs every example of every command's help, as pasted.
func TestExamples_Work(t *testing.T) {
	t.Parallel()
	addrs, stop, err := startCluster(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rtt.csv.gz", "timestamp,node,value\n1795428000,web-1,2\n")
	write("a.csv", "when,host,us\n1795428000,web-1,2\n")
	write("b.csv", "when,host,us\n1795428000,web-2,3\n")
	env := append(os.Environ(), "TZ=UTC", "DMT_ADDR="+addrs, "DMT_NODES=50")
	run := func(line string) {
		t.Helper()
		cmd := exec.Command("bash", "-c", line)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	run("dmt add latency_us 1 --node web-1 --at 2026-11-23T10:00Z")
	run("dmt add latency_us 1 --node web-1 --at 2026-11-22T10:00Z")
	run("dmt add latency_us 1 --node web-2 --at 1d")
	run("dmt add rtt_ms 1 --node web-1")
	// What runs until it is stopped is run by scripts; here it is only read.
	runsOn := map[string]bool{"serve": true, "local": true, "agent": true}
	// These need a cluster in a state of its own, which scripts have.
	needsMore := map[string]bool{"join": true, "remove": true, "demo": true, "bench": true}
	for _, cmd := range newRootCmd(streams{}).Commands() {
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimSpace(line)
			if runsOn[cmd.Name()] && !strings.Contains(line, "|") || needsMore[cmd.Name()] {
				if err := parses(line); err != nil {
					t.Errorf("%s: %v", line, err)
				}
				continue
			}
			run(strings.ReplaceAll(line, `"${fpath[1]}/_dmt"`, "_dmt"))
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.Name())
		}
	}
}

// parses says whether a command line is one, without running it.
func parses(line string) error {
	root := newRootCmd(streams{})
	args := strings.Fields(line)[1:]
	cmd, _, err := root.Find(args)
	if err != nil {
		return err
	}
	cmd.RunE = func(*cobra.Command, []string) error { return nil }
	root.SetArgs(args)
	return root.ExecuteContext(context.Background())
}
