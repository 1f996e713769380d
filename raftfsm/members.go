package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/window"
)

// memberTable is what the leader heard from the others.
type memberTable struct {
	mu     sync.Mutex // guards the three below
	heard  map[raft.ServerID]memberHeard
	full   bool // a voter is short of disk
	skewed bool // the clock of this leader is off
}

type memberHeard struct {
	Heartbeat
	at time.Time // by time.Now; zero after a question without an answer
}

func (t *memberTable) set(id raft.ServerID, h memberHeard) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heard == nil {
		t.heard = make(map[raft.ServerID]memberHeard)
	}
	t.heard[id] = h
}

func (t *memberTable) get(id raft.ServerID) (memberHeard, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, ok := t.heard[id]
	return h, ok && time.Since(h.at) < sampleAge
}

func (t *memberTable) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard, t.full, t.skewed = nil, false, false
}

func (t *memberTable) diskFull() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.full
}

func (t *memberTable) setFull(full bool) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = t.full != full
	t.full = full
	return changed
}

// servers is the latest configuration, committed or not.
func (n *Node) servers() []raft.Server {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil // cannot happen: the future is already answered
	}
	return f.Configuration().Servers
}

func (n *Node) otherVoters() int {
	count := 0
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter && s.ID != n.server {
			count++
		}
	}
	return count
}

// isVoter says whether this member has a vote.
func (n *Node) isVoter() bool {
	return slices.ContainsFunc(n.servers(), func(s raft.Server) bool {
		return s.ID == n.server && s.Suffrage == raft.Voter
	})
}

// empty says that the directory holds no cluster and promised none.
func (n *Node) empty() bool {
	return n.raft.LastIndex() == 0 && n.ClusterID() == ""
}

// HandleHello answers another member's Hello.
func (n *Node) HandleHello(Hello) Hello { return n.hello() }

// hello is what this member says of itself.
func (n *Node) hello() Hello {
	addr, _ := n.raft.LeaderWithID()
	return Hello{
		ID: n.ident.ID, UUID: n.ident.UUID, Address: n.o.Address,
		ClusterID: n.ClusterID(), Empty: n.empty(), LeaderAddress: string(addr),
		JoinList: n.o.Join, BootstrapExpect: n.o.BootstrapExpect, Precision: n.o.Precision,
	}
}

// HandleHeartbeat answers the leader.
func (n *Node) HandleHeartbeat() Heartbeat {
	applied, _ := n.db.Applied()
	return Heartbeat{
		ID: n.ident.ID, WallMs: n.o.Now().UnixMilli(), FreeDiskBytes: freeDisk(n.dir),
		AppliedIndex: applied, Version: n.o.Version,
	}
}

// HandleJoin makes a member of the sender: without a vote first, with one when
// it has caught up (see promote). Asking again is harmless, and is how a member
// tells that its address changed. Only the leader answers.
func (n *Node) HandleJoin(ctx context.Context, j Join) (JoinReply, error) {
	cluster, ok := n.db.Cluster()
	switch {
	case n.closing.Load():
		return JoinReply{}, ErrClosed
	case n.raft.State() != raft.Leader:
		return JoinReply{}, n.notLeader()
	case !ok:
		return JoinReply{}, fmt.Errorf("%w: the cluster is not initialised yet", ErrNoLeader)
	case j.ClusterID != "" && j.ClusterID != cluster.ID:
		return JoinReply{}, &ClusterIDError{Ours: cluster.ID, Theirs: j.ClusterID}
	case j.Precision != 0 && j.Precision != cluster.Precision:
		return JoinReply{}, &PrecisionError{Ours: cluster.Precision, Theirs: j.Precision}
	case !validID(j.ID):
		return JoinReply{}, &window.InputError{Field: "id", Reason: "bad_id", Message: "want 1 to 64 of A-Z a-z 0-9 . _ -"}
	case !validUUID(j.UUID):
		return JoinReply{}, &window.InputError{Field: "uuid", Reason: "bad_uuid", Message: "want 32 hex digits"}
	case j.Address == "" || len(j.Address) > 256 || strings.ContainsAny(j.Address, " \r\n/"):
		return JoinReply{}, &window.InputError{Field: "address", Reason: "bad_address", Message: "want host:port"}
	}
	// The founder writes its cluster's id down before there is a second member:
	// it may restart with the entry that names the cluster in its log only, and
	// must know which streams to accept to learn that the entry is committed.
	if err := n.promise(cluster.ID); err != nil {
		return JoinReply{}, err
	}
	if err := n.admit(ctx, j); err != nil {
		return JoinReply{}, err
	}
	return JoinReply{ClusterID: cluster.ID, Precision: cluster.Precision, Members: n.Members()}, nil
}

