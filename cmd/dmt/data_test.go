package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// realData is where real measurements lie with their exact answers, beside the
// repository. They are too large to be part of it.
const realData = "../../../shared/data"

// What the estimates of precision 7 must reach: the worst relative error of
// one median, and the mean over the medians of a file.
const (
	worstError = 0.0055
	meanError  = 0.0014
)

// expected is one line of NAME.expected.csv: the exact answer over the rows
// with from <= time < to.
type expected struct {
	scope, node  string
	span         window.Span
	count        uint64
	min, max     sketch.Number
	lower, upper sketch.Number // the two middle values
}

func TestLoad_RealDataAgainstExactAnswers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(realData, "*.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no %s/*.csv.gz: real data is not there", realData)
	}
	addrs, stop, err := startCluster(t.TempDir(), "--members", "3", "--retention", "forever")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := client.New(strings.Split(addrs, ","), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".csv.gz")
		t.Run(name, func(t *testing.T) {
			var out, stderr lineBuffer
			if code := run(t.Context(), []string{"load", file, "--metric", name, "--addr", addrs}, streams{Out: &out, Err: &stderr}); code != exitOK {
				t.Fatalf("load exits with %d: %s", code, &stderr)
			}
			checkAll(t, c, window.Metric(name), readExpected(t, strings.TrimSuffix(file, ".csv.gz")+".expected.csv"))
		})
	}
}

// checkAll asks for every expected answer and checks what comes.
func checkAll(t *testing.T, c *client.Client, metric window.Metric, want []expected) {
	t.Helper()
	var (
		mu         sync.Mutex // guards what follows
		sum, worst float64
		measured   int

		work   = make(chan expected)
		askers sync.WaitGroup
	)
	for range 4 {
		askers.Go(func() {
			for e := range work {
				off, err := e.check(t.Context(), c, metric)
				if err != nil {
					t.Errorf("%s %s %v: %v", e.scope, e.node, e.span, err)
				}
				if math.IsNaN(off) {
					continue
				}
				mu.Lock()
				measured++
				sum += off
				worst = max(worst, off)
				mu.Unlock()
			}
		})
	}
	for _, e := range want {
		work <- e
	}
	close(work)
	askers.Wait()
	if measured == 0 {
		t.Fatalf("%s: no median was measured", metric)
	}
	mean := sum / float64(measured)
	t.Logf("%s: %d answers, of %d the error: worst %.4f %%, mean %.4f %%", metric, len(want), measured, 100*worst, 100*mean)
	if worst > worstError || mean > meanError {
		t.Errorf("worst error %.4f %%, mean %.4f %%; want at most %.2f %% and %.2f %%", 100*worst, 100*mean, 100*worstError, 100*meanError)
	}
}

// check asks for one answer. It returns the relative error of the median, NaN
// where none is claimed: at zero, and between two signs.
func (e expected) check(ctx context.Context, c *client.Client, metric window.Metric) (float64, error) {
	// The widest spans begin and end with the data, inside a bucket that holds
	// nothing else; all others are whole buckets.
	if !e.span.Aligned(window.TenSeconds) && e.scope != "global" && e.scope != "node" {
		return math.NaN(), errors.New("cuts a bucket: the expected file is not what this test knows")
	}
	q := window.Query{Metric: metric, Span: e.span}
	if e.node != window.AllNodes {
		q.Nodes = []string{e.node}
	}
	answer, err := c.Query(ctx, q)
	if err != nil {
		return math.NaN(), err
	}
	got, ok := answer.Median()
	if !ok {
		return math.NaN(), fmt.Errorf("%d results, want 1", len(answer.Results))
	}
	if r := answer.Results[0]; r.Count != e.count || r.Min != e.min || r.Max != e.max {
		return math.NaN(), fmt.Errorf("count %d, min %v, max %v; want %d, %v, %v", r.Count, r.Min, r.Max, e.count, e.min, e.max)
	}
	if !inInterval(got, e.lower, e.upper) {
		return math.NaN(), fmt.Errorf("interval [%v, %v] does not hold the median of %v and %v", got.Lower, got.Upper, e.lower, e.upper)
	}
	lower, upper := e.lower.Float64(), e.upper.Float64()
	if lower*upper <= 0 {
		return math.NaN(), nil
	}
	return relativeError(got.Float64(), lower+(upper-lower)/2), nil
}

// inInterval says whether the exact mean of two values lies in the interval:
// twice the bounds against the sum, in arithmetic that does not round.
func inInterval(e sketch.Estimate, lower, upper sketch.Number) bool {
	sum := new(big.Rat).Add(rational(lower), rational(upper))
	two := big.NewRat(2, 1)
	return new(big.Rat).Mul(two, rational(e.Lower)).Cmp(sum) <= 0 && sum.Cmp(new(big.Rat).Mul(two, rational(e.Upper))) <= 0
}

func rational(n sketch.Number) *big.Rat {
	if i, ok := n.Int64(); ok {
		return new(big.Rat).SetInt64(i)
	}
	return new(big.Rat).SetFloat64(n.Float64())
}

func readExpected(t *testing.T, name string) []expected {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil || len(lines) < 2 {
		t.Fatalf("%s: %d lines, %v", name, len(lines), err)
	}
	column := map[string]int{}
	for i, name := range lines[0] {
		column[name] = i
	}
	var all []expected
	for i, line := range lines[1:] {
		number := func(name string) sketch.Number {
			n, err := sketch.ParseNumber(line[column[name]])
			if err != nil {
				t.Fatalf("%s: line %d: %s: %v", f.Name(), i+2, name, err)
			}
			return n
		}
		unix := func(name string) time.Time {
			seconds, ok := number(name).Int64()
			if !ok {
				t.Fatalf("%s: line %d: %s is no time", f.Name(), i+2, name)
			}
			return time.Unix(seconds, 0)
		}
		count, _ := number("n").Int64()
		all = append(all, expected{
			scope: line[column["scope"]], node: line[column["node"]], count: uint64(count),
			span: window.Between(unix("from"), unix("to_exclusive")),
			min:  number("min"), max: number("max"),
			lower: number("median_lower"), upper: number("median_upper"),
		})
	}
	return all
}
