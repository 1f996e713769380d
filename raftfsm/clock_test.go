package raftfsm

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestQuorumClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hour = int64(time.Hour / time.Millisecond)
		skew := time.Duration(0)
		c := newQuorumClock(func() time.Time { return time.Now().Add(skew) })
		now := func() int64 { return time.Now().UnixMilli() }
		others := []string{"b", "c"}
		f := func(what string, others []string, logMs, want int64) {
			t.Helper()
			if got := c.nowMs(others, logMs); got != want {
				t.Errorf("%s: %d, want %d (%+d ms off)", what, got, want, got-want)
			}
		}
		f("one member is its own quorum", nil, 0, now())

		start := now() - 50*hour
		c.begin(start)
		skew = 24 * time.Hour * 3650
		f("a leader alone of three goes on from the log clock", others, start, start)
		time.Sleep(time.Second)
		f("at the rate of time", others, start, start+1000)

		c.heard("b", now(), time.Now())
		f("of two clocks the earlier", others, start, now())
		c.heard("c", now()+5000, time.Now())
		f("of three the middle", others, start, now()+5000)
		skew = 0
		f("never back", others, now()+9000, now()+9000)
		c.begin(start)
		c.heard("b", now(), time.Now())
		time.Sleep(4 * time.Second)
		f("a sample moves on", others, start, now())
		skew = -3650 * 24 * time.Hour
		c.heard("c", now(), time.Now())
		f("a leader years behind moves nothing", others, start, now())
		time.Sleep(sampleAge)
		want := now()
		f("without fresh samples it runs on", others, start, want)
	})
}

// The wall clock of a member is read half way through the question.
func TestQuorumClock_HalfTheRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newQuorumClock(func() time.Time { return time.Now().Add(time.Hour) })
		asked := time.Now()
		time.Sleep(100 * time.Millisecond)
		wall := time.Now().UnixMilli()
		time.Sleep(100 * time.Millisecond)
		c.heard("b", wall, asked)
		if got, want := c.nowMs([]string{"b", "c"}, 0), time.Now().UnixMilli(); got != want {
			t.Errorf("nowMs is %d ms off", got-want)
		}
	})
}