// admit changes the configuration so that it holds the joining member.
func (n *Node) admit(ctx context.Context, j Join) error {
	server, address := serverID(j.ID, j.UUID), raft.ServerAddress(j.Address)
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return n.memberError(ctx, err)
	}
	add := n.raft.AddNonvoter
	for _, s := range future.Configuration().Servers {
		id, uuid := splitServerID(s.ID)
		switch {
		case s.ID == server && s.Address == address:
			return nil // it is a member
		case s.ID == server && s.Suffrage == raft.Voter:
			add = n.raft.AddVoter // raft moves the address and keeps the vote
		case s.ID == server:
		case id == j.ID:
			return &MemberConflictError{ID: id, UUID: uuid, Address: string(s.Address), Field: "id"}
		case s.Address == address:
			return &MemberConflictError{ID: id, UUID: uuid, Address: string(s.Address), Field: "address"}
		}
	}
	n.log.Info("member joins", "id", j.ID, "address", j.Address)
	return n.change(ctx, func() raft.Future { return add(server, address, 0, peerTimeout) })
}

// change commits one change of membership.
func (n *Node) change(ctx context.Context, start func() raft.Future) error {
	err := n.await(ctx, start)
	n.changed.fire()
	return n.memberError(ctx, err)
}

func (n *Node) memberError(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrClosed):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return n.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrEnqueueTimeout), ctx.Err() != nil:
		return fmt.Errorf("%w: change of membership: %w", ErrNoLeader, err)
	default:
		return fmt.Errorf("raftfsm: change of membership: %w", err)
	}
}

// Remove takes a member out of the cluster. It is refused where too few of the
// remaining voters can be reached to go on. Only the leader can; a leader that
// removes itself leads until the change is committed.
func (n *Node) Remove(ctx context.Context, id string) error {
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	var target raft.ServerID
	voters, reachable := 0, 0
	servers := n.servers()
	answered := n.askMembers(servers)
	for _, s := range servers {
		if sid, _ := splitServerID(s.ID); sid == id {
			target = s.ID
			continue
		}
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if _, ok := answered[s.ID]; ok || s.ID == n.server {
			reachable++
		}
	}
	switch {
	case target == "":
		return fmt.Errorf("%w: %q", ErrUnknownMember, id)
	case reachable < voters/2+1 || voters == 0:
		return fmt.Errorf("%w: %d of the %d remaining voters answer", ErrQuorum, reachable, voters)
	}
	n.log.Info("member is removed", "id", id)
	return n.change(ctx, func() raft.Future { return n.raft.RemoveServer(target, 0, peerTimeout) })
}

// Transfer hands leadership to a voter, or if id is empty to the one that is
// most up to date among those that answer. Only the leader can. When it returns
// without an error, this member knows the next leader.
func (n *Node) Transfer(ctx context.Context, id string) error {
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	target, err := n.transferTarget(id)
	if err != nil || target.ID == n.server {
		return err
	}
	err = n.await(ctx, func() raft.Future {
		return n.raft.LeadershipTransferToServer(target.ID, target.Address)
	})
	if err != nil {
		return n.memberError(ctx, err)
	}
	return n.waitNextLeader(ctx)
}

// waitNextLeader waits until this member hears from a leader that is another.
// Raft reports a transfer as done when it has stepped down, which an answer of a
// third member may make it do before the next leader has reached it; whoever
// closes the listener then never learns whom to send requests to.
func (n *Node) waitNextLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readDeadline)
	defer cancel()
	for {
		changed := n.changed.wait()
		if _, leader := n.raft.LeaderWithID(); leader != "" && leader != n.server {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w after a transfer: %w", ErrNoLeader, ctx.Err())
		case <-n.ctx.Done():
			return ErrClosed
		}
	}
}

// transferTarget asks before it picks: Raft itself may pick a member that is
// down, and then waits for it until the transfer has failed.
func (n *Node) transferTarget(id string) (target raft.Server, err error) {
	servers := n.servers()
	var answered map[raft.ServerID]Heartbeat
	if id == "" {
		answered = n.askMembers(servers)
	}
	var best uint64
	for _, s := range servers {
		sid, _ := splitServerID(s.ID)
		h, ok := answered[s.ID]
		switch {
		case s.Suffrage != raft.Voter:
		case id != "" && sid == id:
			return s, nil
		case ok && h.AppliedIndex >= best:
			target, best = s, h.AppliedIndex
		}
	}
	switch {
	case id != "":
		return target, fmt.Errorf("%w: %q, or it has no vote", ErrUnknownMember, id)
	case target.ID == "":
		return target, fmt.Errorf("%w: no other voter answers", ErrQuorum)
	}
	return target, nil
}

// Members are the members of the configuration, sorted by id.
func (n *Node) Members() []Member {
	_, leader := n.raft.LeaderWithID()
	clock := n.db.ClockMs()
	var list []Member
	for _, s := range n.servers() {
		id, uuid := splitServerID(s.ID)
		m := Member{ID: id, UUID: uuid, Address: string(s.Address), Voter: s.Suffrage == raft.Voter, Leader: s.ID == leader}
		h, ok := n.members.get(s.ID)
		wall := h.WallMs + time.Since(h.at).Milliseconds()
		if s.ID == n.server {
			h.Heartbeat, ok = n.HandleHeartbeat(), true
			wall = h.WallMs
		}
		if ok {
			m.AppliedIndex, m.Reachable, m.FreeDiskBytes, m.Version = h.AppliedIndex, true, h.FreeDiskBytes, h.Version
			m.ClockSkewMs = wall - clock
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return list
}
