package sketch_test

import (
	"fmt"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// Two nodes count their own values and ship a few bytes each; whoever merges
// them answers for all values, and says how sure it is.
func Example() {
	var a, b sketch.Recorder
	for v := range int64(500) {
		a.AddInt(10_000 + v*v)
		b.AddInt(20_000 + 7*v)
	}

	fleet := sketch.NewAccumulator(sketch.DefaultPrecision)
	for _, node := range []*sketch.Recorder{&a, &b} {
		s := node.Drain()
		s.Coarsen(sketch.DefaultPrecision)
		shipped, _ := s.MarshalBinary() // the error is always nil
		if err := fleet.MergeBinary(shipped); err != nil {
			fmt.Println(err)
		}
	}

	median := fleet.Sketch().Median()
	fmt.Printf("median of %d values: about %.0f, surely in [%v, %v], off by %.2f %% at most\n",
		fleet.Count(), median.Float64(), median.Lower, median.Upper, 100*median.MaxRelativeError)
	// Output:
	// median of 1000 values: about 22708, surely in [22674, 22797], off by 0.39 % at most
}

// The median of an even count is the mean of the two middle values. Small
// integers and extremes are exact, and the answer says so.
func ExampleSketch_Median() {
	s := sketch.New(sketch.DefaultPrecision)
	for _, v := range []int64{-100, 101} {
		s.AddInt(v)
	}
	e := s.Median()
	fmt.Println(e.Value, e.Exact)
	// Output:
	// 0.5 true
}

// However the values are split and in whatever order they are merged, the bytes
// are the same.
func ExampleSketch_Merge() {
	whole, left, right := sketch.New(7), sketch.New(7), sketch.New(8)
	for v := int64(1); v <= 1000; v++ {
		whole.AddInt(v * v)
		if v%3 == 0 {
			left.AddInt(v * v)
		} else {
			right.AddInt(v * v)
		}
	}
	right.Merge(left)
	a, _ := whole.MarshalBinary() // the errors are always nil
	b, _ := right.MarshalBinary()
	fmt.Println(string(a) == string(b))
	// Output:
	// true
}

// Rank tells how many values are at most x.
func ExampleSketch_Rank() {
	s := sketch.New(sketch.DefaultPrecision)
	for v := range int64(100_000) {
		s.AddInt(v)
	}
	r := s.Rank(sketch.Int(25_000))
	fmt.Printf("%d to %d values, about %.0f\n", r.Lower, r.Upper, r.Estimate)
	// Output:
	// 24996 to 25132 values, about 25001
}
