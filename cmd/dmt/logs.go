package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// logArgs say what servers write to stderr, and how.
type logArgs struct {
	level, format string
}

func (l *logArgs) flags(cmd *cobra.Command, level string) {
	cmd.Flags().StringVar(&l.level, "log-level", level, "least `level` that is logged: debug, info, warn or error")
	cmd.Flags().StringVar(&l.format, "log-format", "text", "`format` of the log: text or json")
}

func (l *logArgs) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, usagef("--log-level: %q is none of debug, info, warn, error", l.level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, usagef("--log-format: %q is neither text nor json", l.format)
}
