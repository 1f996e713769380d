package raftfsm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// formEvery is the time between two attempts to form or join.
const formEvery = 200 * time.Millisecond

// form runs until this member belongs to a cluster under its own address.
//
// A directory without a log forms a cluster of one if it was given nobody to
// join. Otherwise it says hello to everybody in the list. If anybody belongs to
// a cluster, it may only join that. If all of them (as many as
// BootstrapExpect) are as empty as this one and were started with the same
// list and precision, the one whose id sorts first founds the cluster alone;
// the others then find it, and join.
//
// A directory with a log only makes sure that its address is known. So starting
// the same command lines again changes nothing.
func (n *Node) form() {
	var said string
	for {
		waiting := n.formStep()
		if waiting == "" {
			n.forming.Store(nil)
			n.changed.fire()
			return
		}
		n.forming.Store(&waiting)
		if waiting != said {
			said = waiting
			n.log.Info("waiting to become a member", "for", waiting)
		}
		timer := time.NewTimer(formEvery)
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// formStep returns what it waits for, or nothing when there is no more to do.
func (n *Node) formStep() string {
	if n.raft.LastIndex() == 0 {
		return n.formEmpty()
	}
	for _, s := range n.servers() {
		if s.ID != n.server {
			continue
		}
		if string(s.Address) == n.o.Address || n.otherVoters() == 0 {
			return "" // a leader alone moves its address itself
		}
		return n.joinThrough(n.helloAll(append(n.o.Join, n.otherAddresses()...)))
	}
	if applied, _ := n.db.Applied(); applied == n.raft.CommitIndex() && applied > 0 && !n.hasLeader() {
		// A log that ends without this member: it was removed, or it still
		// catches up with the entry that adds it. Only the first lasts.
		n.removed.Store(true)
		return "this member is not part of the cluster any more: it was removed"
	}
	return "the log entry that makes this a member"
}

// formEmpty is a step of a directory without a log.
func (n *Node) formEmpty() string {
	promised := n.Identity().ClusterID
	if len(n.o.Join) == 0 {
		if promised != "" {
			return fmt.Sprintf("somebody to join: this directory promised to join cluster %s", promised)
		}
		return n.bootstrap()
	}
	replies := n.helloAll(n.o.Join)
	for _, r := range replies {
		if r.ClusterID != "" && !r.Empty {
			return n.joinThrough(replies)
		}
	}
	if n.o.BootstrapExpect <= 1 || promised != "" {
		return "a member of a cluster among " + strings.Join(n.o.Join, ", ")
	}
	if missing := n.canFound(replies); missing != "" {
		return missing
	}
	return n.bootstrap()
}

func (n *Node) otherAddresses() []string {
	var list []string
	for _, s := range n.servers() {
		if s.ID != n.server {
			list = append(list, string(s.Address))
		}
	}
	return list
}

// helloAll asks everybody at once and returns who answered, by address.
func (n *Node) helloAll(addrs []string) []Hello {
	ctx, cancel := context.WithTimeout(n.ctx, peerTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards replies
	var replies []Hello
	me := n.hello()
	for _, addr := range joinList(addrs) {
		if addr == n.o.Address {
			continue
		}
		wg.Go(func() {
			r, err := n.o.Peers.Hello(ctx, addr, me)
			if err != nil {
				n.log.Debug("no hello", "address", addr, "error", err)
				return // it is asked again
			}
			if r.UUID == n.ident.UUID {
				return // this member, under another name
			}
			mu.Lock()
			defer mu.Unlock()
			replies = append(replies, r)
		})
	}
	wg.Wait()
	slices.SortFunc(replies, func(a, b Hello) int { return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.UUID, b.UUID)) })
	return replies
}

// canFound says what is missing before this member may found the cluster.
func (n *Node) canFound(replies []Hello) string {
	if !slices.Contains(n.o.Join, n.o.Address) {
		return fmt.Sprintf("a cluster to join: the address %s of this member is not in its own join list, so it does not form one", n.o.Address)
	}
	ours := sortedCopy(n.o.Join)
	answered := map[string]bool{n.o.Address: true}
	for _, r := range replies {
		switch {
		case !r.Empty:
			return fmt.Sprintf("member %q at %s, which is forming a cluster", r.ID, r.Address)
		case r.ID == n.ident.ID:
			return fmt.Sprintf("another id: the member at %s is called %q too", r.Address, r.ID)
		case r.Precision != n.o.Precision:
			return fmt.Sprintf("the same precision everywhere: %d at %s, %d here", r.Precision, r.Address, n.o.Precision)
		case r.BootstrapExpect != n.o.BootstrapExpect || !slices.Equal(sortedCopy(r.JoinList), ours):
			return fmt.Sprintf("the same join list and bootstrap-expect everywhere: the member at %s has %d of %s", r.Address, r.BootstrapExpect, strings.Join(r.JoinList, ","))
		}
		answered[r.Address] = true
	}
	var silent []string
	for _, addr := range ours {
		if !answered[addr] {
			silent = append(silent, addr)
		}
	}
	if len(silent) > 0 {
		return "an answer from " + strings.Join(silent, ", ")
	}
	for _, r := range replies {
		if r.ID < n.ident.ID {
			return fmt.Sprintf("member %q to found the cluster", r.ID)
		}
	}
	return ""
}

func sortedCopy(list []string) []string {
	c := slices.Clone(list)
	slices.Sort(c)
	return c
}

// bootstrap founds a cluster with this member alone in it.
func (n *Node) bootstrap() string {
	if err := n.found(n.ctx); err != nil {
		return "the cluster to be founded: " + err.Error()
	}
	return "the first entry of the log"
}

// found writes the first configuration. A directory that holds a log, or has
// promised to join a cluster, is refused with ErrAlreadyFormed.
func (n *Node) found(ctx context.Context) error {
	if n.Identity().ClusterID != "" {
		return fmt.Errorf("%w: it promised to join %s", ErrAlreadyFormed, n.ClusterID())
	}
	n.log.Info("founding a cluster", "members_expected", max(1, n.o.BootstrapExpect))
	err := n.await(ctx, func() raft.Future {
		return n.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter, ID: n.server, Address: raft.ServerAddress(n.o.Address),
		}}})
	})
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrAlreadyFormed
	}
	if err == nil {
		n.founder.Store(true)
	}
	return err
}

