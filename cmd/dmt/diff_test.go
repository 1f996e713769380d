package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func numberOf(v float64) sketch.Number {
	n, err := sketch.Float(v)
	if err != nil {
		panic(err)
	}
	return n
}

func exactly1(n sketch.Number) sketch.Estimate {
	return sketch.Estimate{Value: n, Lower: n, Upper: n, Exact: true}
}

func TestDifference_KeepsEveryDigit(t *testing.T) {
	f := func(current, base sketch.Number, want string) {
		t.Helper()
		b, err := difference(exactly1(current), exactly1(base)).MarshalJSON()
		if err != nil || string(b) != want {
			t.Errorf("%v - %v = %s, %v, want %s", current, base, b, err, want)
		}
	}
	f(sketch.Int(5), sketch.Int(7), `{"value":-2,"lower":-2,"upper":-2,"exact":true}`)
	f(sketch.Int(7), sketch.Int(7), `{"value":0,"lower":0,"upper":0,"exact":true}`)
	f(sketch.Int(1<<53+1), sketch.Int(0), `{"value":"9007199254740993","lower":"9007199254740993","upper":"9007199254740993","exact":true}`)
	f(sketch.Int(math.MaxInt64), sketch.Int(math.MaxInt64-1), `{"value":1,"lower":1,"upper":1,"exact":true}`)
	f(sketch.Int(math.MinInt64), sketch.Int(math.MaxInt64),
		`{"value":"-18446744073709551615","lower":"-18446744073709551615","upper":"-18446744073709551615","exact":true}`)
	f(numberOf(0.5), sketch.Int(1), `{"value":-0.5,"lower":-0.5,"upper":-0.5,"exact":true}`)

	// No float64: rounded outwards, and so no longer exact.
	f(sketch.Int(1<<60), numberOf(0.5), `{"value":"1152921504606846976","lower":"1152921504606846848","upper":"1152921504606846976","exact":false}`)
	f(numberOf(1e10), numberOf(0.1), `{"value":9.9999999999e+09,"lower":9.9999999999e+09,"upper":9.999999999900002e+09,"exact":false}`)
	f(numberOf(math.MaxFloat64), numberOf(-math.MaxFloat64), `{"value":null,"lower":1.7976931348623157e+308,"upper":null,"exact":false}`)
	f(numberOf(5e-324), numberOf(1e300), `{"value":-1e+300,"lower":-1e+300,"upper":-9.999999999999999e+299,"exact":false}`)
}

func TestRatio_NeedsABaseThatIsNotZero(t *testing.T) {
	between := func(lower, upper float64) sketch.Estimate {
		return sketch.Estimate{Value: numberOf((lower + upper) / 2), Lower: numberOf(lower), Upper: numberOf(upper)}
	}
	for _, base := range []sketch.Estimate{between(0, 0), between(-1, 1), between(0, 1), between(-1, 0)} {
		if r := ratio(between(1, 2), base); r != nil {
			t.Errorf("a ratio to [%v, %v]", base.Lower, base.Upper)
		}
	}
	f := func(current, base sketch.Estimate, lower, upper float64) {
		t.Helper()
		r := ratio(current, base)
		if r == nil || r.lower.round(-1) != lower || r.upper.round(1) != upper {
			t.Errorf("ratio of [%v, %v] to [%v, %v] = %+v, want [%v, %v]", current.Lower, current.Upper, base.Lower, base.Upper, r, lower, upper)
		}
	}
	f(between(2, 4), between(1, 2), 1, 4)
	f(between(-4, 2), between(1, 2), -4, 2)
	f(between(2, 4), between(-2, -1), -4, -1)
	f(between(-4, -2), between(-2, -1), 1, 4)
	f(between(0, 0), between(1, 2), 0, 0)
	f(between(1, 1), between(3, 3), 1.0/3, math.Nextafter(1.0/3, 1))
}

