package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

const (
	// The windows asked end at different buckets, as those of real questions
	// do: this many of them.
	queryShifts = 6

	minQueries, maxQueries = 5, 2000
)

// dataset is a fleet that was written for questions.
type dataset struct {
	metric  string
	nodes   int
	from    int64
	buckets int // of each node, without those for shifts
	wanted  int // buckets that were wanted
	perSec  float64
}

// write fills a dataset that ends a few minutes ago.
func (b *bench) write(ctx context.Context, nodes int, span, within time.Duration) (*dataset, error) {
	wanted := int(span / (10 * time.Second))
	d := &dataset{nodes: nodes, wanted: wanted}
	b.metric = fmt.Sprintf(`bench{run="%08x",scenario="query"}`, time.Now().UnixNano()&0xffffffff)
	d.metric = b.metric
	d.from = b.bucket() - 300 - 10*int64(wanted+queryShifts)
	done, perSec, err := b.fill(ctx, nodes, d.from, wanted+queryShifts, within)
	d.buckets, d.perSec = done-queryShifts, perSec
	if err == nil && d.buckets < 1 {
		err = failuref("only %d buckets of %d nodes were written in %v; --max-load allows more", done, nodes, within)
	}
	return d, err
}

// note says what a question was about where that is less than was wanted.
func (d *dataset) note() string {
	if d.buckets == d.wanted {
		return ""
	}
	return fmt.Sprintf("only %v of %v were written within --max-load; ",
		time.Duration(d.buckets)*10*time.Second, time.Duration(d.wanted)*10*time.Second)
}

// ask is a question about the last buckets of the dataset, the ith time.
func (d *dataset) ask(i, buckets int) window.Query {
	to := d.from + 10*int64(d.buckets+i%queryShifts)
	return window.Query{Metric: window.Metric(d.metric), Span: window.Span{From: to - 10*int64(buckets), To: to}}
}

// query writes two fleets and asks about them.
func (b *bench) query(ctx context.Context) error {
	wide, err := b.write(ctx, orDefault(b.args.nodes, 1000), time.Hour, b.args.maxLoad/2)
	if err != nil {
		return err
	}
	long, err := b.write(ctx, 100, 24*time.Hour, b.args.maxLoad/2)
	if err != nil {
		return err
	}
	if _, err := b.settled(ctx); err != nil {
		return err
	}
	fleet := func(d *dataset) func(int) window.Query {
		return func(i int) window.Query { return d.ask(i, d.buckets) }
	}
	type question struct {
		name   string
		d      *dataset
		ask    func(int) window.Query
		values int // of each answer, all its results together
	}
	sixHours := min(long.buckets, 6*360)
	for _, q := range []question{
		{fmt.Sprintf("fleet_%dx1h", wide.nodes), wide, fleet(wide), wide.nodes * wide.buckets},
		{"fleet_100x24h", long, fleet(long), long.nodes * long.buckets},
		{fmt.Sprintf("by_node_%dx1h", wide.nodes), wide, func(i int) window.Query {
			q := wide.ask(i, wide.buckets)
			q.ByNode = true
			return q
		}, wide.nodes * wide.buckets},
		{"one_node_24h", long, func(i int) window.Query {
			q := long.ask(i, long.buckets)
			q.Nodes = []string{fmt.Sprintf("node-%06d", i%long.nodes)}
			return q
		}, long.buckets},
		{"fleet_per_minute_6h", long, func(i int) window.Query {
			q := long.ask(0, sixHours)
			q.Step = time.Minute
			return q
		}, long.nodes * sixHours},
	} {
		if err := b.time(ctx, q.name, q.d, q.ask, q.values); err != nil {
			return err
		}
	}
	return b.whileIngesting(ctx, wide, fleet(wide))
}

// whileIngesting asks while half of the load comes in that the filling reached.
func (b *bench) whileIngesting(ctx context.Context, d *dataset, ask func(int) window.Query) error {
	rate := d.perSec / 2
	b.say("ingesting %.0f sketches/s besides", rate)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	b.metric = fmt.Sprintf(`bench{run="%08x",scenario="query_ingest"}`, time.Now().UnixNano()&0xffffffff)
	var besides sync.WaitGroup
	var loadErr error
	besides.Go(func() {
		_, loadErr = b.drive(ctx, load{duration: time.Hour, clients: ingestClients, batch: 250, nodes: 10_000, rate: rate})
	})
	err := sleepUntil(ctx, time.Now().Add(b.args.duration/8))
	if err == nil {
		err = b.time(ctx, fmt.Sprintf("fleet_%dx1h_ingesting", d.nodes), d, ask, d.nodes*d.buckets)
	}
	stop()
	besides.Wait()
	if !errors.Is(loadErr, context.Canceled) {
		err = errors.Join(err, loadErr)
	}
	return err
}

// time asks one question again and again, and checks that every answer counts
// what was written.
func (b *bench) time(ctx context.Context, name string, d *dataset, ask func(int) window.Query, sketches int) error {
	b.say("asking %s", name)
	var latency sketch.Recorder
	began := time.Now()
	merged := 0
	for i := range maxQueries {
		if i >= minQueries && time.Since(began) > max(200*time.Millisecond, b.args.duration/6) {
			break
		}
		q := ask(i)
		asking, cancel := context.WithTimeout(ctx, b.args.timeout)
		start := time.Now()
		answer, err := b.client.Query(asking, q)
		took := time.Since(start)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// Where old data is kept in coarse buckets only, the window is widened.
		got, want := answer.Count(), uint64(sketches)*benchValues
		if got < want || got > want && answer.Span == q.Span {
			return failuref("%s: the answer counts %d values, %d were written", name, got, want)
		}
		merged = answer.BucketsMerged
		latency.AddInt(int64(took))
	}
	s := latency.Drain()
	ms := func(q float64) float64 { return s.Quantile(q).Float64() / 1e6 }
	b.report(name+"_p50", ms(0.5), "ms", "%s%s buckets merged", d.note(), grouped(uint64(merged)))
	b.report(name+"_p99", ms(0.99), "ms", "%s questions", grouped(s.Count()))
	return nil
}
