// Package raftfsm is one member of the cluster: a replicated log (hashicorp/raft
// on raft-boltdb), the state machine that storage keeps, and what holds members
// together.
//
// It promises:
//
//   - A batch that Ingest acknowledged is on the disks of a quorum and is
//     counted once, over leader changes, crashes and snapshot installs. A batch
//     whose outcome is unknown (ErrIndeterminate) may be sent again under its
//     producer and sequence.
//   - A linearizable read sees every write acknowledged before it began, on any
//     member, or fails with ErrNoLeader inside its deadline.
//   - Members at one applied index hold the same content: nothing but the log
//     reaches the state machine, not the clock either.
//   - What cannot be read or written stops the process (Options.OnFatal); it is
//     never skipped.
//   - Shutdown and Kill end every goroutine and connection that Open started.
//
// It leaves to others: what a batch may contain and how old it may be (the
// server checks that on the leader before Ingest), how rows are stored and
// merged (storage), and how members reach each other outside Raft (Peers).
//
// DESIGN.md draws the log entry and the protocols and lists the crash cases.
package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
)

// Node is one member. Its methods are safe for concurrent use.
type Node struct {
	o   Options
	dir string // of the Raft group
	log *slog.Logger

	db     *storage.DB
	logs   *logStore
	snaps  *snapshotStore
	fsm    *fsm
	trans  raft.Transport
	stream *streamLayer // nil under Options.Transport
	raft   *raft.Raft
	clock  *quorumClock
	prop   *proposer
	rounds readRounds
	beats  heartbeatGate
	asking inquiries

	identMu sync.Mutex // guards ident.ClusterID; the rest of it never changes
	ident   Identity
	server  raft.ServerID // of ident

	members memberTable
	forming atomic.Pointer[string] // what the member waits for, for people
	removed atomic.Bool
	founder atomic.Bool // this process founded the cluster
	up      atomic.Bool // raft is set; stream handlers run before

	appliedTerm uint64 // the state machine's goroutine only
	initialised bool   // the same
	clockTerm   uint64 // the proposer's goroutine only

	ticks     chan struct{} // asks the proposer for a Tick
	changed   broadcast     // leadership, configuration or term of the state moved
	ready     chan struct{}
	readyOnce sync.Once

	ctx     context.Context // ends the background loops
	cancel  context.CancelFunc
	loops   sync.WaitGroup
	calls   tracker // goroutines that wait for Raft
	closing atomic.Bool
	killed  atomic.Bool
	stopped sync.Once
	stopErr error
	fatal   sync.Once
}

// Open starts the member that lives in o.Dir, or a new one. It returns once the
// files are open and Raft runs; forming or joining a cluster goes on behind it
// (see Ready). On an error nothing is left open.
func Open(o Options) (*Node, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	n := &Node{
		o: o, dir: filepath.Join(o.Dir, "group-0"),
		ready: make(chan struct{}), ticks: make(chan struct{}, 1), clock: newQuorumClock(o.Now),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.open(); err != nil {
		n.cancel()
		return nil, errors.Join(err, n.closeFiles())
	}
	n.start()
	return n, nil
}

// open opens the files in the order that keeps a second process out: the state
// file's lock first.
func (n *Node) open() error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return fmt.Errorf("raftfsm: %w", err)
	}
	so := n.o.Storage
	so.OnFatal = n.stopProcess
	if so.Logger == nil {
		so.Logger = n.o.Logger
	}
	if so.Stagger == 0 && so.FlushEvery >= 0 {
		// Members that flush at once take the disk and the cores from each other.
		every := so.FlushEvery
		setDefault(&every, 5*time.Second)
		so.Stagger = time.Duration(crc32.ChecksumIEEE([]byte(n.o.Address))) % every
	}
	var err error
	if n.db, err = storage.Open(filepath.Join(n.dir, "state.db"), so); err != nil {
		return fmt.Errorf("raftfsm: %w", err)
	}
	if n.o.opened != nil {
		n.o.opened(n.db)
	}
	if n.ident, err = loadIdentity(n.o.Dir, n.o.ID); err != nil {
		return err
	}
	n.ident.Address = n.o.Address
	n.server = n.ident.ServerID()
	n.log = n.o.Logger.With("member", n.ident.ID)
	if n.logs, err = openLog(n.dir, n.stopProcess); err != nil {
		return err
	}
	// Log and state file are new names in it, the first time.
	if err := errors.Join(syncDir(n.dir), syncDir(n.o.Dir)); err != nil {
		return err
	}
	n.logs.writing = n.o.writing
	if state, ok := n.db.FlushedState(); ok && state.Index > 0 {
		if err := n.logs.installed(state.Index, state.Term); err != nil {
			return fmt.Errorf("raftfsm: %w", err)
		}
	}
	if n.snaps, err = newSnapshotStore(n.dir, n.db); err != nil {
		return err
	}
	n.fsm = &fsm{db: n.db, logs: n.logs, fatal: n.stopProcess, moved: n.applied}
	n.snaps.raise, n.snaps.move = n.fsm.raise, n.askTick
	return n.openRaft()
}

