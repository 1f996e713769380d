package window

import "time"

// Width is the length of a bucket in seconds. It is positive.
type Width int64

// Widths of the standard tiers.
const (
	TenSeconds Width = 10
	Minute     Width = 60
	TenMinutes Width = 600
	Hour       Width = 3600
	Day        Width = 86400
)

// String returns the width as a duration: "10s", "1m", "1h", "1d".
func (w Width) String() string { return FormatDuration(w.Duration()) }

// Duration returns the width as a time.Duration.
func (w Width) Duration() time.Duration { return time.Duration(w) * time.Second }

// Floor returns the greatest multiple of w that is not after t, before 1970 too.
func (w Width) Floor(t int64) int64 {
	rest := t % int64(w)
	if rest < 0 { // Go truncates towards zero
		rest += int64(w)
	}
	return t - rest
}

// Ceil returns the least multiple of w that is not before t.
func (w Width) Ceil(t int64) int64 {
	floor := w.Floor(t)
	if floor == t {
		return t
	}
	return floor + int64(w)
}

// Bucket returns the bucket of width w that holds time t.
func (w Width) Bucket(t int64) Bucket { return Bucket{Start: w.Floor(t), Width: w} }

// Bucket is one cell of time, [Start, Start+Width), in unix seconds. Start is a
// multiple of Width.
type Bucket struct {
	Start int64
	Width Width
}

// End returns the first second after the bucket.
func (b Bucket) End() int64 { return b.Start + int64(b.Width) }

// Span returns the bucket as a span.
func (b Bucket) Span() Span { return Span{From: b.Start, To: b.End()} }

// String returns width and start: "1m@2026-11-23T10:00:00Z".
func (b Bucket) String() string { return b.Width.String() + "@" + FormatTime(b.Start) }
