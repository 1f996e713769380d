package server

import (
	"testing"
	"time"
)

func TestLanes(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := lanes{now: func() time.Time { return now }}
	a, b := l.take(), l.take()
	if a.producer == b.producer || a.next != 1 {
		t.Fatalf("two requests at once share a name: %v, %v", a, b)
	}
	l.give(a, true)
	again := l.take()
	if again.producer != a.producer || again.next != 2 {
		t.Errorf("take = %v, want the free lane %v with number 2", again, a.producer)
	}
	// The fate of 2 is unknown: nothing may follow under this name.
	l.give(again, false)
	if c := l.take(); c.producer == a.producer || c.next != 1 {
		t.Errorf("take = %v after an unsettled number, want another lane", c)
	}
	l.give(b, true)
	now = now.Add(laneLife)
	if c := l.take(); c.producer == b.producer {
		t.Error("a lane is used an hour later")
	}
	if len(l.free) != 0 {
		t.Errorf("%d old lanes are kept", len(l.free))
	}
}
