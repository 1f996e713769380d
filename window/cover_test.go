package window

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// everythingSealed lets Cover use every tier.
func everythingSealed(t Tiers) []int64 {
	return slices.Repeat([]int64{MaxTime}, len(t))
}

func TestCover(t *testing.T) {
	tiers := StandardTiers()
	at := func(clock string) int64 {
		t.Helper()
		c, err := time.Parse("15:04:05", clock)
		if err != nil {
			t.Fatal(err)
		}
		return noon.Truncate(24*time.Hour).Unix() + int64(c.Hour()*3600+c.Minute()*60+c.Second())
	}
	f := func(sealed []int64, from, to string, want ...string) {
		t.Helper()
		var got []string
		for _, r := range tiers.Cover(Span{From: at(from), To: at(to)}, sealed) {
			got = append(got, fmt.Sprintf("%dx%s@%s", r.Buckets(), r.Width, time.Unix(r.Span.From, 0).UTC().Format("15:04:05")))
		}
		if !slices.Equal(got, want) {
			t.Errorf("Cover(%s, %s) = %v, want %v", from, to, got, want)
		}
	}
	all := everythingSealed(tiers)
	f(all, "10:00:00", "10:00:00")
	f(all, "10:00:00", "10:01:00", "1x1m@10:00:00")
	f(all, "10:59:50", "12:01:10", "1x10s@10:59:50", "1x1h@11:00:00", "1x1m@12:00:00", "1x10s@12:01:00")
	f(all, "09:05:00", "13:00:00", "5x1m@09:05:00", "5x10m@09:10:00", "3x1h@10:00:00")
	f(nil, "10:00:00", "11:00:00", "360x10s@10:00:00")
	f([]int64{0}, "10:00:00", "11:00:00", "360x10s@10:00:00")
	// Minutes are there until 10:40, ten minutes until 10:20, hours until 10:00.
	part := []int64{MinTime, at("10:40:30"), at("10:29:59"), at("10:00:00"), MinTime}
	f(part, "09:00:00", "11:00:00", "1x1h@09:00:00", "2x10m@10:00:00", "20x1m@10:20:00", "120x10s@10:40:00")
}

// The fewest buckets that tile a span, by trying every bucket at every second.
func fewest(tiers Tiers, s Span, sealed []int64) int64 {
	const unreachable = int64(1) << 40
	best := make([]int64, s.Seconds()+1) // best[i] tiles [From, From+i)
	for i := range best[1:] {
		end := s.From + int64(i) + 1
		best[i+1] = unreachable
		for k, tier := range tiers {
			start := end - int64(tier.Width)
			stored := k == 0 || k < len(sealed) && end <= sealed[k]
			if stored && start >= s.From && tier.Width.Floor(start) == start {
				best[i+1] = min(best[i+1], best[start-s.From]+1)
			}
		}
	}
	return best[len(best)-1]
}

func TestCover_TilesExactlyWithTheFewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tiers := genTiers(true).Draw(t, "tiers")
		from := rapid.Int64Range(-1500, 1500).Draw(t, "from")
		s := Span{From: from, To: from + rapid.Int64Range(0, 1500).Draw(t, "length")}
		if s.Empty() {
			return
		}
		s = s.Outward(tiers.Base())
		sealed := rapid.SliceOfN(rapid.Int64Range(s.From-50, s.To+50), 0, len(tiers)).Draw(t, "sealed")

		runs := tiers.Cover(s, sealed)
		next, buckets := s.From, int64(0)
		for i, r := range runs {
			k := slices.IndexFunc(tiers, func(tier Tier) bool { return tier.Width == r.Width })
			switch {
			case k < 0:
				t.Fatalf("run %d has width %v, of no tier", i, r.Width)
			case r.Span.From != next:
				t.Fatalf("run %d begins at %d, want %d", i, r.Span.From, next)
			case r.Span.Empty() || !r.Span.Aligned(r.Width):
				t.Fatalf("run %d over %v is not of whole buckets of %v", i, r.Span, r.Width)
			case k > 0 && (k >= len(sealed) || r.Span.To > sealed[k]):
				t.Fatalf("run %d uses %v beyond what is sealed", i, r.Width)
			case i > 0 && runs[i-1].Width == r.Width:
				t.Fatalf("runs %d and %d have one width", i-1, i)
			}
			next, buckets = r.Span.To, buckets+r.Buckets()
		}
		if next != s.To {
			t.Fatalf("the cover ends at %d, want %d", next, s.To)
		}
		if want := fewest(tiers, s, sealed); buckets != want {
			t.Fatalf("%d buckets %v, want %d", buckets, runs, want)
		}
		if len(runs) > 2*len(tiers)-1 {
			t.Fatalf("%d runs of %d tiers", len(runs), len(tiers))
		}
	})
}

func TestCover_AllTimeIsCheap(t *testing.T) {
	tiers := StandardTiers()
	s, err := All().At(noon)
	if err != nil {
		t.Fatal(err)
	}
	sealed := slices.Repeat([]int64{noon.Unix() - 95}, len(tiers))
	runs := tiers.Cover(s, sealed)
	if len(runs) == 0 || runs[0].Width != Day || runs[0].Span.From != MinTime || runs[len(runs)-1].Span.To != MaxTime {
		t.Errorf("all time is covered by %v", runs)
	}
}

func BenchmarkCover(b *testing.B) {
	tiers := StandardTiers()
	sealed := everythingSealed(tiers)
	s := Span{From: noon.Unix() - 30*86400 + 10, To: noon.Unix() - 10}
	for b.Loop() {
		tiers.Cover(s, sealed)
	}
}
