package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// fleet simulates nodes that measure how far their clocks are off: some always
// early, some always late, most by little and a few by a lot, and the busiest
// of them a thousand times as often as the idlest.
type fleet struct {
	random *rand.Rand
	nodes  []simulated

	at     time.Duration // how far the simulation is
	sorted []int64       // exact values up to the last median
	fresh  []int64       // those since
}

type simulated struct {
	handle *client.Handle
	rate   float64 // values per second
	center float64
	spread float64
	owed   float64 // part of a value not yet measured
}

// newFleet draws the nodes. On average each measures a hundred values per
// second, fewer where the exact values would not fit in memory.
func newFleet(a *demoArgs) *fleet {
	f := &fleet{random: rand.New(rand.NewPCG(a.seed, 1)), nodes: make([]simulated, a.nodes)}
	var sum float64
	for i := range f.nodes {
		n := &f.nodes[i]
		n.rate = math.Exp(f.random.NormFloat64() * 1.2)
		n.center = math.Exp(8 + f.random.NormFloat64()*1.5)
		n.spread = n.center * (0.05 + 0.3*f.random.Float64())
		if f.random.Float64() < 0.3 {
			n.center = -n.center
		}
		sum += n.rate
	}
	total := min(100*float64(a.nodes), maxDemoValues/a.duration.Seconds())
	for i := range f.nodes {
		f.nodes[i].rate *= total / sum
	}
	return f
}

// record gives every node its recorder.
func (f *fleet) record(c *client.Client) {
	for i := range f.nodes {
		f.nodes[i].handle = c.Recorder(fmt.Sprintf("node-%04d", i), client.RecorderOptions{}).Metric(demoMetric)
	}
}

// advance lets all nodes measure what falls into the time up to now.
func (f *fleet) advance(now time.Duration) {
	seconds := (now - f.at).Seconds()
	f.at = now
	drift := 1 + 0.2*math.Sin(now.Seconds()/5)
	for i := range f.nodes {
		n := &f.nodes[i]
		for n.owed += n.rate * seconds; n.owed >= 1; n.owed-- {
			v := int64(n.center*drift + n.spread*f.random.NormFloat64())
			n.handle.AddInt(v)
			f.fresh = append(f.fresh, v)
		}
	}
}

func (f *fleet) count() uint64 { return uint64(len(f.sorted) + len(f.fresh)) }

// median returns the exact median so far, in the textbook's way: of an even
// number of values the mean of the two in the middle.
func (f *fleet) median() sketch.Number {
	slices.Sort(f.fresh)
	f.sorted = mergeSorted(f.sorted, f.fresh)
	f.fresh = f.fresh[:0]
	n := len(f.sorted)
	if n == 0 {
		return sketch.Int(0)
	}
	// The values are far below 2^52, so this is exact.
	m, err := sketch.Float((float64(f.sorted[(n-1)/2]) + float64(f.sorted[n/2])) / 2)
	must(err)
	return m
}

// mergeSorted returns both, sorted.
func mergeSorted(a, b []int64) []int64 {
	i, j := len(a)-1, len(b)-1
	a = append(a, b...)
	for k := len(a) - 1; j >= 0; k-- {
		if i >= 0 && a[i] > b[j] {
			a[k] = a[i]
			i--
		} else {
			a[k] = b[j]
			j--
		}
	}
	return a
}

// relativeError is |got - want| / |want|; against 0 it says nothing.
func relativeError(got, want float64) float64 {
	if want == 0 {
		return 0
	}
	return math.Abs(got-want) / math.Abs(want)
}
