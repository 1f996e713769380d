package plot

import (
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

// timeTick is a round time on the time axis.
type timeTick struct {
	unix  int64
	label string
}

// pace is a distance between round times, of one unit.
type pace struct {
	seconds             int64 // within a day, or about as long as the units below
	days, months, years int
}

var paces = func() []pace {
	var list []pace
	for _, s := range []int64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600} {
		list = append(list, pace{seconds: s})
	}
	for _, d := range []int{1, 2, 7} {
		list = append(list, pace{seconds: int64(d) * 86400, days: d})
	}
	for _, m := range []int{1, 3, 6} {
		list = append(list, pace{seconds: int64(m) * 31 * 86400, months: m})
	}
	for tens := 1; tens <= 1000; tens *= 10 {
		for _, y := range []int{1, 2, 5} {
			list = append(list, pace{seconds: int64(y*tens) * 366 * 86400, years: y * tens})
		}
	}
	return list
}()

// timeTicks returns round times of a zone inside a span, at most so many and
// perhaps one more.
func timeTicks(span window.Span, zone *time.Location, most int) []timeTick {
	p := paces[len(paces)-1]
	for _, candidate := range paces {
		if span.Seconds()/candidate.seconds <= int64(most) {
			p = candidate
			break
		}
	}
	var ticks []timeTick
	last := span.From - 1
	for t := p.first(time.Unix(span.From, 0).In(zone)); t.Unix() <= span.To; t = p.next(t) {
		// Where clocks are put forward, two dates may name one time.
		if unix := t.Unix(); unix > last {
			ticks = append(ticks, timeTick{unix, p.label(t)})
			last = unix
		}
	}
	return ticks
}

// first returns a round time that is not after t.
func (p pace) first(t time.Time) time.Time {
	y, m, d := t.Date()
	switch {
	case p.years > 0:
		return time.Date(y-y%p.years, 1, 1, 0, 0, 0, 0, t.Location())
	case p.months > 0:
		return time.Date(y, m-(m-1)%time.Month(p.months), 1, 0, 0, 0, 0, t.Location())
	case p.days == 7: // Mondays
		return time.Date(y, m, d-(int(t.Weekday())+6)%7, 0, 0, 0, 0, t.Location())
	case p.days > 0:
		// Every other day of the calendar, whichever month it is.
		midnight := time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix()
		since := midnight - (window.Day * window.Width(p.days)).Floor(midnight)
		return time.Date(y, m, d-int(since/int64(window.Day)), 0, 0, 0, 0, t.Location())
	}
	return p.floor(t)
}

// floor returns the round time of day at or before t.
func (p pace) floor(t time.Time) time.Time {
	y, m, d := t.Date()
	since := (t.Hour()*3600 + t.Minute()*60 + t.Second()) % int(p.seconds)
	if p.seconds > 3600 {
		return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second()-since, 0, t.Location())
	}
	// Where clocks are put back an hour has two times, and a date names only one.
	return t.Add(-time.Duration(since) * time.Second)
}

// next returns the round time after t. Where clocks are put forward or back it
// is still a whole hour.
func (p pace) next(t time.Time) time.Time {
	y, m, d := t.Date()
	switch {
	case p.days > 0 || p.months > 0 || p.years > 0:
		return time.Date(y+p.years, m+time.Month(p.months), d+p.days, 0, 0, 0, 0, t.Location())
	case p.seconds > 3600:
		return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second()+int(p.seconds), 0, t.Location())
	}
	return t.Add(time.Duration(p.seconds) * time.Second)
}

// label writes a round time with what changes between ticks.
func (p pace) label(t time.Time) string {
	midnight := t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0
	switch {
	case p.years > 0, p.days > 0 && t.YearDay() == 1:
		return t.Format("2006")
	case p.months > 0:
		return t.Format("2006-01")
	case p.days > 0, midnight:
		return t.Format("Jan 2")
	case p.seconds < 60:
		return t.Format("15:04:05")
	}
	return t.Format("15:04")
}
