package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/window"
)

// Exit codes, as the help of the root command lists them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNoData      = 3
	exitUnavailable = 4
	exitRefused     = 5
)

// usageError is a command line that cannot be meant: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// badInput are the reasons for which a cluster refuses what nobody could mean.
// A command line finds most of it itself, but not what depends on the cluster.
var badInput = map[string]bool{
	window.ReasonEmpty: true, window.ReasonTooLong: true, window.ReasonTooMany: true, window.ReasonBadMetric: true,
	window.ReasonBadNode: true, window.ReasonBadGlob: true, window.ReasonBadTime: true, window.ReasonRange: true,
	window.ReasonUnknown: true, window.ReasonNotAligned: true, window.ReasonNotFinite: true,
}

// exitCode sorts an error into the kinds that scripts tell apart.
func exitCode(err error) int {
	var (
		usage   usageError
		input   *window.InputError
		refused *client.RefusedError
		failed  failure
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &failed):
		return exitFailure
	case errors.As(err, &usage), errors.As(err, &input):
		return exitUsage
	case errors.Is(err, client.ErrNoData), errors.Is(err, client.ErrUnknownMetric):
		return exitNoData
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	case errors.As(err, &refused) && badInput[refused.Reason]:
		return exitUsage
	case errors.As(err, &refused):
		return exitRefused
	}
	return exitFailure
}

// failure is exit code 1 whatever lies below it.
type failure struct{ err error }

func (e failure) Error() string { return e.err.Error() }
func (e failure) Unwrap() error { return e.err }

func failuref(format string, args ...any) error {
	return failure{fmt.Errorf(format, args...)}
}

// report writes an error for a person, with what to do next where that is
// known.
func report(w io.Writer, err error) {
	say(w, "dmt: %v", err)
	switch {
	case errors.Is(err, client.ErrUnknownMetric):
		say(w, `See "dmt metrics" for what there is.`)
	case exitCode(err) == exitUnavailable:
		say(w, `Is a cluster running there? --addr or DMT_ADDR says where; "dmt local" starts one.`)
	case exitCode(err) == exitUsage:
		say(w, "Run the command with --help for what it takes.")
	}
}
