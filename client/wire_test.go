package client

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// wireTable is what the package documentation says about bytes: those of the
// request of one node alone, and of each of a hundred nodes in one process, for
// a bucket with so many lognormal values.
var wireTable = []struct {
	values int
	alone  [4]int // at precision 5, 6, 7, 8
	each   [4]int
}{
	{10, [4]int{87, 88, 90, 91}, [4]int{26, 27, 28, 29}},
	{100, [4]int{128, 140, 153, 166}, [4]int{66, 78, 91, 103}},
	{1000, [4]int{207, 301, 378, 502}, [4]int{150, 225, 308, 437}},
	{10_000, [4]int{325, 477, 780, 1179}, [4]int{264, 419, 679, 1096}},
	{100_000, [4]int{501, 767, 1220, 2006}, [4]int{439, 677, 1122, 1907}},
}

// TestWire_BytesAreAsDocumented counts the bodies that leave the client.
func TestWire_BytesAreAsDocumented(t *testing.T) {
	for _, line := range wireTable {
		for i := range line.alone {
			alone := wireBytes(t, 5+i, 1, line.values)
			near := func(what string, got float64, want int) {
				if math.Abs(got-float64(want)) > 2+0.05*float64(want) {
					t.Errorf("%d values, precision %d, %s: %.0f bytes, documented are %d", line.values, 5+i, what, got, want)
				}
			}
			near("alone", alone, line.alone[i])
			if testing.Short() && line.values > 1000 {
				continue // half a minute under the race detector
			}
			each := wireBytes(t, 5+i, 100, line.values) / 100
			near("each", each, line.each[i])
			t.Logf("%6d values, precision %d: %4.0f bytes alone, %4.0f of each of 100", line.values, 5+i, alone, each)
		}
	}
}

// wireBytes ships one bucket of some nodes, and returns the bytes sent.
func wireBytes(t *testing.T, precision, nodes, values int) (sent float64) {
	synctest.Test(t, func(t *testing.T) {
		c, f, _ := newTest(t, Options{})
		f.precision = precision
		c.Recorder("warm", RecorderOptions{}).AddInt("warm", 1)
		if err := c.Flush(t.Context()); err != nil { // learns the precision
			t.Fatal(err)
		}
		before := c.Stats().BytesSent
		rng := rand.New(rand.NewPCG(1, uint64(values)))
		for i := range nodes {
			h := c.Recorder(fmt.Sprintf("web-%03d", i), RecorderOptions{}).Metric("latency_us")
			for range values {
				h.AddInt(int64(math.Exp(math.Log(20000) + 1.5*rng.NormFloat64())))
			}
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		sent = float64(c.Stats().BytesSent - before)
		closeNow(t, c)
	})
	return sent
}
