package raftfsm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

func TestForm_ThreeMembersInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
		c := newCluster(t, 3, nil)
		for _, i := range order {
			c.members[i].start()
		}
		c.ready()
		want := map[string]uint64{}
		for seq := uint64(1); seq <= 5; seq++ {
			c.ingest(testBatch(t, 1, seq, "n1", 10))
			want["n1"] += 10
		}
		c.equal(want)
		leader := c.leader().running()
		members := leader.Members()
		if len(members) != 3 {
			t.Fatalf("order %v: %d members, want 3", order, len(members))
		}
		for _, m := range members {
			if !m.Voter || !m.Reachable || m.Leader != (m.ID == leader.ID()) {
				t.Errorf("order %v: member %+v, want a reachable voter", order, m)
			}
		}
		for _, m := range c.members {
			if id := m.running().ClusterID(); id == "" || id != leader.ClusterID() {
				t.Errorf("member %s is in cluster %q, the leader in %q", m.id, id, leader.ClusterID())
			}
		}
	}
}

// Two of three must not form a cluster that the third then stands outside of.
func TestForm_WaitsForEveryMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	a, b := c.members[0].start(), c.members[1].start()
	eventually(t, 5*time.Second, func() string {
		if w := a.Status().WaitingFor; !strings.Contains(w, c.members[2].addr) {
			return "a waits for " + w
		}
		return ""
	})
	if a.raft.LastIndex() != 0 || b.raft.LastIndex() != 0 {
		t.Error("two of three members formed a cluster")
	}
	c.startAll()
}

func TestForm_RefusesDifferentCommandLines(t *testing.T) {
	t.Parallel()
	f := func(what, want string, tune func(*Options)) {
		t.Helper()
		c := newCluster(t, 2, nil)
		a := c.members[0].start()
		c.members[1].start(tune)
		eventually(t, 5*time.Second, func() string {
			if w := a.Status().WaitingFor; !strings.Contains(w, want) {
				return what + ": a waits for " + w + ", want " + want
			}
			return ""
		})
		if a.raft.LastIndex() != 0 {
			t.Errorf("%s: a cluster was formed", what)
		}
	}
	f("precision", "same precision", func(o *Options) { o.Precision = 5 })
	f("id", "another id", func(o *Options) { o.ID = "a" })
	f("list", "same join list", func(o *Options) { o.Join = []string{o.Address, "127.0.0.1:1"} })
}

func TestForm_OneMemberAloneAndAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	m := c.members[0]
	id := m.running().ClusterID()
	c.ingest(testBatch(t, 1, 1, "n", 3))
	for range 2 {
		m.stop()
		c.startAll()
		if got := m.running().ClusterID(); got != id {
			t.Errorf("cluster id after a restart is %s, want %s", got, id)
		}
		c.equal(map[string]uint64{"n": 3})
	}
	if s := m.running().Status(); s.Precision != 7 || len(s.Tiers) != 5 || s.State != "leader" || !s.Ready || s.LeaderID != "a" {
		t.Errorf("status = %+v", s)
	}
}

func TestForm_SameCommandLinesAgainAreHarmless(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	id := c.leader().running().ClusterID()
	c.ingest(testBatch(t, 1, 1, "n", 3))
	for _, m := range c.members {
		m.stop()
	}
	c.startAll()
	for _, m := range c.members {
		if got := m.running().ClusterID(); got != id {
			t.Errorf("member %s is in cluster %s after a restart, want %s", m.id, got, id)
		}
	}
	if n := len(c.leader().running().Members()); n != 3 {
		t.Errorf("%d members after a restart, want 3", n)
	}
	c.equal(map[string]uint64{"n": 3})
}

// The first entry that a founder commits must not depend on it living on.
func TestForm_FounderCrashesAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	for _, m := range c.members {
		m.start()
	}
	a := c.members[0]
	eventually(t, 10*time.Second, func() string {
		if n := a.running(); n.raft.LastIndex() == 0 {
			return "a did not found the cluster"
		}
		return ""
	})
	a.kill()
	c.startAll()
	c.ingest(testBatch(t, 1, 1, "n", 3))
	c.equal(map[string]uint64{"n": 3})
}

func TestForm_SecondBootstrapIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	if err := c.members[0].running().found(context.Background()); !errors.Is(err, ErrAlreadyFormed) {
		t.Errorf("founding again = %v, want ErrAlreadyFormed", err)
	}
}

// An empty directory that meets a cluster may only join it, even where its
// command line could form another one.
func TestForm_EmptyMemberOnlyJoins(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	id := c.leader().running().ClusterID()
	c.ingest(testBatch(t, 1, 1, "n", 3))
	d := c.add("0")
	d.start(func(o *Options) { o.BootstrapExpect, o.Join = 2, []string{o.Address, c.members[0].addr} })
	c.ready()
	if got := d.running().ClusterID(); got != id {
		t.Errorf("the new member is in cluster %s, want %s", got, id)
	}
	c.equal(map[string]uint64{"n": 3})
}

