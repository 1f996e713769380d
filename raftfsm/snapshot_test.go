package raftfsm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func snapshot(t testing.TB, m *testMember) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := m.running().Snapshot(ctx); err != nil {
		t.Fatalf("snapshot of %s: %v", m.id, err)
	}
}

func oneTrailing(o *Options) { o.TrailingLogs = 1 }

// The sequence on which a state file that stores the state machine's index,
// and not the one that Raft cuts the log at, panics in NewRaft.
func TestSnapshot_IdleElectionsThenRestartThenInstall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newInmemCluster(t, 3, oneTrailing)
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 4))
		for range 3 {
			dead := c.leader()
			dead.kill()
			c.leader()
			dead.start()
			c.ready()
		}
		for _, m := range c.members {
			snapshot(t, m)
			if n, _ := m.running().logs.size(); n > 3 {
				t.Errorf("member %s keeps %d log entries, want about one", m.id, n)
			}
		}
		for _, m := range c.members {
			m.kill()
		}
		c.startAll()
		c.equal(map[string]uint64{"n": 4})

		empty := c.add("z")
		empty.start(func(o *Options) { o.BootstrapExpect = 0 })
		c.ready()
		c.equal(map[string]uint64{"n": 4})
		if state, ok := empty.running().Store().FlushedState(); !ok || state.Index == 0 {
			t.Errorf("the new member was not given a snapshot: %+v", state)
		}
		empty.kill()
		c.startAll()
		c.ingest(testBatch(t, 1, 2, "n", 4))
		c.equal(map[string]uint64{"n": 8})
	})
}

// Barriers are entries that the state machine never sees; Raft's snapshot is
// taken behind them and the log is cut there.
func TestSnapshot_BehindBarriers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, oneTrailing)
	c.startAll()
	m := c.members[0]
	c.ingest(testBatch(t, 1, 1, "n", 4))
	for range 3 {
		if err := m.running().raft.Barrier(0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	index := m.running().raft.LastIndex()
	snapshot(t, m)
	if state, _ := m.running().Store().FlushedState(); state.Index < index {
		t.Errorf("the state file is at %d, raft cut the log at %d", state.Index, index)
	}
	first, err := m.running().logs.FirstIndex()
	if err != nil || first < index {
		t.Errorf("the log begins at %d, %v, want %d", first, err, index)
	}
	m.kill()
	c.startAll()
	c.ingest(testBatch(t, 1, 2, "n", 1))
	c.equal(map[string]uint64{"n": 5})
}

// Acknowledged data must survive a snapshot that is followed by a crash at
// once, when the log is gone.
func TestSnapshot_ThenCrash(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, oneTrailing)
	c.startAll()
	m := c.members[0]
	for seq := uint64(1); seq <= 20; seq++ {
		c.ingest(testBatch(t, 1, seq, "n", 2))
		if seq%5 == 0 {
			snapshot(t, m)
			m.kill()
			c.startAll()
			c.equal(map[string]uint64{"n": 2 * seq})
		}
	}
}

func TestSnapshot_InstallOnMemberThatWasAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, oneTrailing)
	c.startAll()
	away := c.followers()[0]
	c.ingest(testBatch(t, 1, 1, "n", 1))
	away.kill()
	for seq := uint64(2); seq <= 40; seq++ {
		c.ingest(testBatch(t, 1, seq, "n", 1))
	}
	snapshot(t, c.leader())
	away.start()
	for seq := uint64(41); seq <= 60; seq++ { // writes go on
		c.ingest(testBatch(t, 1, seq, "n", 1))
	}
	c.ready()
	c.equal(map[string]uint64{"n": 60})
	if names, _ := filepath.Glob(filepath.Join(away.dir, "group-0", installPrefix+"*")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// A member whose log ends in entries that were never committed is given a
// snapshot once, and goes on.
func TestSnapshot_InstallOverUncommittedEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newInmemCluster(t, 3, oneTrailing)
		c.startAll()
		c.ingest(testBatch(t, 1, 1, "n", 1))
		old := c.leader()
		c.partition(old)
		// Entries that reach the disk of the old leader only.
		for seq := uint64(100); seq < 110; seq++ {
			old.running().raft.Apply(encodeAll(t, 1, nil), 0)
		}
		eventually(t, 10*time.Second, func() string {
			for _, m := range c.members {
				if m != old && m.running().IsLeader() {
					return ""
				}
			}
			return "the others elect nobody"
		})
		for seq := uint64(2); seq <= 30; seq++ {
			c.ingest(testBatch(t, 1, seq, "n", 1))
		}
		for _, m := range c.members {
			if m != old {
				snapshot(t, m)
			}
		}
		c.heal()
		c.equal(map[string]uint64{"n": 30})
		old.kill()
		c.startAll()
		c.ingest(testBatch(t, 1, 31, "n", 1))
		c.equal(map[string]uint64{"n": 31})
	})
}

