package storage

import (
	"errors"

	"github.com/distributed-median-tracker/dmt/window"
)

// links follows the chain of a metric's rows in a tier through a span, and knows
// when one is missing.
type links struct {
	width window.Width
	from  int64 // the span's
	ends  chain
	at    int64 // start of the last row seen
	begun bool  // a row was seen
}

// follow checks that row comes right behind the last one, or is the first of the
// span.
func (c *links) follow(start int64, row *fleetRow) error {
	before, ok := row.before(start, c.width)
	switch {
	case c.begun && (!ok || before != c.at), !c.begun && ok && before >= c.from:
		return errChain
	case !ok && start != c.ends.first:
		return errChain
	}
	c.begun, c.at = true, start
	return nil
}

// end checks that the last row seen is the metric's last one.
func (c *links) end() error {
	if c.begun && c.at != c.ends.last || !c.begun && c.ends.some && c.ends.last >= c.from {
		return errors.New("the rows behind the last one are missing")
	}
	return nil
}
