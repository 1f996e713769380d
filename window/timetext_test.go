package window

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseTime(t *testing.T) {
	u := noon.Unix()
	f := func(s string, want int64) {
		t.Helper()
		if got, err := ParseTime(s, noon); err != nil || got != want {
			t.Errorf("ParseTime(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	f("2026-11-23T12:00:00Z", u)
	f("2026-11-23T12:00:00.999Z", u)
	f("2026-11-23T12:00Z", u)
	f("2026-11-23T14:00+02:00", u)
	f("2026-11-23", u-12*3600)
	f("now", u)
	f("90m", u-5400)
	f("2d", u-2*86400)
	f("1w", u-7*86400)
	f("0", 0)
	f("-1", -1)
	f("1795435200", 1795435200)
	f("0001-01-01T00:00:00Z", MinTime)
	f("9999-12-31T23:59:59Z", MaxTime-1)
	f("1969-12-31T23:59:59.5Z", -1)
}

func TestParseTime_Refuses(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got, err := ParseTime(s, noon); reason(err) != want {
			t.Errorf("ParseTime(%q) = %d, %v, want reason %s", s, got, err, want)
		}
	}
	f("", ReasonEmpty)
	f(strings.Repeat("1", 65), ReasonTooLong)
	f("253402300800", ReasonRange)
	f("1795435200000", ReasonRange)
	f("99999999999999999999", ReasonRange)
	f("-62135596801", ReasonRange)
	f("0000-12-31T23:59:59Z", ReasonRange)
	for _, s := range []string{"yesterday", "12:00", "2026-11-23T12:00:00", "2026-13-01", "2026-02-30", "-90m", "+5", "1_000", "0x10", "1e9", " 5", "5 ", "NaN"} {
		f(s, ReasonBadTime)
	}
	if _, err := ParseTime("1795435200000", noon); !strings.Contains(err.Error(), "milliseconds") {
		t.Errorf("error %q does not hint at milliseconds", err)
	}
}

func TestParseDuration(t *testing.T) {
	f := func(s string, want time.Duration) {
		t.Helper()
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	f("90s", 90*time.Second)
	f("1h30m", 90*time.Minute)
	f("1.5h", 90*time.Minute)
	f("2d", 48*time.Hour)
	f("1w", 168*time.Hour)
	f("1w2d3h", 219*time.Hour)
	f("250ms", 250*time.Millisecond)
	f("0s", 0)
	f("106751d", 106751*24*time.Hour)
}

func TestParseDuration_Refuses(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got, err := ParseDuration(s); reason(err) != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want reason %s", s, got, err, want)
		}
	}
	f("", ReasonEmpty)
	f(strings.Repeat("1h", 33), ReasonTooLong)
	f("-5m", ReasonRange)
	f("106752d", ReasonRange)
	f("15251w", ReasonRange)
	f("106751d24h", ReasonRange)
	f("99999999999999999999d", ReasonRange)
	for _, s := range []string{"5", "m", "d", "1.5d", "2d1w", "1d-1h", "1d+1h", "+1h", "1h 30m", "1y", "inf"} {
		f(s, ReasonBadTime)
	}
}

func TestFormatDuration(t *testing.T) {
	f := func(d time.Duration, want string) {
		t.Helper()
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%v) = %q, want %q", d, got, want)
		}
	}
	f(0, "0s")
	f(90*time.Second, "1m30s")
	f(730*24*time.Hour, "730d")
	f(36*time.Hour, "1d12h")
	f(10*time.Minute, "10m")
	f(1500*time.Millisecond, "1.5s")
	f(-time.Minute, "-1m")
	f(-1<<63, "-2562047h47m16.854775808s")
}

func TestFormatDuration_RoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(0).Draw(t, "ns"))
		if rapid.Bool().Draw(t, "whole seconds") {
			d = d.Truncate(time.Second)
		}
		text := FormatDuration(d)
		if got, err := ParseDuration(text); err != nil || got != d {
			t.Fatalf("ParseDuration(%q) = %v, %v, want %v", text, got, err, d)
		}
	})
}

func TestFormatTime_RoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unix := rapid.Int64Range(MinTime, MaxTime-1).Draw(t, "unix")
		if got, err := ParseTime(FormatTime(unix), noon); err != nil || got != unix {
			t.Fatalf("ParseTime(%q) = %d, %v, want %d", FormatTime(unix), got, err, unix)
		}
	})
}
