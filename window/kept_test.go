package window

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A file that lags behind the log clock tiles whatever Kept returns: with no
// gap, no overlap and no bucket that was dropped or is not sealed.
func TestCoverKept_TilesWhatIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tiers := genTiers(false).Draw(t, "tiers")
		now := rapid.Int64Range(-1e6, 1e6).Draw(t, "now")
		kept, fleet := tiers.Horizons(now)
		for i := range tiers {
			if fleet[i] > kept[i] || i > 0 && kept[i] > kept[i-1] {
				t.Fatalf("horizons %v and %v of the fleet do not fall", kept, fleet)
			}
		}
		// What the file has: sealed up to some time before, dropped up to the
		// horizon of then or what is sealed, whichever is earlier.
		sealed := tiers.Sealed(now - rapid.Int64Range(0, 100_000).Draw(t, "lag"))
		dropped := slices.Clone(kept)
		for i := range len(tiers) - 1 {
			dropped[i] = min(dropped[i], sealed[i+1])
		}
		asked := Span{From: now - rapid.Int64Range(-1000, 200_000).Draw(t, "age")}
		asked.To = asked.From + rapid.Int64Range(1, 100_000).Draw(t, "length")
		s := tiers.Kept(asked, kept)
		last := kept[len(kept)-1]
		if s.Empty() {
			if asked.To > last {
				t.Fatalf("nothing is left of %v, kept is %v", asked, kept)
			}
			return
		}
		if s.From > max(asked.From, last) || s.To < asked.To {
			t.Fatalf("Kept(%v) = %v with %v", asked, s, kept)
		}
		if again := tiers.Kept(s, kept); again != s {
			t.Fatalf("Kept(%v) = %v, of which it is %v", asked, s, again)
		}
		next := s.From
		for i, r := range tiers.CoverKept(s, sealed, dropped) {
			k := slices.IndexFunc(tiers, func(tier Tier) bool { return tier.Width == r.Width })
			switch {
			case r.Span.From != next || r.Span.Empty() || !r.Span.Aligned(r.Width):
				t.Fatalf("run %d is %v of %v, want it from %d", i, r.Span, r.Width, next)
			case r.Span.From < dropped[k]:
				t.Fatalf("run %d of %v begins at %d, dropped up to %d", i, r.Width, r.Span.From, dropped[k])
			case k > 0 && r.Span.To > sealed[k]:
				t.Fatalf("run %d of %v ends at %d, sealed up to %d", i, r.Width, r.Span.To, sealed[k])
			}
			next = r.Span.To
		}
		if next != s.To {
			t.Fatalf("the cover of %v ends at %d", s, next)
		}
	})
}

func TestHorizons_Standard(t *testing.T) {
	const now = 20_780*86_400 + 12*3600 + 5*60 + 25 // 12:05:25
	node, fleet := StandardTiers().Horizons(now)
	const h, d = int64(Hour), int64(Day)
	noon := int64(now - 5*60 - 25)
	want := []int64{noon + 5*60 - 6*h, noon - 2*d, noon - 14*d, noon - 12*h - 90*d, noon - 12*h - 730*d}
	if !slices.Equal(node, want) {
		t.Errorf("Horizons of nodes are %v, want %v", node, want)
	}
	want = []int64{noon + 5*60 - 7*d, noon - 30*d, noon - 365*d, noon - 12*h - 5*365*d, MinTime}
	if !slices.Equal(fleet, want) {
		t.Errorf("Horizons of the fleet are %v, want %v", fleet, want)
	}
	// An hour is kept in minutes until it is sealed.
	short := Tiers{{TenSeconds, 60, 60}, {Hour, 7200, 7200}}
	if node, _ := short.Horizons(now); node[0] != noon || node[1] != noon-7200 {
		t.Errorf("Horizons of short tiers are %v", node)
	}
	if node, _ := short.Horizons(noon + 29); node[0] != noon-3600 {
		t.Errorf("Horizons before the hour is sealed are %v", node)
	}
}
