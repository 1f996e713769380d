package window

import "github.com/distributed-median-tracker/dmt/window/sketch"

// Answer is what a Query is answered with.
type Answer struct {
	Metric Metric
	// Asked is the span of the question, resolved; Span.IsAll for all time.
	Asked Span
	// Span is what is really covered: Asked widened to whole buckets of the finest
	// tier that is kept for each end, or for all time from the first bucket that
	// was ever counted to the end of the last; in both without what no tier keeps.
	// It is empty or the zero Span when that leaves nothing.
	Span Span
	// Read is the freshness that was asked for and given.
	Read Read
	// AppliedIndex is the log index whose state the answer shows.
	AppliedIndex uint64
	// BucketsMerged counts the stored buckets that were read. It depends on what
	// is flushed and rolled up; nothing else in an answer does.
	BucketsMerged int
	// Results are sorted by node, then by time. None: no data.
	Results []Result
}

// Result is the answer for one node, or for all of those asked for, over one
// step, or over the whole span.
type Result struct {
	// Node is AllNodes unless the query was by node.
	Node string
	Span Span
	// Count is how many values Min, Max and Estimates speak for. It is not 0.
	Count    uint64
	Min, Max sketch.Number
	// Nodes is how many nodes the result stands for.
	Nodes int
	// Estimates are one per quantile, in the order they were asked for.
	Estimates []QuantileEstimate
}

// QuantileEstimate is the Q-quantile with the interval certain to hold it.
type QuantileEstimate struct {
	Q float64
	sketch.Estimate
}

// Median returns the median of an answer that has exactly one result, so of a
// query without ByNode and Step, which asked for the quantile 0.5.
func (a Answer) Median() (sketch.Estimate, bool) {
	if len(a.Results) != 1 {
		return sketch.Estimate{}, false
	}
	return a.Results[0].Quantile(0.5)
}

// Count returns how many values all results together stand for.
func (a Answer) Count() uint64 {
	var n uint64
	for _, r := range a.Results {
		n += r.Count
	}
	return n
}

// Quantile returns the estimate of quantile q, when the query asked for it.
func (r Result) Quantile(q float64) (sketch.Estimate, bool) {
	for _, e := range r.Estimates {
		if e.Q == q {
			return e.Estimate, true
		}
	}
	return sketch.Estimate{}, false
}
