package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-median-tracker/dmt/storage"
)

// pollEvery is how often a condition is looked at.
const pollEvery = 5 * time.Millisecond

// await returns when ok does not say what is missing any more, and fails the
// test with what is missing when the time is up.
func (c *Cluster) await(what string, missing func() string) {
	c.t.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for until := time.Now().Add(patience); ; <-tick.C {
		m := missing()
		if m == "" {
			return
		}
		if time.Now().After(until) {
			c.t.Fatalf("clustertest: %s: after %v: %s", what, patience, m)
		}
	}
}

// WaitReady waits until every member that runs and is not partitioned belongs
// to the cluster and knows a leader.
func (c *Cluster) WaitReady() {
	c.t.Helper()
	for i, m := range c.members {
		if m.srv != nil && !m.link.isDown() {
			c.waitReady(i)
		}
	}
}

func (c *Cluster) waitReady(i int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.running(i).WaitReady(ctx); err != nil {
		c.t.Fatalf("clustertest: %s is not ready after %v: %v", c.members[i].id, patience, err)
	}
}

// Leader waits for a leader that a majority of all members follows, and
// returns its number.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := -1
	c.await("leader", func() string {
		followers := make(map[string]int)
		for _, m := range c.members {
			if m.srv != nil && !m.link.isDown() {
				id, _ := m.srv.Node().Leader()
				followers[id]++
			}
		}
		for i, m := range c.members {
			if m.srv != nil && !m.link.isDown() && m.srv.Node().IsLeader() && 2*followers[m.id] > len(c.members) {
				leader = i
				return ""
			}
		}
		return fmt.Sprintf("no member leads a majority; followers by leader: %v", followers)
	})
	return leader
}

// Follower returns the number of a member that runs, is not partitioned, and
// does not lead.
func (c *Cluster) Follower() int {
	c.t.Helper()
	leader := c.Leader()
	for i, m := range c.members {
		if i != leader && m.srv != nil && !m.link.isDown() {
			return i
		}
	}
	c.t.Fatal("clustertest: no follower runs")
	return -1
}

// WaitEqual waits until all members that run have applied the same log, and
// fails the test if their content then differs: every row of every metric,
// node and bucket, every producer, compared by a hash over all of it.
func (c *Cluster) WaitEqual() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.await("equal members", func() string {
		var first *member
		var hash [32]byte
		var index uint64
		for _, m := range c.members {
			if m.srv == nil {
				continue
			}
			h, i, err := m.srv.Node().Store().Hash(ctx)
			switch {
			case err != nil:
				return fmt.Sprintf("content of %s: %v", m.id, err)
			case first == nil:
				first, hash, index = m, h, i
			case i != index:
				return fmt.Sprintf("%s has applied index %d, %s %d", first.id, index, m.id, i)
			case h != hash:
				c.t.Fatalf("clustertest: %s and %s differ at index %d: %s", first.id, m.id, i, c.difference(ctx, first, m))
			}
		}
		return ""
	})
}

// difference describes the first row that two members do not share.
func (c *Cluster) difference(ctx context.Context, a, b *member) string {
	rowsA, err := rows(ctx, a)
	if err != nil {
		return err.Error()
	}
	rowsB, err := rows(ctx, b)
	if err != nil {
		return err.Error()
	}
	for i := range max(len(rowsA), len(rowsB)) {
		switch {
		case i >= len(rowsB) || i >= len(rowsA):
			return fmt.Sprintf("%d rows and %d", len(rowsA), len(rowsB))
		case !bytes.Equal(rowsA[i], rowsB[i]):
			return fmt.Sprintf("row %d:\n%s\n%s", i, rowsA[i], rowsB[i])
		}
	}
	return "no row differs, so their producers do"
}

// rows writes down the content of a member.
func rows(ctx context.Context, m *member) ([][]byte, error) {
	var out [][]byte
	_, err := m.srv.Node().Store().Walk(ctx, func(r storage.Row) error {
		if len(out) > 1_000_000 {
			return errors.New("too many rows to compare one by one")
		}
		out = append(out, fmt.Appendf(nil, "%+v", r))
		return nil
	})
	return out, err
}
