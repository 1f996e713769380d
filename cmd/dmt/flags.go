package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/distributed-median-tracker/dmt/client"
)

// envName is the twin of a flag in the environment: --last is DMT_LAST.
func envName(flag string) string {
	return "DMT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnv fills in the flags that were not given from the environment. An
// empty variable counts as unset.
func fromEnv(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		text := os.Getenv(envName(f.Name))
		if f.Changed || text == "" || f.Name == "help" || f.Name == "version" {
			return
		}
		if err := flags.Set(f.Name, text); err != nil {
			errs = append(errs, usagef("%s: %v", envName(f.Name), errors.Unwrap(err)))
		}
	})
	return errors.Join(errs...)
}

// connection is how a command reaches a cluster.
type connection struct {
	addrs   []string
	timeout time.Duration
}

func (c *connection) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&c.addrs, "addr", []string{"127.0.0.1:7171"}, "`host:port` of any members, separated by commas")
	cmd.Flags().DurationVar(&c.timeout, "timeout", 15*time.Second, "give up after this time")
}

// open returns a client. It uses the network only when asked for something,
// and must be closed.
func (c *connection) open() (*client.Client, error) {
	if c.timeout <= 0 {
		return nil, usagef("--timeout: %v is not positive", c.timeout)
	}
	cl, err := client.New(c.addrs, client.Options{})
	if err != nil {
		return nil, usageError{fmt.Errorf("--addr: %w", err)}
	}
	return cl, nil
}

// ask calls f with a client that lives as long as the call, and a context that
// ends with the time-out.
func (c *connection) ask(ctx context.Context, f func(context.Context, *client.Client) error) error {
	cl, err := c.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.where(errors.Join(f(ctx, cl), cl.Close(ctx)))
}

// where adds to an error that nobody answered whom we asked.
func (c *connection) where(err error) error {
	if exitCode(err) != exitUnavailable {
		return err
	}
	return fmt.Errorf("%w; asked %s", err, strings.Join(c.addrs, ", "))
}
