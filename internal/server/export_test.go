package server

import (
	"testing"
	"time"
)

// HurryTimes shortens the time-outs of servers that start from now on, for one
// test.
func HurryTimes(t *testing.T, d time.Duration) {
	before := times
	t.Cleanup(func() { times = before })
	times.readHeader, times.read, times.write, times.idle = d, d, d, d
}
