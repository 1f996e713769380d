package raftfsm

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

func testLog(t *testing.T, dir string) *logStore {
	t.Helper()
	l, err := openLog(dir, func(err error) { t.Errorf("fatal: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendLogs(t *testing.T, l *logStore, term uint64, indexes ...uint64) {
	t.Helper()
	for _, i := range indexes {
		if err := l.StoreLog(&raft.Log{Index: i, Term: term, Data: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogStore_KnowsItsSize(t *testing.T) {
	dir := t.TempDir()
	l := testLog(t, dir)
	f := func(entries uint64) {
		t.Helper()
		if e, b := l.size(); e != entries || b != int64(entries)*164 {
			t.Errorf("size = %d entries, %d bytes, want %d, %d", e, b, entries, entries*164)
		}
	}
	f(0)
	appendLogs(t, l, 1, 1, 2, 3, 4, 5, 6)
	f(6)
	if err := l.DeleteRange(1, 2); err != nil { // a prefix, after a snapshot
		t.Fatal(err)
	}
	f(4)
	if err := l.DeleteRange(6, 6); err != nil { // a suffix that was not committed
		t.Fatal(err)
	}
	appendLogs(t, l, 2, 6, 7)
	f(5)
	if got := l.trailing(100, 164*3+10); got != 3 {
		t.Errorf("trailing by bytes = %d, want 3", got)
	}
	if got := l.trailing(2, 1<<30); got != 2 {
		t.Errorf("trailing by entries = %d, want 2", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = testLog(t, dir)
	defer l.Close()
	f(5)
}

// An installed snapshot replaces entries that were never committed, and answers
// for the entry it ends with.
func TestLogStore_AfterAnInstall(t *testing.T) {
	f := func(what string, terms map[uint64]uint64, index, term uint64, want ...uint64) {
		t.Helper()
		l := testLog(t, t.TempDir())
		defer l.Close()
		for i := uint64(1); i < 100; i++ {
			if terms[i] != 0 {
				appendLogs(t, l, terms[i], i)
			}
		}
		if err := l.installed(index, term); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var left []uint64
		for i := uint64(1); i < 100; i++ {
			var entry raft.Log
			if err := l.BoltStore.GetLog(i, &entry); err == nil {
				left = append(left, i)
			} else if !errors.Is(err, raft.ErrLogNotFound) {
				t.Fatal(err)
			}
		}
		if len(left) != len(want) || len(want) > 0 && (left[0] != want[0] || left[len(left)-1] != want[len(want)-1]) {
			t.Errorf("%s: entries %v stay, want %v", what, left, want)
		}
		var entry raft.Log
		if err := l.GetLog(index, &entry); err != nil || entry.Term != term || entry.Index != index {
			t.Errorf("%s: entry at the end of the snapshot is %+v, %v", what, entry, err)
		}
	}
	f("empty log", nil, 5, 2)
	f("short log", map[uint64]uint64{1: 1, 2: 1}, 5, 2)
	f("same entries", map[uint64]uint64{3: 1, 4: 1, 5: 2, 6: 2}, 5, 2, 3, 4, 5, 6)
	f("other entries", map[uint64]uint64{3: 1, 4: 1, 5: 1, 6: 1, 7: 1}, 5, 2, 6, 7)
	f("log begins later", map[uint64]uint64{6: 2, 7: 2}, 5, 2, 6, 7)
}
