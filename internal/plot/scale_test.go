package plot

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

func TestAxis_HasRoundTicks(t *testing.T) {
	f := func(lo, hi float64, s Scale, ticks int, want string) {
		t.Helper()
		var labels []string
		last := -1.0
		for _, tick := range newAxis([]float64{lo, hi}, s, ticks).ticks {
			labels = append(labels, tick.label)
			if last >= 0 && tick.at == last {
				t.Errorf("[%v, %v]: two ticks at %v", lo, hi, last)
			}
			last = tick.at
		}
		if got := strings.Join(labels, " "); got != want {
			t.Errorf("ticks of [%v, %v]: %s, want %s", lo, hi, got, want)
		}
	}
	f(0, 100, Auto, 5, "0 20 40 60 80 100")
	f(3, 97, Auto, 5, "0 20 40 60 80 100")
	f(1013, 1999, Auto, 5, "1,000 1,200 1,400 1,600 1,800 2,000")
	f(-0.3, 0.3, Auto, 4, "-0.4 -0.2 0 0.2 0.4")
	f(0.1, 0.3, Auto, 2, "0.1 0.2 0.3")
	f(7, 7, Auto, 4, "6.0 6.5 7.0 7.5 8.0")
	f(0, 0, Auto, 4, "-1.0 -0.5 0 0.5 1.0")
	f(0, 2e12, Auto, 4, "0 5e11 1e12 1.5e12 2e12")
	f(1e18, 1e18+256, Auto, 3, "1e18 1.00000000000001e18")
	f(0.000_000_1, 0.000_000_2, Auto, 2, "1e-7 1.5e-7 2e-7")
	f(-math.MaxFloat64, math.MaxFloat64, Auto, 2, "-2e308 0 2e308")

	// Three decades and no more are linear.
	f(1, 1000, Auto, 4, "0 500 1,000")
	f(1, 1001, Auto, 5, "1 10 100 1,000 10,000")
	f(0.01, 100, Auto, 5, "0.01 0.1 1 10 100")
	f(-5000, -2, Auto, 5, "-1 -10 -100 -1,000 -10,000")
	f(1, 1e12, Auto, 4, "1 1,000 1,000,000 1e9 1e12")
	f(0, 1e9, Auto, 2, "0 500,000,000 1,000,000,000")
	f(-1, 1e9, Auto, 2, "-500,000,000 0 500,000,000 1,000,000,000")

	// Whoever asks gets the scale, where it can be.
	f(1, 1e6, Linear, 2, "0 500,000 1,000,000")
	f(10, 90, Log, 5, "10 100")
	f(10, 10, Log, 5, "10 100")
	f(0, 10, Log, 2, "0 5 10")
}

func TestAxis_KeepsTheOrderOfValues(t *testing.T) {
	for _, values := range [][]float64{
		{1, 2, 3}, {-3, -2, -1}, {1, 30, 50_000}, {-50_000, -30, -1}, {-1e308, 0, 1e308}, {1e-300, 1, 1e300}, {-2, 0, 5},
	} {
		a := newAxis(values, Auto, 5)
		if low, mid, high := a.at(values[0]), a.at(values[1]), a.at(values[2]); low >= mid || mid >= high || low < 0 || high > 1 {
			t.Errorf("%v are at %v, %v, %v", values, low, mid, high)
		}
	}
}

func TestTimeTicks_AreRoundInTheZone(t *testing.T) {
	zurich, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Skip("no time zones on this machine:", err)
	}
	f := func(from, to string, zone *time.Location, most int, want string) {
		t.Helper()
		var labels []string
		for _, tick := range timeTicks(window.Span{From: at(from), To: at(to)}, zone, most) {
			if tick.unix < at(from) || tick.unix > at(to) {
				t.Errorf("%s lies outside of %s to %s", tick.label, from, to)
			}
			labels = append(labels, tick.label)
		}
		if got := strings.Join(labels, ", "); got != want {
			t.Errorf("%s to %s: %s\nwant %s", from, to, got, want)
		}
	}
	f("2026-11-23 10:00:00", "2026-11-23 10:00:10", time.UTC, 5, "10:00:00, 10:00:02, 10:00:04, 10:00:06, 10:00:08, 10:00:10")
	f("2026-11-23 10:03:20", "2026-11-23 11:00:00", time.UTC, 4, "10:15, 10:30, 10:45, 11:00")
	f("2026-11-23 20:00:00", "2026-11-24 08:00:00", time.UTC, 5, "21:00, Nov 24, 03:00, 06:00")
	f("2026-11-23 20:00:00", "2026-11-24 08:00:00", zurich, 5, "21:00, Nov 24, 03:00, 06:00, 09:00")
	f("2026-11-23 00:00:00", "2026-11-30 00:00:00", time.UTC, 7, "Nov 23, Nov 24, Nov 25, Nov 26, Nov 27, Nov 28, Nov 29, Nov 30")
	f("2026-12-20 00:00:00", "2027-01-12 00:00:00", time.UTC, 5, "Dec 21, Dec 28, Jan 4, Jan 11")
	f("2026-11-15 00:00:00", "2027-03-15 00:00:00", time.UTC, 5, "2026-12, 2027-01, 2027-02, 2027-03")
	f("2026-11-15 00:00:00", "2031-03-15 00:00:00", time.UTC, 5, "2027, 2028, 2029, 2030, 2031")
	f("0001-01-01 00:00:00", "9999-12-31 00:00:00", time.UTC, 5, "2000, 4000, 6000, 8000")
	f("1969-12-30 00:00:00", "1970-01-04 00:00:00", time.UTC, 2, "Dec 30, 1970, Jan 3")

	// Clocks go from 01:59:59 to 03:00:00, and from 02:59:59 to 02:00:00.
	f("2026-03-28 23:00:00", "2026-03-29 05:00:00", zurich, 7, "Mar 29, 01:00, 03:00, 04:00, 05:00, 06:00, 07:00")
	f("2026-10-24 22:00:00", "2026-10-25 03:00:00", zurich, 7, "Oct 25, 01:00, 02:00, 02:00, 03:00, 04:00")
	f("2026-10-25 01:05:00", "2026-10-25 01:55:00", zurich, 5, "02:10, 02:20, 02:30, 02:40, 02:50")
	f("2026-10-24 20:00:00", "2026-10-25 05:00:00", zurich, 5, "22:00, Oct 25, 02:00, 04:00, 06:00")
	f("2026-03-28 20:00:00", "2026-03-29 05:00:00", zurich, 5, "22:00, Mar 29, 03:00, 05:00, 07:00")
}

func TestTimeTicks_AreFewAndRise(t *testing.T) {
	for seconds := int64(1); seconds < 300*365*86400; seconds = seconds*17/10 + 1 {
		for _, most := range []int{1, 3, 10, 100} {
			ticks := timeTicks(window.Span{From: 1795428000, To: 1795428000 + seconds}, time.UTC, most)
			if len(ticks) > most+1 {
				t.Errorf("%d ticks over %d s, want at most %d", len(ticks), seconds, most+1)
			}
			for i := range ticks[min(1, len(ticks)):] {
				if ticks[i].unix >= ticks[i+1].unix {
					t.Errorf("tick %v before %v", ticks[i], ticks[i+1])
				}
			}
		}
	}
}