// joinThrough asks the leader that the replies name to make this a member.
//
// The cluster id is learned here, from a member's hello, and written down
// before the leader is asked: from then on Raft streams of that cluster, and
// of no other, are accepted, and this directory never joins another cluster.
func (n *Node) joinThrough(replies []Hello) string {
	ours := n.ClusterID()
	leader := ""
	for _, r := range replies {
		if r.Empty || r.ClusterID == "" {
			continue
		}
		if ours == "" {
			ours = r.ClusterID
		}
		if r.ClusterID != ours {
			return fmt.Sprintf("one cluster: the member at %s belongs to %s, others or this directory to %s", r.Address, r.ClusterID, ours)
		}
		leader = cmp.Or(leader, r.LeaderAddress)
	}
	if leader == "" {
		return "a leader"
	}
	if err := n.promise(ours); err != nil {
		n.stopProcess(err)
		return "a disk that can be written: " + err.Error()
	}
	ctx, cancel := context.WithTimeout(n.ctx, readDeadline)
	defer cancel()
	reply, err := n.o.Peers.Join(ctx, leader, Join{
		ID: n.ident.ID, UUID: n.ident.UUID, Address: n.o.Address, ClusterID: ours, Precision: n.joinPrecision(),
	})
	if err != nil {
		return fmt.Sprintf("the leader at %s to accept this member: %v", leader, err)
	}
	if reply.ClusterID != ours {
		return fmt.Sprintf("the cluster %s: the leader at %s answers for %s", ours, leader, reply.ClusterID)
	}
	return "the log of the cluster"
}

// joinPrecision is 0, any, for a member that did not ask for one: what it was
// started with counts only where it forms a cluster.
func (n *Node) joinPrecision() int {
	if n.o.anyPrecision {
		return 0
	}
	return n.o.Precision
}

// promise writes down the cluster that this directory joins.
func (n *Node) promise(cluster string) error {
	n.identMu.Lock()
	defer n.identMu.Unlock()
	if n.ident.ClusterID == cluster {
		return nil
	}
	ident := n.ident
	ident.ClusterID = cluster
	if err := ident.save(n.o.Dir); err != nil {
		return err
	}
	n.ident.ClusterID = cluster
	return nil
}

// waitingFor says in words what keeps the member from being ready.
func (n *Node) waitingFor() string {
	if w := n.forming.Load(); w != nil {
		return "waiting for " + *w
	}
	switch {
	case !n.hasLeader():
		return "waiting for a leader"
	case !n.isInitialised():
		return "waiting for the first entries of the log"
	case !n.isVoter():
		return "catching up before it gets a vote"
	default:
		return "waiting for the other founding members"
	}
}

// checkReady closes Ready when there is nothing to wait for.
func (n *Node) checkReady() {
	if !n.hasLeader() || !n.isInitialised() || !n.isVoter() {
		return
	}
	if n.founder.Load() && n.otherVoters()+1 < n.o.BootstrapExpect {
		return
	}
	n.readyOnce.Do(func() { close(n.ready) })
}
