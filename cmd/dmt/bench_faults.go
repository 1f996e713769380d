package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// failoverLoad is how many calls at once go on while leaders die.
const failoverLoad = 8

// failover kills the leader again and again, under load, and measures the time
// until a write is acknowledged that was begun after that.
func (b *bench) failover(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	background := make(chan error, 1)
	go func() {
		_, err := b.drive(ctx, load{duration: time.Hour, clients: failoverLoad, batch: 1, nodes: 1000, rate: 200})
		background <- err
	}()
	var times sketch.Sketch
	var err error
	for round := range b.args.rounds {
		var took time.Duration
		if took, err = b.failoverOnce(ctx, round); err != nil {
			break
		}
		times.AddInt(int64(took))
	}
	stop()
	if berr := <-background; berr != nil && !errors.Is(berr, context.Canceled) {
		err = errors.Join(err, berr)
	}
	if err != nil {
		return err
	}
	b.report("worst", times.Quantile(1).Float64()/1e6, "ms", "of %d leaders killed under a load of 200 calls/s", times.Count())
	b.report("median", times.Median().Float64()/1e6, "ms", "")
	return nil
}

func (b *bench) failoverOnce(ctx context.Context, round int) (time.Duration, error) {
	leader, err := b.local.leader(ctx)
	if err != nil {
		return 0, err
	}
	p := b.without(leader).producer(round)
	entry := b.entry(round, b.bucket())
	killed := time.Now()
	if err := leader.kill(); err != nil {
		return 0, err
	}
	writing, cancel := context.WithTimeout(ctx, benchPatience)
	defer cancel()
	if _, err := p.send(writing, []*dmtv1.Entry{entry}); err != nil {
		return 0, fmt.Errorf("after the leader was killed: %w", err)
	}
	took := time.Since(killed)
	b.say("%d of %d: %d ms", round+1, b.args.rounds, took.Milliseconds())
	if err := leader.start(); err != nil {
		return 0, err
	}
	return took, b.local.caughtUp(ctx, leader)
}

// without is the bench as seen by a producer that knows who is dead: trying
// that one first would cost nothing, but say nothing either.
func (b *bench) without(m *benchMember) *bench {
	alive := &bench{args: b.args, clusterID: b.clusterID, ahead: b.ahead}
	for _, other := range b.local.members {
		if other != m {
			alive.targets = append(alive.targets, b.tracker(other.addr))
		}
	}
	return alive
}

// caughtUp waits until a member has applied what the leader had when asked.
func (c *benchCluster) caughtUp(ctx context.Context, m *benchMember) error {
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	st, err := leader.status(ctx)
	if err != nil {
		return err
	}
	return until(ctx, benchPatience, m.addr+" to catch up", func(ctx context.Context) error {
		own, err := m.status(ctx)
		if err != nil {
			return err
		}
		if own.GetAppliedIndex() < st.GetCommitIndex() {
			return fmt.Errorf("applied %d of %d", own.GetAppliedIndex(), st.GetCommitIndex())
		}
		return nil
	})
}

// restart kills and stops a member with data, and measures how long it takes
// from its start to its first answer, which has to be as new as any.
func (b *bench) restart(ctx context.Context) error {
	rows, err := b.fillSize(ctx)
	if err != nil {
		return err
	}
	if _, err := b.settled(ctx); err != nil {
		return err
	}
	m, err := b.local.follower(ctx)
	if err != nil {
		return err
	}
	disk, _, err := b.local.diskBytes()
	if err != nil {
		return err
	}
	for _, end := range []struct {
		name string
		how  func() error
	}{{"after_kill", m.kill}, {"after_stop", m.stop}} {
		if err := end.how(); err != nil {
			return err
		}
		began := time.Now()
		if err := m.start(); err != nil {
			return err
		}
		if err := until(ctx, benchPatience, "answer of "+m.addr, func(ctx context.Context) error { return b.answers(ctx, m, rows) }); err != nil {
			return err
		}
		b.report(end.name, time.Since(began).Seconds()*1e3, "ms", "to the first linearizable answer; %s of database", size(disk))
	}
	return nil
}

// answers says whether a member answers, and with everything.
func (b *bench) answers(ctx context.Context, m *benchMember, rows int) error {
	ctx, cancel := context.WithTimeout(ctx, benchTry)
	defer cancel()
	res, err := m.tracker().Query(ctx, connect.NewRequest(&dmtv1.QueryRequest{Metric: b.metric}))
	if err != nil {
		return fmt.Errorf("%w; it says %s", err, m.stderr)
	}
	var got uint64
	for _, r := range res.Msg.GetResults() {
		got += r.GetCount()
	}
	if want := uint64(rows) * benchValues; got < want {
		return failuref("%s counts %d values, %d were acknowledged", m.addr, got, want)
	}
	return nil
}

// catchup starts an empty member and measures until it has applied what was
// committed when it started.
func (b *bench) catchup(ctx context.Context) error {
	rows, err := b.fillSize(ctx)
	if err != nil {
		return err
	}
	if _, err := b.settled(ctx); err != nil {
		return err
	}
	disk, _, err := b.local.diskBytes()
	if err != nil {
		return err
	}
	addrs, err := freeAddresses(1)
	if err != nil {
		return err
	}
	join := b.local.addrs()
	m := b.local.place(addrs[0])
	for _, addr := range join {
		m.flags = append(m.flags, "--join", addr)
	}
	began := time.Now()
	if err := m.start(); err != nil {
		return err
	}
	if err := b.local.caughtUp(ctx, m); err != nil {
		return err
	}
	took := time.Since(began)
	payload := float64(rows) * b.mean / (1 << 20)
	b.report("empty_member", took.Seconds()*1e3, "ms", "%s of database elsewhere", size(disk))
	b.report("rate", payload/took.Seconds(), "MiB/s", "of sketches")
	return b.local.waitVoters(ctx, benchMembers+1)
}
