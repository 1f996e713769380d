package raftfsm

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// hclogBridge lets raft, which logs by hclog, log by slog. Its errors are an
// operator's warnings: a member that is down makes several a second, which is
// why the same message comes once in a while only. What raft says below that is
// debug; elections and membership are logged by this package.
type hclogBridge struct {
	log     *slog.Logger
	name    string
	implied []any
	limit   *logLimit
}

// repeatEvery is how often the same warning may be logged.
const repeatEvery = 10 * time.Second

// logLimit remembers when each message was logged last. Raft's messages are
// constants, so that there are few.
type logLimit struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (l *logLimit) allow(msg string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.last[msg]; ok && now.Sub(last) < repeatEvery {
		return false
	}
	l.last[msg] = now
	return true
}

func newHclog(l *slog.Logger, name string) hclog.Logger {
	return &hclogBridge{log: l.With("from", name), name: name, limit: &logLimit{last: make(map[string]time.Time)}}
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn, hclog.Info:
		return slog.LevelDebug
	default:
		return slog.LevelDebug - 4
	}
}

func (h *hclogBridge) Log(level hclog.Level, msg string, args ...any) {
	if level == hclog.Off {
		return
	}
	l := slogLevel(level)
	if !h.log.Enabled(context.Background(), l) || l >= slog.LevelWarn && !h.limit.allow(msg) {
		return
	}
	h.log.Log(context.Background(), l, msg, formatArgs(args)...)
}

// formatArgs renders hclog's lazily formatted values.
func formatArgs(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if pattern, ok := f[0].(string); ok {
				a = lazyFormat{pattern, f[1:]}
			}
		}
		out[i] = a
	}
	return out
}

type lazyFormat struct {
	pattern string
	args    []any
}

func (l lazyFormat) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf(l.pattern, l.args...))
}

func (h *hclogBridge) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hclogBridge) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hclogBridge) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hclogBridge) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hclogBridge) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hclogBridge) enabled(level hclog.Level) bool {
	return h.log.Enabled(context.Background(), slogLevel(level))
}

func (h *hclogBridge) IsTrace() bool { return h.enabled(hclog.Trace) }
func (h *hclogBridge) IsDebug() bool { return h.enabled(hclog.Debug) }
func (h *hclogBridge) IsInfo() bool  { return h.enabled(hclog.Info) }
func (h *hclogBridge) IsWarn() bool  { return h.enabled(hclog.Warn) }
func (h *hclogBridge) IsError() bool { return h.enabled(hclog.Error) }

func (h *hclogBridge) ImpliedArgs() []any { return h.implied }
func (h *hclogBridge) Name() string       { return h.name }

func (h *hclogBridge) With(args ...any) hclog.Logger {
	implied := append(append([]any(nil), h.implied...), args...)
	return &hclogBridge{log: h.log.With(formatArgs(args)...), name: h.name, implied: implied, limit: h.limit}
}

func (h *hclogBridge) Named(name string) hclog.Logger {
	if h.name != "" {
		name = h.name + "." + name
	}
	return h.ResetNamed(name)
}

func (h *hclogBridge) ResetNamed(name string) hclog.Logger {
	return &hclogBridge{log: h.log, name: name, implied: h.implied, limit: h.limit}
}

// SetLevel does nothing: slog's handler decides.
func (h *hclogBridge) SetLevel(hclog.Level) {}

func (h *hclogBridge) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Info} {
		if h.enabled(level) {
			return level
		}
	}
	return hclog.Error
}

func (h *hclogBridge) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(h.log.Handler(), slog.LevelInfo)
}

func (h *hclogBridge) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return slog.NewLogLogger(h.log.Handler(), slog.LevelInfo).Writer()
}
