package plot

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; look at it and run with -update\n%s", name, got)
	}
}

func at(text string) int64 {
	t, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		panic(err)
	}
	return t.Unix()
}

// series sketches some values per step, as a cluster would.
func series(t *testing.T, metric, from string, step window.Width, steps int, values func(i int) []sketch.Number) Series {
	t.Helper()
	start := at(from)
	a := window.Answer{Metric: window.Metric(metric), Span: window.Span{From: start, To: start + int64(steps)*int64(step)}}
	for i := range steps {
		var s sketch.Sketch
		for _, v := range values(i) {
			if i, whole := v.Int64(); whole {
				s.AddInt(i)
			} else if err := s.Add(v.Float64()); err != nil {
				t.Fatal(err)
			}
		}
		if s.Count() == 0 {
			continue
		}
		from := start + int64(i)*int64(step)
		r := window.Result{Node: window.AllNodes, Span: window.Span{From: from, To: from + int64(step)}, Count: s.Count()}
		for _, q := range Quantiles() {
			r.Estimates = append(r.Estimates, window.QuantileEstimate{Q: q, Estimate: s.Quantile(q)})
		}
		a.Results = append(a.Results, r)
	}
	p, err := FromAnswer(a, step)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func float(v float64) sketch.Number {
	n, err := sketch.Float(v)
	if err != nil {
		panic(err)
	}
	return n
}

// day is a day of latencies with two gaps, one of a single step.
func day(t *testing.T) Series {
	return series(t, "latency_us", "2026-11-23 06:00:00", window.TenMinutes, 144, func(i int) []sketch.Number {
		if i >= 30 && i < 45 || i == 100 || i == 102 {
			return nil
		}
		var values []sketch.Number
		for k := range 200 {
			v := 1500 + 400*math.Sin(float64(i)/20) + 3*float64(k) + float64((i*7919+k*104729)%97)
			if k%37 == 0 {
				v *= 1.6
			}
			values = append(values, sketch.Int(int64(v)))
		}
		return values
	})
}

// decades spans many orders of magnitude.
func decades(t *testing.T) Series {
	return series(t, "bytes", "2026-11-23 10:00:00", 10, 60, func(i int) []sketch.Number {
		var values []sketch.Number
		for k := range 50 {
			values = append(values, float(math.Pow(10, 1+float64(k)/10+float64(i)/30)))
		}
		return values
	})
}

func hostile(t *testing.T) Series {
	return series(t, "a</title><script>alert(1)</script>&\"'\x00\x1b[31m\u202e\xff]]>", "2026-11-23 10:00:00", 10, 3, func(i int) []sketch.Number {
		return []sketch.Number{sketch.Int(int64(i))}
	})
}

func one(t *testing.T) Series {
	return series(t, "once", "2026-11-23 10:00:00", 10, 1, func(int) []sketch.Number { return []sketch.Number{sketch.Int(7)} })
}

func TestFromAnswer_RefusesWhatIsNoSeries(t *testing.T) {
	good := window.Answer{Metric: "m", Span: window.Span{From: 0, To: 30}}
	var s sketch.Sketch
	s.AddInt(1)
	for from := int64(0); from < 30; from += 10 {
		r := window.Result{Node: "*", Span: window.Span{From: from, To: from + 10}}
		for _, q := range Quantiles() {
			r.Estimates = append(r.Estimates, window.QuantileEstimate{Q: q, Estimate: s.Quantile(q)})
		}
		good.Results = append(good.Results, r)
	}
	if _, err := FromAnswer(good, 10); err != nil {
		t.Fatal(err)
	}
	f := func(what string, step window.Width, change func(*window.Result)) {
		t.Helper()
		bad := good
		bad.Results = slices.Clone(good.Results)
		bad.Results[1].Estimates = slices.Clone(bad.Results[1].Estimates)
		change(&bad.Results[1])
		if _, err := FromAnswer(bad, step); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	f("no step", 0, func(*window.Result) {})
	f("one node", 10, func(r *window.Result) { r.Node = "web-1" })
	f("an overlap", 10, func(r *window.Result) { r.Span.From = 5 })
	f("a point beyond the end", 10, func(r *window.Result) { r.Span.To = 50 })
	f("other quantiles", 10, func(r *window.Result) { r.Estimates = r.Estimates[:3] })
	f("an empty estimate", 10, func(r *window.Result) { r.Estimates[0].Estimate = sketch.Estimate{Empty: true} })
}

func TestStep_IsRoundAndFits(t *testing.T) {
	f := func(seconds int64, base window.Width, most int, want window.Width) {
		t.Helper()
		from := at("2026-11-23 10:00:00")
		span := window.Span{From: from, To: from + seconds}
		if got := Step(span, base, most); got != want || Steps(span, got) > most || got%base != 0 {
			t.Errorf("Step(%d s, %v, %d) = %v with %d points, want %v", seconds, base, most, got, Steps(span, got), want)
		}
	}
	f(10, 10, 300, 10)
	f(3000, 10, 300, 10)
	f(3001, 10, 300, 30)
	f(3600, 10, 300, 30)
	f(86400, 10, 300, 300)
	f(86400, 10, 66, 1800)
	f(30*86400, 10, 300, 10800)
	f(365*86400, 10, 300, 2*86400)
	f(3600, 1, 300, 30)
	f(3600, 60, 300, 60)
	f(3600, 7, 300, 14)
	f(3600, 7, 60, 70)
	f(3600, 7, 1, 20_000*7) // shorter ones begin within the hour
	all := window.Span{From: window.MinTime, To: window.MaxTime}
	if got := Step(all, 10, 300); Steps(all, got) > 300 {
		t.Errorf("Step(all time) = %v: %d points", got, Steps(all, got))
	}
	before := window.Span{From: -5, To: 5} // both sides of a multiple of every step
	if got := Step(before, 10, 2); got != 10 {
		t.Errorf("Step(%v) = %v, want 10s", before, got)
	}
}

func TestClean_LeavesNothingInvisible(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	f("Zürich 日本 <&>", "Zürich 日本 <&>")
	f("a\nb\x1b[31m", `a\nb\x1b[31m`)
	f("left\u202eright", `left\u202eright`)
	f("\x00\x01\xff", `\x00\x01\xff`)
	f("real \ufffd", "real \ufffd")
}