func (n *Node) openRaft() error {
	trans, err := n.newTransport()
	if err != nil {
		return err
	}
	preVote, ok := trans.(raft.WithPreVote)
	if !ok {
		return errors.Join(fmt.Errorf("raftfsm: transport: a %T knows no pre-vote", trans), closeTransport(trans))
	}
	n.trans = silentTransport{trans, preVote, n.logs.stalled}
	machine := raft.FSM(n.fsm)
	if n.o.machine != nil {
		machine = n.o.machine(machine)
	}
	n.raft, err = raft.NewRaft(n.raftConfig(), machine, n.logs, n.logs, n.snaps, n.trans)
	if err != nil {
		return errors.Join(fmt.Errorf("raftfsm: start raft: %w", err), closeTransport(n.trans))
	}
	n.up.Store(true)
	return nil
}

func (n *Node) newTransport() (raft.Transport, error) {
	if n.o.Transport != nil {
		trans, err := n.o.Transport(n.Identity())
		if err != nil {
			return nil, fmt.Errorf("raftfsm: transport: %w", err)
		}
		return trans, nil
	}
	n.stream = newStreamLayer(n.o.Address, (*streamNames)(n), n.o.Dial)
	return gatedTransport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: n.stream, MaxPool: 5, Timeout: 5 * time.Second,
		Logger: newHclog(n.log, "raft-net"), MsgpackUseNewTimeFormat: true,
	}), &n.beats}, nil
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = n.server
	c.Logger = newHclog(n.log, "raft")
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) * n.o.TimeoutScale) }
	c.HeartbeatTimeout = scale(c.HeartbeatTimeout)
	c.ElectionTimeout = scale(c.ElectionTimeout)
	c.LeaderLeaseTimeout = scale(c.LeaderLeaseTimeout)
	c.BatchApplyCh = true
	// The state file is opened where it ended; Raft only learns its index.
	c.NoSnapshotRestoreOnStart = true
	// Snapshots are triggered by size, in truncate.go, which also sets how much
	// of the log stays. Raft's own trigger counts entries only.
	c.SnapshotThreshold = 1 << 62
	c.SnapshotInterval = time.Hour
	c.TrailingLogs = n.o.TrailingLogs
	// A removed leader becomes a follower without a vote. The process stays up
	// and says so, instead of answering nothing.
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	return c
}

// start begins the background loops.
func (n *Node) start() {
	n.prop = newProposer(n.raft, n.log, n.entryClock, n.initialCluster)
	n.prop.ticks = n.ticks
	n.loops.Go(func() { n.prop.run(n.ctx) })
	n.loops.Go(n.watch)
	n.loops.Go(n.lead)
	n.loops.Go(n.form)
	n.loops.Go(n.truncate)
	n.loops.Go(n.watchRemoval)
}

// UpgradeHandler serves GET /raft, where other members open Raft streams. It
// needs HTTP/1.1 and no authentication but its own. Under Options.Transport it
// answers 404.
func (n *Node) UpgradeHandler() http.Handler {
	if n.stream == nil {
		return http.NotFoundHandler()
	}
	return n.stream
}

// Ready is closed once the member is a voter of a cluster that has a leader and
// is initialised.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// WaitReady waits for Ready. Its error says what was missing.
func (n *Node) WaitReady(ctx context.Context) error {
	select {
	case <-n.ready:
		return nil
	case <-n.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %s: %w", ErrNoLeader, n.waitingFor(), ctx.Err())
	}
}

// Ingest commits batches and returns one outcome per batch, in order. Batches
// of concurrent calls share log entries. Only the leader accepts; others return
// a NotLeaderError. See ErrIndeterminate for what an error may leave behind.
//
// Sketches must have been validated: they are not decoded here.
func (n *Node) Ingest(ctx context.Context, batches []storage.Batch) ([]storage.Outcome, error) {
	switch {
	case n.closing.Load():
		return nil, ErrClosed
	case !n.leads() || !n.isInitialised():
		return nil, n.notLeader()
	case len(batches) == 0:
		return nil, nil
	case n.members.diskFull():
		return nil, ErrDiskFull
	case n.members.clockSkewed():
		return nil, ErrClockSkew
	case n.db.Overloaded():
		return nil, ErrOverloaded
	}
	return n.prop.submit(ctx, n.ctx.Done(), batches)
}

func (n *Node) isInitialised() bool {
	_, ok := n.db.Cluster()
	return ok
}

// Store is the state, for tests and for verification.
func (n *Node) Store() *storage.DB { return n.db }

// Now is the wall clock of this member.
func (n *Node) Now() time.Time { return n.o.Now() }

// ClockMs is the log clock of the local state, unix milliseconds.
func (n *Node) ClockMs() int64 { return n.db.ClockMs() }
