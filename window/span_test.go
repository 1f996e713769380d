package window

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestWidth_FloorAndCeilBefore1970Too(t *testing.T) {
	f := func(w Width, at, floor, ceil int64) {
		t.Helper()
		if w.Floor(at) != floor || w.Ceil(at) != ceil {
			t.Errorf("%s around %d: %d, %d, want %d, %d", w, at, w.Floor(at), w.Ceil(at), floor, ceil)
		}
	}
	f(TenSeconds, 0, 0, 0)
	f(TenSeconds, 9, 0, 10)
	f(TenSeconds, -1, -10, 0)
	f(TenSeconds, -10, -10, -10)
	f(TenSeconds, -11, -20, -10)
	f(Day, MinTime, MinTime, MinTime)
	f(Day, MaxTime, MaxTime, MaxTime)
}

func TestWidth_BucketHoldsItsTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Width(rapid.Int64Range(1, 400*int64(Day)).Draw(t, "width"))
		at := rapid.Int64Range(MinTime, MaxTime).Draw(t, "t")
		b := w.Bucket(at)
		if !b.Span().Contains(at) || b.Start%int64(w) != 0 || b.Span().Seconds() != int64(w) {
			t.Fatalf("bucket %v does not hold %d", b, at)
		}
		if out := (Span{From: at, To: at + 1}).Outward(w); out != b.Span() {
			t.Fatalf("Outward(%d) = %v, want %v", w, out, b.Span())
		}
	})
}

func TestWidth_String(t *testing.T) {
	for w, want := range map[Width]string{TenSeconds: "10s", Minute: "1m", TenMinutes: "10m", Hour: "1h", Day: "1d", 90: "1m30s"} {
		if w.String() != want {
			t.Errorf("%d s is shown as %q, want %q", int64(w), w, want)
		}
	}
}

func TestSpan_At(t *testing.T) {
	f := func(s, want Span) {
		t.Helper()
		if got, err := s.At(noon); err != nil || got != want {
			t.Errorf("%v at noon = %v, %v, want %v", s, got, err, want)
		}
	}
	u := noon.Unix()
	f(All(), Span{From: MinTime, To: MaxTime})
	f(Last(time.Hour), Span{From: u - 3600, To: u + 1})
	f(Last(time.Millisecond), Span{From: u - 1, To: u + 1})
	f(Between(noon, noon.Add(time.Second)), Span{From: u, To: u + 1})
	f(Between(noon.Add(1), noon.Add(2)), Span{From: u, To: u + 1})
	f(Span{From: -1, To: 0}, Span{From: -1, To: 0})
	f(Last(1<<63-1), Span{From: noon.Add(-(1<<63 - 1)).Unix(), To: u + 1})
}

func TestSpan_At_Refuses(t *testing.T) {
	f := func(s Span, field string) {
		t.Helper()
		got, err := s.At(noon)
		in, ok := err.(*InputError)
		if !ok || in.Field != field || in.Reason != ReasonRange {
			t.Errorf("%v at noon = %v, %v, want field %s, reason range", s, got, err, field)
		}
	}
	f(Last(0), "last")
	f(Last(-time.Hour), "last")
	f(Between(noon, noon), "from")
	f(Between(time.Unix(0, 0), time.Unix(0, 0)), "from") // not all time
	f(Between(noon, noon.Add(-time.Hour)), "from")
	f(Span{From: noon.UnixMilli(), To: noon.UnixMilli() + 1}, "from")
	f(Span{From: MinTime - 1, To: 0}, "from")
	f(Span{From: 0, To: MaxTime + 1}, "to")
	f(Span{From: 0, To: -1 << 63}, "to")
}

func TestSpan_Sets(t *testing.T) {
	a, b := Span{From: 0, To: 10}, Span{From: 5, To: 20}
	if got := a.Intersect(b); got != (Span{From: 5, To: 10}) {
		t.Errorf("intersection %v", got)
	}
	if got := (Span{From: -5, To: 0}).Intersect(Span{From: 0, To: 5}); !got.Empty() || got.IsAll() {
		t.Errorf("neighbours share %v", got)
	}
	if !a.Contains(0) || a.Contains(10) || a.Contains(-1) {
		t.Error("[0, 10) holds 10 or lacks 0")
	}
	if !All().IsAll() || !(Span{From: MinTime, To: MaxTime}).IsAll() || a.IsAll() || Last(time.Hour).IsAll() {
		t.Error("IsAll is wrong")
	}
	if !a.Aligned(TenSeconds) || b.Aligned(TenSeconds) {
		t.Error("Aligned is wrong")
	}
}

func TestSpan_String(t *testing.T) {
	f := func(s Span, want string) {
		t.Helper()
		if s.String() != want {
			t.Errorf("shown as %q, want %q", s, want)
		}
	}
	f(All(), "all time")
	f(Last(90*time.Minute), "last 1h30m")
	f(Between(noon, noon.Add(time.Hour)), "[2026-11-23T12:00:00Z, 2026-11-23T13:00:00Z)")
}
