package storage

import (
	"errors"

	"github.com/distributed-median-tracker/dmt/window"
)

// chain follows the rows of a metric in a span, and knows when one is missing.
type chain struct {
	base  window.Width
	from  int64    // the span's
	at    int64    // start of the last row seen
	begun bool     // a row was seen
	rows  counters // of the metric in the file
}

func (s *search) chain() (*chain, error) {
	c := &chain{base: s.base, from: s.span.From}
	if s.metric.number < s.file.metrics {
		row, err := readMetricRow(s.tx, s.metric.number)
		if err != nil {
			return nil, err
		}
		c.rows = row.counters
	}
	return c, nil
}

// follow checks that row comes right behind the last one, or is the first of the
// span.
func (c *chain) follow(start int64, row *fleetRow) error {
	before, ok := row.before(start, c.base)
	switch {
	case c.begun && (!ok || before != c.at), !c.begun && ok && before >= c.from:
		return errChain
	case !ok && start != c.rows.first:
		return errChain
	}
	c.begun, c.at = true, start
	return nil
}

// end checks that the last row seen is the metric's last one.
func (c *chain) end() error {
	if c.begun && c.at != c.rows.last || !c.begun && c.rows.count > 0 && c.rows.last >= c.from {
		return errors.New("the rows behind the last one are missing")
	}
	return nil
}