// Whatever the two numbers are within their intervals, their difference and
// their ratio lie in the intervals that are printed.
func TestDifferenceAndRatio_HoldTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (sketch.Estimate, sketch.Number) {
			var numbers []sketch.Number
			for i := range 3 {
				if rapid.Bool().Draw(t, "whole") {
					numbers = append(numbers, sketch.Int(rapid.Int64().Draw(t, fmt.Sprint(name, i))))
				} else {
					numbers = append(numbers, numberOf(rapid.Float64().Draw(t, fmt.Sprint(name, i))))
				}
			}
			slices.SortFunc(numbers, sketch.Number.Cmp)
			return sketch.Estimate{Value: numbers[1], Lower: numbers[0], Upper: numbers[2]}, numbers[rapid.IntRange(0, 2).Draw(t, "truth")]
		}
		current, x := draw("current")
		base, y := draw("base")
		holds(t, "difference", difference(current, base), new(big.Rat).Sub(rational(x), rational(y)))
		if r := ratio(current, base); r != nil {
			holds(t, "ratio", r, new(big.Rat).Quo(rational(x), rational(y)))
		}
		if v := verdict(current, base); v == "up" && x.Cmp(y) <= 0 || v == "down" && x.Cmp(y) >= 0 {
			t.Fatalf("%v to %v is %s", y, x, v)
		}
	})
}

type fataler interface{ Fatalf(string, ...any) }

// holds checks every way in which an interval is shown.
func holds(t fataler, what string, i *interval, truth *big.Rat) {
	for _, format := range []string{"json", "csv", "table"} {
		for _, towards := range []int{-1, 1} {
			side := i.lower
			if towards > 0 {
				side = i.upper
			}
			text := side.text(&output{format: format}, towards)
			if format == "json" {
				b, err := side.json(towards)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				text = strings.Trim(string(b), `"`)
			}
			if text == "" || text == "null" || strings.HasSuffix(text, "Inf") {
				continue // beyond every number
			}
			if shown := readBack(t, text); shown.Cmp(truth)*towards < 0 {
				t.Fatalf("%s: %s in %s leaves out %s", what, text, format, truth.RatString())
			}
		}
	}
}

// readBack reads a number as programs do: integers in full, others as float64.
func readBack(t fataler, text string) *big.Rat {
	if i, ok := new(big.Int).SetString(text, 10); ok {
		return new(big.Rat).SetInt(i)
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return new(big.Rat).SetFloat64(v)
}

// On real measurements: neighbouring parts of each file, compared with the
// medians of their sorted values.
func TestDiff_RealDataAgainstExactAnswers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(realData, "*.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no %s/*.csv.gz: real data is not there", realData)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			verdicts := map[string]int{}
			parts := readParts(t, file, 500)
			for i := range parts[:len(parts)-1] {
				current, x := medians(t, parts[i+1])
				base, y := medians(t, parts[i])
				holds(t, "difference", difference(current, base), new(big.Rat).Sub(x, y))
				if r := ratio(current, base); r != nil {
					holds(t, "ratio", r, new(big.Rat).Quo(x, y))
				}
				v := verdict(current, base)
				verdicts[v]++
				if v == "up" && x.Cmp(y) <= 0 || v == "down" && x.Cmp(y) >= 0 {
					t.Errorf("part %d: %s, but the medians are %v and %v", i, v, y, x)
				}
			}
			t.Logf("%d parts: %v", len(parts), verdicts)
		})
	}
}

func readParts(t *testing.T, file string, size int) [][]sketch.Number {
	t.Helper()
	r, f, err := openRows(file, columns{"timestamp", "node", "value"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts := [][]sketch.Number{nil}
	for {
		v, err := r.read()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		last := len(parts) - 1
		if len(parts[last]) == size {
			parts, last = append(parts, nil), last+1
		}
		parts[last] = append(parts[last], v.value)
	}
}

// medians returns what a sketch says and what is true.
func medians(t *testing.T, values []sketch.Number) (sketch.Estimate, *big.Rat) {
	t.Helper()
	var s sketch.Sketch
	for _, v := range values {
		if i, whole := v.Int64(); whole {
			s.AddInt(i)
		} else if err := s.Add(v.Float64()); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(values, sketch.Number.Cmp)
	n := len(values)
	sum := new(big.Rat).Add(rational(values[(n-1)/2]), rational(values[n/2]))
	return s.Median(), sum.Mul(sum, big.NewRat(1, 2))
}