func TestSnapshot_DamagedInstallIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	m := c.members[0]
	c.ingest(testBatch(t, 1, 1, "n", 4))
	snapshot(t, m)
	store := m.running().snaps
	list, err := store.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("List = %v, %v", list, err)
	}
	meta, rc, err := store.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if !store.streaming() {
		t.Error("an open stream is not seen")
	}
	data, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != meta.Size {
		t.Errorf("the stream has %d bytes, its meta says %d", len(data), meta.Size)
	}
	install := func(index uint64, data []byte) error {
		sink, err := store.Create(1, index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sink.Write(data); err != nil {
			t.Fatal(err)
		}
		return sink.Close()
	}
	if err := install(meta.Index, data); err != nil {
		t.Errorf("a whole snapshot = %v", err)
	}
	if err := install(meta.Index+1, data); err == nil || !strings.Contains(err.Error(), "holds index") {
		t.Errorf("a snapshot under another index = %v, want a refusal", err)
	}
	if err := install(meta.Index, data[:len(data)/2]); err == nil {
		t.Error("half of a snapshot was accepted")
	}
	// One bit of a stored sketch, which lies in the file as it was sent.
	row := testBatch(t, 1, 1, "n", 4).Deltas[0].Sketch
	at := bytes.Index(data, row)
	if at < 0 {
		t.Fatal("the sketch is not in the snapshot")
	}
	data[at+len(row)/2] ^= 1
	if err := install(meta.Index, data); err == nil {
		t.Error("a snapshot with a damaged sketch was accepted")
	}
	sink, err := store.Create(1, 9, 1, meta.Configuration, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err == nil {
		t.Error("an empty snapshot was accepted")
	}
	c.equal(map[string]uint64{"n": 4})
}

func TestTruncate_BoundsTheLog(t *testing.T) {
	t.Parallel()
	f := func(what string, tune func(*Options), within func(entries uint64, bytes int64) bool) {
		t.Helper()
		c := newCluster(t, 1, func(o *Options) { o.SnapshotInterval = 20 * time.Millisecond; tune(o) })
		c.startAll()
		for seq := uint64(1); seq <= 60; seq++ {
			c.ingest(testBatch(t, 1, seq, "n", 500))
		}
		eventually(t, 10*time.Second, func() string {
			if entries, bytes := c.members[0].running().logs.size(); !within(entries, bytes) {
				return what + ": the log is not cut"
			}
			return ""
		})
		c.members[0].kill()
		c.startAll()
		c.equal(map[string]uint64{"n": 60 * 500})
	}
	f("entries", func(o *Options) { o.SnapshotEntries, o.TrailingLogs = 20, 5 }, func(n uint64, _ int64) bool { return n <= 25 })
	f("bytes", func(o *Options) { o.SnapshotBytes = 8 << 10 }, func(_ uint64, b int64) bool { return b <= 8<<10 })
}

// While a snapshot streams to a member, the log is kept for it.
func TestTruncate_WaitsForAStream(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(o *Options) { o.SnapshotEntries, o.TrailingLogs = 5, 1 })
	c.startAll()
	n := c.members[0].running()
	for seq := uint64(1); seq <= 10; seq++ {
		c.ingest(testBatch(t, 1, seq, "n", 1))
	}
	if !n.tooLong() {
		t.Error("a log over its limit is not too long")
	}
	snapshot(t, c.members[0])
	_, rc, err := n.snaps.Open(liveID)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(11); seq <= 20; seq++ {
		c.ingest(testBatch(t, 1, seq, "n", 1))
	}
	if n.tooLong() {
		t.Error("the log would be cut while a snapshot streams")
	}
	if err := rc.Close(); err != nil {
		t.Fatal(err)
	}
	if n.tooLong() {
		t.Error("the log would be cut right after a snapshot was streamed")
	}
	n.snaps.sent.Store(time.Now().Add(-2 * time.Minute).UnixNano())
	if !n.tooLong() {
		t.Error("the log is held for ever")
	}
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)
