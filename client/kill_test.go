package client_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/client/clustertest"
	_ "github.com/distributed-median-tracker/dmt/client/spool"
	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// producerProcess is a process of its own: this test binary, run as
// TestChild_ProducesUntilKilled. In each round it adds one value for each of
// its nodes to a bucket of that round, and says when all of them would survive.
type producerProcess struct {
	cmd    *exec.Cmd
	synced chan int // rounds; closed when the process is gone
}

const (
	roundsBegin = int64(1_790_000_000)
	nodesOfOne  = 5
)

func startProducer(t *testing.T, addrs []string, dir string, name, round int, mode string) *producerProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild_ProducesUntilKilled$")
	cmd.Env = append(os.Environ(), "DMT_CHILD_ADDRS="+strings.Join(addrs, ","), "DMT_CHILD_SPOOL="+dir,
		"DMT_CHILD_NAME="+strconv.Itoa(name), "DMT_CHILD_ROUND="+strconv.Itoa(round), "DMT_CHILD_MODE="+mode)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &producerProcess{cmd: cmd, synced: make(chan int, 1<<16)}
	go func() {
		defer close(p.synced)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "synced ")); err == nil {
				p.synced <- n
			}
		}
	}()
	return p
}

// kill ends the process as the kernel does, and returns the last round that it
// has spoken of, or the one given.
func (p *producerProcess) kill(t *testing.T, last int) int {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	for n := range p.synced { // to the end: Wait closes the pipe
		last = n
	}
	_ = p.cmd.Wait() // it was killed
	return last
}

// TestChild_ProducesUntilKilled is that process.
func TestChild_ProducesUntilKilled(t *testing.T) {
	addrs := os.Getenv("DMT_CHILD_ADDRS")
	if addrs == "" {
		t.Skip("is run by the tests that kill it")
	}
	c, err := client.New(strings.Split(addrs, ","), client.Options{FlushEvery: 50 * time.Millisecond, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	name := os.Getenv("DMT_CHILD_NAME")
	var recs []*client.Recorder
	for i := range nodesOfOne { // they share the spool
		rec := c.Recorder(fmt.Sprintf("p%s-%d", name, i), client.RecorderOptions{Spool: os.Getenv("DMT_CHILD_SPOOL")})
		if err := rec.Err(); err != nil {
			t.Fatal(err)
		}
		recs = append(recs, rec)
	}
	if os.Getenv("DMT_CHILD_MODE") == "finish" {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Fatal(err)
		}
		return
	}
	round, err := strconv.ParseInt(os.Getenv("DMT_CHILD_ROUND"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for ; ; round++ {
		for _, rec := range recs {
			rec.AddIntAt("m", time.Unix(roundsBegin+10*round, 0), round)
		}
		if err := c.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("synced %d\n", round)
	}
}

// TestSpool_RealProcessKilledAgainAndAgain kills a producer with SIGKILL at
// random moments, while the cluster is well, cut off, and loses members; in the
// end every bucket of every node holds what was added to it, on every member.
func TestSpool_RealProcessKilledAgainAndAgain(t *testing.T) {
	cluster := clustertest.Start(t, 3)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	doubtful := make(map[int]bool) // rounds that a kill interrupted
	lives, round := 12, 0
	if testing.Short() {
		lives = 6
	}
	for life := range lives {
		switch life % 4 {
		case 1: // an outage
			for i := range cluster.Len() {
				cluster.Partition(i)
			}
		case 2:
			cluster.Heal()
			cluster.WaitReady()
		case 3:
			k := cluster.Leader()
			cluster.Kill(k)
			cluster.Restart(k)
		}
		p := startProducer(t, cluster.Addrs(), dir, 1, round, "")
		first, ok := <-p.synced
		if !ok || first != round {
			t.Fatalf("life %d: first round %d, %v; want %d", life, first, ok, round)
		}
		after := time.NewTimer(time.Duration(rng.IntN(400)) * time.Millisecond)
		<-after.C
		round = p.kill(t, first)
		doubtful[round+1] = true // added, and perhaps synced, when it was killed
		round += 2
	}
	cluster.Heal()
	cluster.WaitReady()
	if err := startProducer(t, cluster.Addrs(), dir, 1, 0, "finish").cmd.Wait(); err != nil {
		t.Fatalf("the last life could not close: %v", err)
	}
	cluster.WaitEqual()
	for i := range cluster.Len() {
		checkRounds(t, cluster, i, round, doubtful)
	}
	t.Logf("%d rounds, %d of them in doubt", round, len(doubtful))
}

// checkRounds compares all buckets of one member with what was added.
func checkRounds(t *testing.T, cluster *clustertest.Cluster, member, rounds int, doubtful map[int]bool) {
	t.Helper()
	found := make(map[string]uint64)
	_, err := cluster.Server(member).Node().Store().Walk(t.Context(), func(r storage.Row) error {
		if r.Node != "*" {
			n, err := countOf(r.Sketch)
			found[fmt.Sprint(r.Node, " ", (r.Bucket.Start-roundsBegin)/10)] += n
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		for i := range nodesOfOne {
			k := fmt.Sprintf("p1-%d %d", i, round)
			n := found[k]
			if n > 1 || n == 0 && !doubtful[round] {
				t.Errorf("member %d: %d values of node and round %s, want 1", member, n, k)
			}
			delete(found, k)
		}
	}
	if len(found) > 0 {
		t.Errorf("member %d: buckets that nobody has added to: %v", member, found)
	}
}

// countOf returns how many values an encoded sketch holds.
func countOf(data []byte) (uint64, error) {
	header, err := sketch.ReadHeader(data)
	return header.Count, err
}
