package clustertest

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

func TestCluster_CountsThroughFaults(t *testing.T) {
	c := Start(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rec := c.Client().Recorder("node-1", client.RecorderOptions{})
	want := uint64(0)
	add := func(after string) {
		t.Helper()
		rec.AddInt("m", int64(want))
		want++
		if err := rec.Flush(ctx); err != nil {
			t.Fatalf("flush after %s: %v", after, err)
		}
		answer, err := c.Client().Query(ctx, window.Query{Metric: "m"})
		if err != nil || answer.Count() != want {
			t.Fatalf("query after %s: count %d, %v; want %d", after, answer.Count(), err, want)
		}
	}
	add("start")
	leader := c.Leader()
	c.Kill(leader)
	add("kill of the leader")
	c.Restart(leader)
	c.WaitReady()
	c.WaitEqual()
	leader = c.Leader()
	c.Partition(leader)
	add("partition of the leader")
	c.Heal()
	c.WaitEqual()
	c.Stop(c.Leader())
	add("stop of the leader")
	for i := range c.Len() {
		if c.Server(i) == nil {
			c.Restart(i)
		}
	}
	c.Add()
	add("a fourth member")
	c.WaitEqual()
}

func TestPartition_CutsBothDirections(t *testing.T) {
	c := Start(t, 3)
	cut, leader := c.Follower(), c.Leader()
	knock := func(i int) error {
		conn, err := net.Dial("tcp", c.Addr(i))
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	if err := knock(cut); err != nil {
		t.Errorf("before the partition: %v", err)
	}
	c.Partition(cut)
	if err := knock(cut); err == nil {
		t.Error("a client reaches the member that is cut off")
	}
	if _, err := c.members[cut].link.dial(context.Background(), c.Addr(leader)); err == nil {
		t.Error("the member that is cut off reaches another")
	}
	if err := knock(leader); err != nil {
		t.Errorf("a client does not reach the leader: %v", err)
	}
	c.await("the member to notice", func() string {
		if id, _ := c.Server(cut).Node().Leader(); id != "" {
			return "it still knows a leader: " + id
		}
		return ""
	})
	c.Heal()
	if err := knock(cut); err != nil {
		t.Errorf("after the partition: %v", err)
	}
	c.WaitEqual()
}

// failing records what a test would have died of.
type failing struct {
	testing.TB
	said chan string
}

func (f failing) Helper() {}

func (f failing) Fatalf(format string, args ...any) {
	f.said <- fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestWaitEqual_FailsWhenMembersDiffer(t *testing.T) {
	c := Start(t, 3)
	c.WaitEqual()
	s := sketch.New(sketch.DefaultPrecision)
	s.AddInt(1)
	b, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody moves on, so that the indices can meet.
	follower := c.Follower()
	db := c.Server(follower).Node().Store()
	leader := c.Server(c.Leader()).Node().Store()
	for i := range c.Len() {
		c.Partition(i)
	}
	index, term := leader.Applied()
	if mine, _ := db.Applied(); mine > index {
		index = mine
	}
	outcomes, err := db.Apply(&storage.Entry{Index: index + 1, Term: term, ClockMs: time.Now().UnixMilli(), Kind: storage.KindBatches, Batches: []storage.Batch{{
		Producer: storage.ProducerID{1}, Seq: 1, SeenMs: time.Now().UnixMilli(),
		Deltas: []storage.Delta{{Metric: "m", Node: "a", Start: 0, Sketch: b, Count: 1}},
	}}})
	if err != nil || outcomes[0].Status != storage.Applied {
		t.Fatalf("apply: %v, %v", outcomes, err)
	}
	if _, err := leader.Apply(&storage.Entry{Index: index + 1, Term: term, ClockMs: time.Now().UnixMilli(), Kind: storage.KindTick}); err != nil {
		t.Fatal(err)
	}
	f := failing{t, make(chan string, 1)}
	pair := &Cluster{t: f, members: []*member{c.members[c.indexOf(leader)], c.members[follower]}}
	go pair.WaitEqual()
	if said := <-f.said; !strings.Contains(said, "differ at index") || !strings.Contains(said, "rows") {
		t.Errorf("WaitEqual said %q", said)
	}
}

// indexOf returns the member that a state belongs to.
func (c *Cluster) indexOf(db *storage.DB) int {
	for i, m := range c.members {
		if m.srv != nil && m.srv.Node().Store() == db {
			return i
		}
	}
	return -1
}
