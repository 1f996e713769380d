package raftfsm

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/distributed-median-tracker/dmt/storage"
	"github.com/distributed-median-tracker/dmt/window"
)

// Defaults of Options, and times that are not tuned.
const (
	// DefaultTimeoutScale of raft's default timeouts: heartbeat and election
	// 300 ms, lease 150 ms. Smaller fails over faster and takes a busy machine
	// for a dead one sooner; larger the reverse.
	DefaultTimeoutScale = 0.3

	// DefaultSnapshotEntries and DefaultSnapshotBytes are how much log a member
	// keeps beyond its flushed state before it is truncated. Larger lets a
	// member be away longer without a snapshot install, costs disk, and makes a
	// restart read more.
	DefaultSnapshotEntries = 8192
	DefaultSnapshotBytes   = 64 << 20

	// DefaultTrailingLogs entries stay in the log behind a snapshot, so that a
	// member that is a little behind needs no install. They never hold more
	// than half of SnapshotBytes.
	DefaultTrailingLogs = 500

	// DefaultSnapshotInterval is how often the size of the log is looked at.
	DefaultSnapshotInterval = 5 * time.Second

	defaultPrecision = 7

	tickEvery      = 5 * time.Second        // a Tick when nothing else moved the log clock
	heartbeatEvery = 2 * time.Second        // clocks, disks and lag of the members
	catchUpEvery   = 100 * time.Millisecond // the same while a member catches up
	peerTimeout    = time.Second            // of one question to another member
	readDeadline   = 5 * time.Second        // of a read whose context has none
)

// Options say how a member runs. Dir and Address are required.
type Options struct {
	// Dir is the data directory. The identity is Dir/member.json, the files of
	// the one Raft group live in Dir/group-0.
	Dir string

	// ID names the member, 1 to 64 of A-Z a-z 0-9 . _ -. Empty: the one kept in
	// Dir, or a random one that is then kept there.
	ID string

	// Address is the host:port at which others reach this member, for the API
	// and for Raft.
	Address string

	// Join lists addresses of members, this one's among them where a cluster is
	// to be formed. Empty with an empty Dir: a cluster of one.
	Join []string

	// BootstrapExpect is the number of members that form the cluster together,
	// the length of Join. 0 or 1 with Join: only join.
	BootstrapExpect int

	// Precision and Tiers are fixed when the cluster is formed, and unused
	// afterwards. 0 is 7, nil is window.StandardTiers.
	Precision int
	Tiers     window.Tiers

	// Peers reaches other members. Nil is right for a cluster of one only.
	Peers Peers

	// Transport replaces Raft's transport, for simulation. Nil is HTTP upgrade
	// (see UpgradeHandler). It must know pre-votes (raft.WithPreVote). The node
	// closes it if it has a Close method.
	Transport func(Identity) (raft.Transport, error)

	// Dial replaces the TCP dialer under the upgrade transport. Nil is net.Dialer.
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	// TimeoutScale multiplies raft's default timeouts. 0 is DefaultTimeoutScale.
	TimeoutScale float64

	// Storage tunes the state. Logger and OnFatal are filled in from here.
	Storage storage.Options

	// SnapshotEntries, SnapshotBytes, TrailingLogs and SnapshotInterval bound
	// the log. 0 is the default of each.
	SnapshotEntries  uint64
	SnapshotBytes    int64
	TrailingLogs     uint64
	SnapshotInterval time.Duration

	// MinFreeDisk bytes that every voter must have, or the leader refuses
	// values. 0 is the larger of 1 GiB and three head limits plus the log;
	// negative turns the guard off.
	MinFreeDisk int64

	// Version of the program, told to the leader with every heartbeat.
	Version string

	// Logger receives what an operator should read. Nil discards.
	Logger *slog.Logger

	// Now is the wall clock. Nil is time.Now.
	Now func() time.Time

	// OnFatal is called once, from any goroutine, when the member must stop:
	// a failed write, a log entry that it cannot read, or ErrRemoved. It should
	// end the process and must not wait for the node. Nil panics.
	OnFatal func(error)

	anyPrecision bool              // Precision was 0
	opened       func(*storage.DB) // tests plant faults here, before anything is applied

	machine func(raft.FSM) raft.FSM // tests put themselves between Raft and the state machine
	writing func()                  // tests slow the log's disk down; called before every append
}

// check fills in defaults. Every error names the option.
func (o Options) check() (Options, error) {
	if o.Dir == "" {
		return o, fmt.Errorf("raftfsm: dir: empty")
	}
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return o, fmt.Errorf("raftfsm: address %q: %w", o.Address, err)
	}
	if o.ID != "" && !validID(o.ID) {
		return o, fmt.Errorf("raftfsm: id %q: want 1 to %d of A-Z a-z 0-9 . _ -", o.ID, maxIDLen)
	}
	o.Join = joinList(o.Join)
	if o.BootstrapExpect > 1 && o.BootstrapExpect != len(o.Join) {
		return o, fmt.Errorf("raftfsm: bootstrap-expect %d, but join lists %d different addresses: list every member once, this one too", o.BootstrapExpect, len(o.Join))
	}
	if len(o.Join) > 0 && o.Peers == nil {
		return o, fmt.Errorf("raftfsm: join: no way to reach peers")
	}
	if o.Precision == 0 {
		o.anyPrecision = true
		o.Precision = defaultPrecision
	}
	if o.Precision < 5 || o.Precision > 8 {
		return o, fmt.Errorf("raftfsm: precision %d: want 5 to 8", o.Precision)
	}
	if o.Tiers == nil {
		o.Tiers = window.StandardTiers()
	}
	if err := o.Tiers.Check(); err != nil {
		return o, fmt.Errorf("raftfsm: tiers: %w", err)
	}
	return o.defaults(), nil
}

func (o Options) defaults() Options {
	setDefault(&o.TimeoutScale, DefaultTimeoutScale)
	setDefault(&o.SnapshotEntries, DefaultSnapshotEntries)
	setDefault(&o.SnapshotBytes, DefaultSnapshotBytes)
	setDefault(&o.TrailingLogs, DefaultTrailingLogs)
	setDefault(&o.SnapshotInterval, DefaultSnapshotInterval)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnFatal == nil {
		o.OnFatal = func(err error) { panic("raftfsm: " + err.Error()) }
	}
	if o.MinFreeDisk == 0 {
		head := o.Storage.HeadLimit
		setDefault(&head, 64<<20)
		o.MinFreeDisk = max(1<<30, 3*head+o.SnapshotBytes)
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// joinList drops empty and repeated addresses and keeps the order.
func joinList(addrs []string) []string {
	seen := make(map[string]bool, len(addrs))
	var list []string
	for _, a := range addrs {
		if a = strings.TrimSpace(a); a != "" && !seen[a] {
			seen[a] = true
			list = append(list, a)
		}
	}
	return list
}
