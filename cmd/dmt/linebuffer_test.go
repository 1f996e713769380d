package main

import (
	"bytes"
	"strings"
	"sync"
)

// lineBuffer collects what a command writes, and hands out whole lines as they
// come if lines is set.
type lineBuffer struct {
	lines chan string

	mu   sync.Mutex // guards the two below
	all  bytes.Buffer
	open string // a line without its end
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.Write(p)
	if b.lines == nil {
		return len(p), nil
	}
	b.open += string(p)
	for {
		line, rest, ok := strings.Cut(b.open, "\n")
		if !ok {
			return len(p), nil
		}
		b.open = rest
		select {
		case b.lines <- line:
		default: // nobody waits for that many
		}
	}
}

func (b *lineBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
