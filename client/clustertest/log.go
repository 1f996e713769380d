package clustertest

import (
	"bytes"
	"sync"
)

// maxLines of a member's log are shown when its test fails.
const maxLines = 200

// lastLines keeps the end of a log. A test's own log is no place to write to:
// members may log after the test has ended.
type lastLines struct {
	mu    sync.Mutex // guards lines
	lines [][]byte
}

// Write takes one line at a time, which is how slog writes.
func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == maxLines {
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, bytes.Clone(p))
	return len(p), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, nil))
}