func TestJoin_Refusals(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	n := c.members[0].running()
	const fresh = "ffffffffffffffffffffffffffffffff"
	good := Join{ID: "z", UUID: fresh, Address: "127.0.0.1:1"}
	f := func(want string, change func(*Join)) {
		t.Helper()
		j := good
		change(&j)
		if _, err := n.HandleJoin(context.Background(), j); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("HandleJoin(%+v) = %v, want %q", j, err, want)
		}
	}
	f("this cluster is \""+n.ClusterID()+"\"", func(j *Join) { j.ClusterID = "other" })
	f("registered with another data directory", func(j *Join) { j.ID = "a" })
	f("belongs to member \"a\"", func(j *Join) { j.Address = n.Address() })
	f("precision 5, this cluster has 7", func(j *Join) { j.Precision = 5 })
	f("id: ", func(j *Join) { j.ID = "no@t" })
	f("uuid: ", func(j *Join) { j.UUID = "00" })
	f("address: ", func(j *Join) { j.Address = "" })
	var foreign *ClusterIDError
	good.ClusterID = "other"
	if _, err := n.HandleJoin(context.Background(), good); !errors.As(err, &foreign) || foreign.Theirs != "other" {
		t.Errorf("foreign cluster id = %v, want a ClusterIDError", err)
	}
	if got := len(n.Members()); got != 1 {
		t.Errorf("%d members after refusals, want 1", got)
	}
}

// A member that lost its directory may not come back under its old id: it
// would vote with an empty log. It is removed, then it joins as a new one.
func TestJoin_WipedMemberIsRefusedUntilRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	c.ingest(testBatch(t, 1, 1, "n", 3))
	wiped := c.followers()[0]
	wiped.kill()
	if err := os.RemoveAll(wiped.dir); err != nil {
		t.Fatal(err)
	}
	wiped.start()
	eventually(t, 10*time.Second, func() string {
		if w := wiped.running().Status().WaitingFor; !strings.Contains(w, "another data directory") {
			return "the wiped member waits for " + w
		}
		return ""
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.leader().running().Remove(ctx, wiped.id); err != nil {
		t.Fatalf("Remove(%s) = %v", wiped.id, err)
	}
	c.ready()
	c.equal(map[string]uint64{"n": 3})
	if n := len(c.leader().running().Members()); n != 3 {
		t.Errorf("%d members, want 3", n)
	}
}

func TestJoin_OtherClusterIsRefused(t *testing.T) {
	t.Parallel()
	one, two := newCluster(t, 1, nil), newCluster(t, 1, nil)
	one.startAll()
	two.startAll()
	// A directory that promised one cluster meets another at the same address.
	stray := one.add("s")
	dir := stray.dir
	if err := (Identity{ID: "s", UUID: uuidA, ClusterID: two.members[0].running().ClusterID()}).save(dir); err != nil {
		t.Fatal(err)
	}
	stray.start(func(o *Options) { o.BootstrapExpect, o.Join = 0, []string{one.members[0].addr} })
	eventually(t, 5*time.Second, func() string {
		if w := stray.running().Status().WaitingFor; !strings.Contains(w, "one cluster") {
			return "the stray member waits for " + w
		}
		return ""
	})
	// And its raft stream is refused before a byte of it is decoded.
	target := one.members[0].running()
	dialed := newStreamLayer("127.0.0.1:1", fixedNames{"other", serverID("s", uuidA), map[string]string{target.Address(): string(target.server)}}, nil)
	defer dialed.Close()
	var refused *RefusedError
	if _, err := dialed.Dial(raft.ServerAddress(target.Address()), time.Second); !errors.As(err, &refused) || refused.Status != 409 {
		t.Errorf("a raft stream of another cluster = %v, want a refusal", err)
	}
}

func TestOpen_RefusesBadOptions(t *testing.T) {
	t.Parallel()
	f := func(want string, change func(*Options)) {
		t.Helper()
		o := Options{Dir: t.TempDir(), Address: "127.0.0.1:1", Peers: memPeers{}}
		change(&o)
		if n, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%+v) = %v, %v, want an error with %q", o, n, err, want)
		}
	}
	f("dir", func(o *Options) { o.Dir = "" })
	f("address", func(o *Options) { o.Address = "here" })
	f("id", func(o *Options) { o.ID = "a@b" })
	f("precision", func(o *Options) { o.Precision = 9 })
	f("bootstrap-expect 3, but join lists 2", func(o *Options) { o.BootstrapExpect, o.Join = 3, []string{"a:1", "b:1", "a:1"} })
	f("no way to reach peers", func(o *Options) { o.Join, o.Peers = []string{"a:1"}, nil })
}

func TestOpen_TwiceOnOneDirectory(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	if n, err := Open(c.members[0].options()); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("second Open = %v, %v, want ErrLocked", n, err)
	}
}
