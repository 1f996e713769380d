// Package clustertest runs a real cluster inside a test, as package httptest
// runs a real HTTP server: real members with real files, talking over real
// connections on loopback.
//
//	c := clustertest.Start(t, 3)
//	c.Client().Recorder("node-1", client.RecorderOptions{}).AddInt("latency_us", 12)
//	c.Kill(c.Leader())
//
// It promises that everything ends with the test: members, connections and
// files. Faults stay inside the process: a partition is a property of the
// connections that a member has and is given, the machine is not touched. All
// methods fail the test when what they are meant to bring about does not come
// about in time; they are to be called from the goroutine of the test.
package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/server"
	"github.com/distributed-median-tracker/dmt/raftfsm"
	"github.com/distributed-median-tracker/dmt/window"
)

// patience is how long a method waits for what it wants. It is much more than
// anything takes on an idle machine, because tests run on busy ones.
const patience = 60 * time.Second

// Options tune a cluster. The zero value is right for most tests.
type Options struct {
	// Raft is what every member is started with. Dir, ID, Address, Join,
	// BootstrapExpect, Peers, Dial and Logger are filled in. Tiers are
	// window.ForeverTiers where nil, so that tests may write at any time;
	// MinFreeDisk is off where 0, so that they run on small disks.
	Raft raftfsm.Options

	// Client is what Client is made with.
	Client client.Options
}

// Cluster is a running cluster whose members are numbered from 0.
type Cluster struct {
	t       testing.TB
	options Options
	members []*member
	client  *client.Client
}

// member is one place in the cluster. Its files and its port outlive the
// servers that run there one after another.
type member struct {
	id   string
	dir  string
	link *link
	join []string
	want int            // bootstrap-expect
	srv  *server.Server // nil while it is down
	log  *lastLines
}

// Start starts n members, and returns when they are one cluster that has a
// leader. At most one Options is used.
func Start(t testing.TB, n int, options ...Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	if len(options) > 0 {
		c.options = options[0]
	}
	if c.options.Raft.Tiers == nil {
		c.options.Raft.Tiers = window.ForeverTiers()
	}
	if c.options.Raft.MinFreeDisk == 0 {
		c.options.Raft.MinFreeDisk = -1
	}
	t.Cleanup(c.close)
	for range n {
		c.place()
	}
	for _, m := range c.members {
		if n > 1 {
			m.join, m.want = c.Addrs(), n
		}
	}
	for i := range c.members {
		c.Restart(i)
	}
	c.WaitReady()
	return c
}

// place makes room for another member.
func (c *Cluster) place() *member {
	c.t.Helper()
	l, err := newLink()
	if err != nil {
		c.t.Fatalf("clustertest: listen: %v", err)
	}
	id := fmt.Sprintf("m%d", len(c.members)+1)
	m := &member{id: id, dir: filepath.Join(c.t.TempDir(), id), link: l, log: &lastLines{}}
	c.members = append(c.members, m)
	return m
}

// Len returns the number of members, those that are down included.
func (c *Cluster) Len() int { return len(c.members) }

// Addrs returns the addresses of all members.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.members))
	for i, m := range c.members {
		addrs[i] = m.link.address()
	}
	return addrs
}

// Addr returns the address of member i.
func (c *Cluster) Addr(i int) string { return c.members[i].link.address() }

// Dir returns the data directory of member i.
func (c *Cluster) Dir(i int) string { return c.members[i].dir }

// Server returns the server of member i, nil while it is down.
func (c *Cluster) Server(i int) *server.Server { return c.members[i].srv }

// Client returns a client of the whole cluster, the same one each time. It is
// closed with the test, and what it could not send by then is logged.
func (c *Cluster) Client() *client.Client {
	c.t.Helper()
	if c.client == nil {
		var err error
		if c.client, err = client.New(c.Addrs(), c.options.Client); err != nil {
			c.t.Fatalf("clustertest: client: %v", err)
		}
	}
	return c.client
}

// Add starts another member, which joins the others, and returns its number
// when it has.
func (c *Cluster) Add() int {
	c.t.Helper()
	join := c.Addrs()
	m := c.place()
	m.join = join
	i := len(c.members) - 1
	c.Restart(i)
	c.waitReady(i)
	return i
}

// Stop shuts member i down as a supervisor would: leadership is handed over,
// requests are finished, files closed.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	srv := c.running(i)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		c.t.Errorf("clustertest: stop %s: %v", c.members[i].id, err)
	}
	c.members[i].srv = nil
}

// Kill ends member i as kill -9 would: connections are cut, nothing is
// flushed, finished or handed over.
func (c *Cluster) Kill(i int) {
	c.t.Helper()
	c.running(i).Kill()
	c.members[i].srv = nil
}

func (c *Cluster) running(i int) *server.Server {
	c.t.Helper()
	srv := c.members[i].srv
	if srv == nil {
		c.t.Fatalf("clustertest: %s is down already", c.members[i].id)
	}
	return srv
}

// Restart starts member i again on its files. It does not wait for it to
// become ready: without the others it may never be.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	m := c.members[i]
	if m.srv != nil {
		c.t.Fatalf("clustertest: %s is running", m.id)
	}
	raft := c.options.Raft
	raft.Dir, raft.ID, raft.Join, raft.BootstrapExpect = m.dir, m.id, m.join, m.want
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	srv, err := server.Start(ctx, server.Options{
		Listener: m.link.open(),
		Raft:     raft,
		Dial:     m.link.dial,
		Logger:   slog.New(slog.NewTextHandler(m.log, nil)),
	})
	if err != nil {
		c.t.Fatalf("clustertest: start %s: %v", m.id, err)
	}
	m.srv = srv
}

// Partition cuts member i off from the others and from clients, in both
// directions, until Heal. It goes on running.
func (c *Cluster) Partition(i int) { c.members[i].link.cut() }

// Heal ends every partition.
func (c *Cluster) Heal() {
	for _, m := range c.members {
		m.link.heal()
	}
}

// close ends everything, all members at once: one that waits for others on
// its way out would wait for the dead.
func (c *Cluster) close() {
	if c.client != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := c.client.Close(ctx); err != nil {
			c.t.Logf("clustertest: close client: %v", err)
		}
		cancel()
	}
	var wg sync.WaitGroup
	for _, m := range c.members {
		wg.Go(func() {
			if m.srv != nil {
				m.srv.Kill()
			}
			m.link.close()
		})
	}
	wg.Wait()
	if c.t.Failed() {
		for _, m := range c.members {
			c.t.Logf("last lines of the log of %s (%s):\n%s", m.id, m.link.address(), m.log)
		}
	}
}
