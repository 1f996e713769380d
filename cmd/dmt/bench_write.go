package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
)

const (
	ingestClients = 8
	ingestNodes   = 100_000
	singleClients = 256

	fillClients = 8
)

func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// warm lets the cluster learn the nodes and open its files before it counts.
func (b *bench) warm(ctx context.Context, l load) error {
	l.duration = max(500*time.Millisecond, l.duration/4)
	b.say("warming up for %v", l.duration)
	_, err := b.drive(ctx, l)
	return err
}

// ingest sends batches as fast as they are acknowledged.
func (b *bench) ingest(ctx context.Context) error {
	a := b.args
	l := load{duration: a.duration, clients: orDefault(a.clients, ingestClients), batch: a.batch, nodes: orDefault(a.nodes, ingestNodes)}
	if err := b.warm(ctx, l); err != nil {
		return err
	}
	b.say("%d clients, batches of %d, for %v", l.clients, l.batch, l.duration)
	before := b.usage()
	got, err := b.drive(ctx, l)
	if err != nil {
		return err
	}
	after := b.usage()
	b.report("sketches", got.perSecond(), "sketches/s", "%d clients, batches of %d", l.clients, l.batch)
	b.report("values", got.perSecond()*benchValues, "values/s", "%d in each sketch", benchValues)
	b.acks(got)
	b.report("sketch_bytes", b.mean, "B/sketch", "encoded")
	b.report("wire_bytes", float64(got.wire)/float64(got.sketches), "B/sketch", "with metric, node and time, uncompressed")
	b.reportUsage(before, after, got)
	return nil
}

// acks reports how long acknowledgements took.
func (b *bench) acks(got *loaded) {
	b.report("ack_p50", got.ms(0.5), "ms", "%s calls", grouped(got.calls))
	b.report("ack_p99", got.ms(0.99), "ms", "max %.1f ms, %d retries", got.ms(1), b.retries.Load())
}

func (b *bench) singleLoad() load {
	clients := orDefault(b.args.clients, singleClients)
	return load{duration: b.args.duration, clients: clients, batch: 1, nodes: orDefault(b.args.nodes, 10*clients)}
}

// single sends sketches one by one.
func (b *bench) single(ctx context.Context) error {
	l := b.singleLoad()
	if err := b.warm(ctx, l); err != nil {
		return err
	}
	b.say("%d clients, for %v", l.clients, l.duration)
	got, err := b.drive(ctx, l)
	if err != nil {
		return err
	}
	b.report("sketches", got.perSecond(), "sketches/s", "%d clients, one sketch in each call", l.clients)
	b.acks(got)
	return nil
}

// paced measures acknowledgements under a load that the cluster can carry.
func (b *bench) paced(ctx context.Context) error {
	l := b.singleLoad()
	if l.rate = b.args.rate; l.rate == 0 {
		full := l
		full.duration = max(time.Second, l.duration/3)
		b.say("finding the most, for %v", full.duration)
		if err := b.warm(ctx, full); err != nil {
			return err
		}
		got, err := b.drive(ctx, full)
		if err != nil {
			return err
		}
		l.rate = got.perSecond() / 2
	}
	b.say("%.0f sketches/s from %d clients, for %v", l.rate, l.clients, l.duration)
	got, err := b.drive(ctx, l)
	if err != nil {
		return err
	}
	b.report("rate", got.perSecond(), "sketches/s", "%d clients, one sketch in each call", l.clients)
	b.acks(got)
	return nil
}

// fill writes nodes x buckets sketches in the order of time, as many whole
// buckets as fit into the time, and returns how many those were.
func (b *bench) fill(ctx context.Context, nodes int, from int64, buckets int, within time.Duration) (int, float64, error) {
	size := min(b.args.batch, nodes)
	per := (nodes + size - 1) / size // batches in a bucket
	b.say("writing %s sketches, in %v at most", grouped(uint64(nodes)*uint64(buckets)), within)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	var taken atomic.Int64
	var clients sync.WaitGroup
	for i := range orDefault(b.args.clients, fillClients) {
		clients.Go(func() {
			p := b.producer(i)
			for time.Since(began) < within {
				k := int(taken.Add(1) - 1)
				if k >= per*buckets {
					return
				}
				if err := b.fillBatch(ctx, p, k/per, k%per*size, size, nodes, from); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	clients.Wait()
	if err := context.Cause(ctx); err != nil {
		return 0, 0, err
	}
	done := min(int(taken.Load()), per*buckets) / per
	if done == 0 {
		return 0, 0, failuref("not one bucket of %d nodes was written in %v", nodes, within)
	}
	return done, float64(done*nodes) / time.Since(began).Seconds(), nil
}

func (b *bench) fillBatch(ctx context.Context, p *producer, bucket, first, size, nodes int, from int64) error {
	var entries []*dmtv1.Entry
	for node := first; node < min(first+size, nodes); node++ {
		entries = append(entries, b.entry(node, from+10*int64(bucket)))
	}
	_, err := p.send(ctx, entries)
	return err
}

// fillSize writes --size MiB of sketches, and returns how many those are.
func (b *bench) fillSize(ctx context.Context) (rows int, err error) {
	const nodes = 100
	buckets := max(1, int(float64(b.args.size<<20)/b.mean/nodes))
	from := b.bucket() - 10*int64(buckets) - 60
	done, _, err := b.fill(ctx, nodes, from, buckets, b.args.maxLoad)
	return done * nodes, err
}

// disk writes a known number of rows and looks at how much the files grew.
func (b *bench) disk(ctx context.Context) error {
	before, err := b.settled(ctx)
	if err != nil {
		return err
	}
	rows, err := b.fillSize(ctx)
	if err != nil {
		return err
	}
	after, err := b.settled(ctx)
	if err != nil {
		return err
	}
	perRow := func(bytes int64) float64 { return float64(bytes) / float64(rows) }
	note := fmt.Sprintf("%s sketches of %.0f bytes; all tiers and free pages included", grouped(uint64(rows)), b.mean)
	if b.local == nil {
		b.report("state_bytes", perRow(after-before), "B/row", "%s; files grow by 16 MiB at once", note)
		return nil
	}
	state, all, err := b.local.diskBytes()
	if err != nil {
		return err
	}
	b.report("state_bytes", perRow(state), "B/row", "%s", note)
	b.report("member_bytes", perRow(all), "B/row", "with the member's log")
	return nil
}

// settled waits until what was counted is in the database files of all members,
// not only in their logs, and returns the size of the greatest.
func (b *bench) settled(ctx context.Context) (int64, error) {
	const quiet, patience = 64 << 10, 30 * time.Second
	b.say("waiting until it is in the files")
	var most int64
	err := until(ctx, patience, "written data", func(ctx context.Context) error {
		var commit uint64
		var all []*dmtv1.StatusResponse
		for _, m := range b.members {
			st, err := m.Status(ctx, connect.NewRequest(&dmtv1.StatusRequest{}))
			if err != nil {
				return err
			}
			commit = max(commit, st.Msg.GetCommitIndex())
			all = append(all, st.Msg)
		}
		for _, st := range all {
			most = max(most, st.GetDataBytes())
			switch {
			case st.GetAppliedIndex() < commit:
				return fmt.Errorf("%s has applied %d of %d", st.GetId(), st.GetAppliedIndex(), commit)
			case st.GetHeadBytes() > quiet:
				return fmt.Errorf("%s has %s in memory", st.GetId(), size(st.GetHeadBytes()))
			}
		}
		return nil
	})
	return most, err
}
