package window

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxTimeText bounds the text of a time or duration; the longest that makes
// sense has 35 bytes.
const maxTimeText = 64

// ParseTime reads a time the way people say it and returns unix seconds:
// RFC 3339 ("2026-11-23T10:00:00Z", also without the seconds, or the date
// alone, which is midnight UTC), unix seconds, an age before now ("90m", "2d")
// or "now". A fraction of a second is dropped. The error is an *InputError in
// the field "time".
func ParseTime(s string, now time.Time) (int64, error) {
	switch {
	case s == "":
		return 0, badInput("time", ReasonEmpty, "a time is needed")
	case len(s) > maxTimeText:
		return 0, tooLong("time", ReasonTooLong, len(s), maxTimeText, "bytes")
	case s == "now":
		return inYears(now.Unix())
	}
	unix, err := strconv.ParseInt(s, 10, 64)
	if err == nil && s[0] != '+' {
		return inYears(unix)
	}
	if errors.Is(err, strconv.ErrRange) {
		return 0, badInput("time", ReasonRange, "%s is outside the years 1 to 9999", s)
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return inYears(t.Unix())
		}
	}
	if age, err := ParseDuration(s); err == nil {
		return inYears(now.Add(-age).Unix())
	}
	return 0, badInput("time", ReasonBadTime, "%q is no time; use 2026-11-23T10:00Z, unix seconds, or an age like 90m", s)
}

func inYears(unix int64) (int64, error) {
	if unix < MinTime || unix >= MaxTime {
		return 0, outsideYears("time", unix)
	}
	return unix, nil
}

// FormatTime writes unix seconds as RFC 3339 in UTC: "2026-11-23T10:00:00Z".
func FormatTime(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

// ParseDuration reads a duration of Go, with days and weeks in front: "90s",
// "1h30m", "2d", "1w", "1d12h". It is never negative. The error is an
// *InputError in the field "duration".
func ParseDuration(s string) (time.Duration, error) {
	switch {
	case s == "":
		return 0, badInput("duration", ReasonEmpty, "a duration is needed")
	case len(s) > maxTimeText:
		return 0, tooLong("duration", ReasonTooLong, len(s), maxTimeText, "bytes")
	case s[0] == '-':
		return 0, badInput("duration", ReasonRange, "%q is negative", s)
	}
	weeks, rest, ok1 := leading(s, 'w', 7*24*time.Hour)
	days, rest, ok2 := leading(rest, 'd', 24*time.Hour)
	total, ok3 := addDuration(weeks, days)
	if !ok1 || !ok2 || !ok3 {
		return 0, longDuration(s)
	}
	if rest == "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || rest[0] == '+' || rest[0] == '-' {
		return 0, badInput("duration", ReasonBadTime, "%q is no duration; use 90s, 15m, 1h30m, 2d or 1w", s)
	}
	if total, ok1 = addDuration(total, d); !ok1 {
		return 0, longDuration(s)
	}
	return total, nil
}

// leading takes one whole count of a unit from the front of s. Without one, it
// takes nothing; ok is false when the count does not fit.
func leading(s string, unit byte, size time.Duration) (d time.Duration, rest string, ok bool) {
	digits := 0
	for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
		digits++
	}
	if digits == 0 || digits == len(s) || s[digits] != unit {
		return 0, s, true
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	if err != nil || n > int64(maxDuration/size) {
		return 0, s, false
	}
	return time.Duration(n) * size, s[digits+1:], true
}

const maxDuration = time.Duration(1<<63 - 1)

// addDuration adds two durations that are not negative.
func addDuration(a, b time.Duration) (time.Duration, bool) { return a + b, b <= maxDuration-a }

func longDuration(s string) *InputError {
	return badInput("duration", ReasonRange, "%q is longer than 292 years", s)
}

// FormatDuration writes a duration so that ParseDuration reads it back: "0s",
// "90s" as "1m30s", "1h30m", "2d", "730d". A negative one starts with a minus
// and is only for showing.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	if d < 0 {
		if d == -d { // the least duration has no positive twin
			return d.String()
		}
		return "-" + FormatDuration(-d)
	}
	var b strings.Builder
	for _, u := range [...]struct {
		size time.Duration
		name byte
	}{{24 * time.Hour, 'd'}, {time.Hour, 'h'}, {time.Minute, 'm'}} {
		if n := d / u.size; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10))
			b.WriteByte(u.name)
			d -= n * u.size
		}
	}
	if d > 0 {
		b.WriteString(d.String())
	}
	return b.String()
}
