// Dmt is the Distributed Median Tracker: a member of a cluster, a client of
// one, and a demonstration of both, in one binary.
//
// Results go to stdout, everything else to stderr. The exit code says what
// kind of end it was, see the constants in exit.go. Every flag has a twin in
// the environment: --addr is DMT_ADDR.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

func main() {
	// The first signal asks for a clean stop; a second one ends the process at
	// once, because the handler is gone by then.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], streams{
		In:          os.Stdin,
		Out:         os.Stdout,
		Err:         os.Stderr,
		OutTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	})
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRootCmd(s)
	root.SetArgs(shieldNegatives(args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, syscall.EPIPE) {
		// Whoever read the output, "head" for one, has seen enough.
		return exitOK
	}
	code := exitCode(err)
	report(s.Err, err)
	return code
}
