package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// bar shows on a terminal how much of some files has been read. Elsewhere it
// is silent.
type bar struct {
	bar *progressbar.ProgressBar // nil: silent
}

// newBar makes the bar for all of the files together.
func newBar(s streams, files []string) (*bar, error) {
	var total int64
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		total += info.Size()
	}
	if !s.ErrTerminal {
		return &bar{}, nil
	}
	return &bar{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(s.Err),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetDescription("loading"),
	)}, nil
}

// Write counts bytes read. It never fails: a bar that cannot be drawn is no
// reason to stop reading.
func (b *bar) Write(p []byte) (int, error) {
	if b.bar != nil {
		_ = b.bar.Add(len(p))
	}
	return len(p), nil
}

// above lets f write lines, which the bar will then stand below.
func (b *bar) above(f func()) {
	if b.bar != nil {
		_ = b.bar.Clear() // see Write
	}
	f()
}

func (b *bar) finish() {
	if b.bar != nil {
		_ = b.bar.Finish() // see Write
	}
}
