package window

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// genTiers draws tiers that pass Check, with small widths when small.
func genTiers(small bool) *rapid.Generator[Tiers] {
	return rapid.Custom(func(t *rapid.T) Tiers {
		most := 60
		if small {
			most = 4
		}
		w := Width(rapid.IntRange(1, most).Draw(t, "base"))
		var tiers Tiers
		keepNode, keepFleet := int64(0), int64(0)
		forever := false
		for i := range rapid.IntRange(1, 5).Draw(t, "tiers") {
			if i > 0 {
				w *= Width(rapid.IntRange(2, most).Draw(t, "factor"))
			}
			keepNode = max(keepNode, int64(w)) + rapid.Int64Range(0, 1000).Draw(t, "node")
			keepFleet = max(keepFleet, keepNode) + rapid.Int64Range(0, 1000).Draw(t, "fleet")
			tier := Tier{w, keepNode, keepFleet}
			if forever = forever || rapid.IntRange(0, 9).Draw(t, "for ever") == 0; forever {
				tier.KeepNode, tier.KeepFleet = 0, 0
			}
			tiers = append(tiers, tier)
		}
		return tiers
	})
}

func TestTiers_DefaultsAreSound(t *testing.T) {
	for name, tiers := range map[string]Tiers{"standard": StandardTiers(), "forever": ForeverTiers()} {
		if err := tiers.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := ParseTiers(" " + name + "\n")
		if err != nil || !slices.Equal(got, tiers) {
			t.Errorf("ParseTiers(%q) = %v, %v, want %v", name, got, err, tiers)
		}
	}
	want := "10s node=6h fleet=7d\n1m node=2d fleet=30d\n10m node=14d fleet=365d\n1h node=90d fleet=1825d\n1d node=730d fleet=forever\n"
	if got := StandardTiers().String(); got != want {
		t.Errorf("standard tiers are\n%swant\n%s", got, want)
	}
}

func TestParseTiers_ReadsWhatStringWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tiers := genTiers(false).Draw(t, "tiers")
		got, err := ParseTiers("# a comment\n\n" + tiers.String())
		if err != nil || !slices.Equal(got, tiers) {
			t.Fatalf("ParseTiers(%q) = %v, %v, want %v", tiers, got, err, tiers)
		}
	})
}

func TestParseTiers_Refuses(t *testing.T) {
	f := func(text, word string) {
		t.Helper()
		got, err := ParseTiers(text)
		if reason(err) == "" || !strings.HasPrefix(err.Error(), "retention: ") || !strings.Contains(err.Error(), word) {
			t.Errorf("ParseTiers(%q) = %v, %v, want an error in retention with %q", text, got, err, word)
		}
	}
	f("", "at least one")
	f("# nothing\n", "at least one")
	f("10s", "line 1: both")
	f("10s node=6h", "line 1: both")
	f("\n10s node=6h node=7h", "line 2: node is given twice")
	f("10s node=6h fleet=7d disk=1", "disk")
	f("10s node=6h fleet=", "fleet")
	f("10s node=0s fleet=7d", "positive")
	f("10s node=1500ms fleet=7d", "whole seconds")
	f("0s node=6h fleet=7d", "positive")
	f("10s node=5s fleet=7d", "shorter than one bucket")
	f("10s node=8d fleet=7d", "shorter than node")
	f("10s node=6h fleet=7d\n15s node=6h fleet=7d", "no multiple of 10s")
	f("10s node=6h fleet=7d\n10s node=6h fleet=7d", "no multiple of 10s")
	f("10s node=6h fleet=7d\n1m node=5h fleet=7d", "node=5h is shorter than that of 10s")
	f("10s node=forever fleet=forever\n1m node=6h fleet=7d", "shorter")
	f("10s node=6h fleet=7d\n1m node=6h fleet=6d", "fleet=6d is shorter")
	f("10s node=40000d fleet=forever", "outside")
	f(strings.Repeat("x", maxTiersText+1), "bytes")
	f(strings.Repeat("1s node=1m fleet=1m\n", maxTiers+1), "at most 16")
}

func TestTiers_Landing(t *testing.T) {
	const now = 20_780 * 86_400
	tiers := StandardTiers()
	f := func(start int64, want Width) {
		t.Helper()
		got, ok := tiers.Landing(start, now)
		if ok != (want != 0) || got.Width != want {
			t.Errorf("Landing(now%+d) = %v, %v, want %v", start-now, got.Width, ok, want)
		}
	}
	const h, d = int64(Hour), int64(Day)
	f(now, TenSeconds)
	f(now-6*h, TenSeconds)
	f(now-6*h-10, Minute)
	f(now-2*d-60, TenMinutes)
	f(now-14*d-600, Hour)
	f(now-90*d-3600, Day)
	f(now-730*d, Day)
	f(now-730*d-10, 0)
	if got := tiers.MaxPast(now); got != now-730*d {
		t.Errorf("MaxPast = now%+d", got-now)
	}
	if got := ForeverTiers().MaxPast(now); got != MinTime {
		t.Errorf("MaxPast of forever = %d", got)
	}
}

// A value lands in the finest tier whose bucket for it has not been dropped,
// and what no tier keeps is older than MaxPast.
func TestTiers_LandingKeepsTheBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tiers := genTiers(false).Draw(t, "tiers")
		now := rapid.Int64Range(-1e6, 1e6).Draw(t, "now")
		start := tiers.Base().Floor(now - rapid.Int64Range(-100, 20_000).Draw(t, "age"))
		var want Tier
		found := false
		for _, tier := range tiers {
			if tier.KeepNode == 0 || tier.Width.Bucket(start).End() > now-tier.KeepNode {
				want, found = tier, true
				break
			}
		}
		got, ok := tiers.Landing(start, now)
		if ok != found || got != want {
			t.Fatalf("Landing(%d, %d) = %v, %v, want %v, %v", start, now, got, ok, want, found)
		}
		if accepted := start >= tiers.MaxPast(now); accepted != ok {
			t.Fatalf("MaxPast(%d) = %d, Landing(%d) = %v", now, tiers.MaxPast(now), start, ok)
		}
	})
}
