package plot

import "github.com/distributed-median-tracker/dmt/window"

// MaxPoints is how many points Step proposes at most: more are closer together
// than three pixels of a usual picture.
const MaxPoints = 300

// roundSteps are the steps that people count time in.
var roundSteps = [...]window.Width{
	1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600,
	window.Day, 2 * window.Day, 5 * window.Day, 10 * window.Day, 30 * window.Day, 90 * window.Day, 365 * window.Day,
}

// Step returns the shortest round step, a multiple of base, that gives at most
// so many points over a resolved span. base and most are positive.
func Step(span window.Span, base window.Width, most int) window.Width {
	fits := func(w window.Width) bool { return w%base == 0 && Steps(span, w) <= most }
	for _, w := range roundSteps {
		if fits(w) {
			return w
		}
	}
	// Beyond years, or for a base that divides none of the above: 1, 2, 5, 10
	// times the base and so on. The loop ends: spans have at most 10,000 years,
	// and steps at multiples of themselves cut any span into two at worst.
	for w := base; ; w *= 10 {
		for _, times := range []window.Width{1, 2, 5} {
			if fits(w*times) || w*times > window.Width(window.MaxTime) {
				return w * times
			}
		}
	}
}

// Steps returns how many steps cover a resolved span.
func Steps(span window.Span, step window.Width) int {
	return int(span.Outward(step).Seconds() / int64(step))
}
