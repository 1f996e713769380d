package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long a test waits for what must come. It is much more than
// anything takes on an idle machine.
const patience = 60 * time.Second

// TestMain lets the test binary be dmt: scripts and process tests start it
// under that name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dmt": main})
}

// TestScripts runs the manual: testdata/script/*.txt.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               setupScript,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"cluster":   scriptCluster,
			"exits":     scriptExits,
			"listening": scriptListening,
			"ports":     scriptPorts,
			"ready":     scriptReady,
			"send":      scriptSend,
			"up":        scriptUp,
		},
	})
}

func setupScript(env *testscript.Env) error {
	env.Setenv("TZ", "UTC")
	return nil
}

// scriptCluster implements "cluster [MEMBERS]": a cluster of its own for the
// script, one member unless said otherwise, with DMT_ADDR set to it.
func scriptCluster(ts *testscript.TestScript, _ bool, args []string) {
	members := "1"
	if len(args) > 0 {
		members = args[0]
	}
	addrs, stop, err := startCluster(ts.MkAbs("cluster"), "--members", members)
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
	ts.Setenv("DMT_ADDR", addrs)
}

// startCluster runs "dmt local" in this process until stop is called.
func startCluster(dir string, args ...string) (addrs string, stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	out, stderr := &lineBuffer{lines: make(chan string, 16)}, &lineBuffer{}
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"local", "--dir", dir, "--addr", "127.0.0.1:0"}, args...), streams{Out: out, Err: stderr})
	}()
	stop = func() error {
		cancel()
		if code := <-done; code != exitOK {
			return fmt.Errorf("local exits with %d: %s", code, stderr)
		}
		return nil
	}
	timeout := time.After(patience)
	for line := range 2 {
		select {
		case addrs = <-out.lines:
		case code := <-done:
			cancel()
			return "", nil, fmt.Errorf("local exits with %d: %s", code, stderr)
		case <-timeout:
			cancel()
			return "", nil, fmt.Errorf("local prints %d of 2 lines in %v: %s", line, patience, stderr)
		}
	}
	return addrs, stop, nil
}

// scriptExits implements "exits CODE PROGRAM ARG...".
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%q exits with %d, want %d", args[1:], got, want)
	}
}

// scriptPorts implements "ports NAME...": sets each variable to an address on
// loopback that was free a moment ago.
func scriptPorts(ts *testscript.TestScript, _ bool, names []string) {
	addrs, err := freeAddrs(len(names))
	ts.Check(err)
	for i, name := range names {
		ts.Setenv(name, addrs[i])
	}
}

func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// scriptReady implements "ready FILE": waits until a member or a cluster that
// runs in the background has written to FILE that it is ready, and sets
// DMT_ADDR to where.
func scriptReady(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: ready FILE")
	}
	ts.Check(await(args[0]+" to say ready", func() error {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		said := strings.Split(string(text), "\n")
		if len(said) != 3 || said[0] != "ready" {
			return fmt.Errorf("it says %q", text)
		}
		ts.Setenv("DMT_ADDR", said[1])
		return nil
	}))
}

// scriptUp implements "up ADDR...": waits until the members there are ready.
func scriptUp(ts *testscript.TestScript, _ bool, addrs []string) {
	for _, addr := range addrs {
		ts.Check(awaitReady(addr))
	}
}

func awaitReady(addr string) error {
	return await("member at "+addr+" to be ready", func() error {
		res, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
}

// await repeats f until it succeeds, and says what was missing if it never
// does.
func await(what string, f func() error) error {
	deadline := time.Now().Add(patience)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for %s: %w", patience, what, err)
		}
		<-pause.C
	}
}
