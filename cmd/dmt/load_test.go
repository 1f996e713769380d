package main

import (
	"testing"

	"github.com/distributed-median-tracker/dmt/window"
)

func TestLanding(t *testing.T) {
	const now, hour, day = 1_800_000_000, 3600, 86400
	f := func(tiers window.Tiers, first, last int64, want string) {
		t.Helper()
		if got := landing(tiers, now-first, now-last, now); got != want {
			t.Errorf("landing of %d to %d s ago = %q, want %q", first, last, got, want)
		}
	}
	f(window.ForeverTiers(), 9000*day, 0, "lands in the 10s tier, kept forever")
	f(window.StandardTiers(), hour, 0, "lands in the 10s tier, kept 6h")
	f(window.StandardTiers(), 60*day, 30*day, "lands in the 1h tier, kept 90d")
	f(window.StandardTiers(), 9000*day, 0, "lands in the 10s to 1d tiers, kept 6h to 730d")
	f(window.StandardTiers(), 9000*day, 8000*day, "lands nowhere")
}
