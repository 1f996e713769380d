package storage

import (
	"slices"

	"github.com/distributed-median-tracker/dmt/window"
)

// source is one bucket of the metric: its fleet row, the head's deltas in it, or
// both.
type source struct {
	window.Bucket
	tier  int
	row   fleetRow // empty where the file has none
	cells []bucketView
}

// sources calls fn for every bucket of the metric in the cover, oldest first. The
// fleet tables tell which buckets there are: they have a row for each. What the
// head alone has comes in base buckets.
func (s *search) sources(fn func(source) error) error {
	rest := s.cells
	for _, run := range s.runs {
		var err error
		if rest, err = s.inRun(run, rest, fn); err != nil {
			return err
		}
	}
	return nil
}

// inRun calls fn for the buckets of one run, and returns the cells behind it.
func (s *search) inRun(run window.Run, cells []bucketView, fn func(source) error) ([]bucketView, error) {
	base := s.cluster.Tiers.Base()
	for len(cells) > 0 && cells[0].start < run.Span.From {
		cells = cells[1:]
	}
	next := func(until int64) error {
		for len(cells) > 0 && cells[0].start < until {
			n := before(cells, cells[0].start+1)
			if err := fn(source{Bucket: base.Bucket(cells[0].start), cells: cells[:n]}); err != nil {
				return err
			}
			cells = cells[n:]
		}
		return nil
	}
	tier := slices.IndexFunc(s.cluster.Tiers, func(t window.Tier) bool { return t.Width == run.Width })
	err := s.fleetScan(tier, run.Span, func(b window.Bucket, row fleetRow) error {
		if err := next(b.Start); err != nil {
			return err
		}
		n := before(cells, b.End())
		src := source{Bucket: b, tier: tier, row: row, cells: cells[:n]}
		cells = cells[n:]
		return fn(src)
	})
	if err != nil {
		return nil, err
	}
	return cells, next(run.Span.To)
}

// fleetScan calls fn for a tier's fleet rows of the metric in a span.
func (s *search) fleetScan(tier int, span window.Span, fn func(window.Bucket, fleetRow) error) error {
	w := s.cluster.Tiers[tier].Width
	table := fleetTable(w)
	t, err := s.fleetTable(s.metric, &s.row, tier)
	if t == nil {
		return err
	}
	links := links{width: w, from: span.From, ends: s.row.chain(tier)}
	c := t.Cursor()
	from := fleetKey{s.metric.number, span.From}
	for key, value := c.Seek(from.append(nil)); key != nil; key, value = c.Next() {
		k, err := parseFleetKey(key)
		if err != nil {
			return s.damaged(table, window.AllNodes, w.Bucket(span.From), err)
		}
		if k.metric != s.metric.number {
			break // or a damaged key: then the end of the chain is missing
		}
		b := window.Bucket{Start: k.start, Width: w}
		row, err := parseFleetRow(table, key, value)
		if err != nil {
			return s.damaged(table, window.AllNodes, b, err)
		}
		if err := links.follow(k.start, &row); err != nil {
			return s.damaged(table, window.AllNodes, b, err)
		}
		if k.start >= span.To {
			return nil
		}
		if err := fn(b, row); err != nil {
			return err
		}
	}
	if err := links.end(); err != nil {
		return s.damaged(table, window.AllNodes, w.Bucket(span.From), err)
	}
	return nil
}

// before returns how many of the cells, which are sorted, start before t.
func before(cells []bucketView, t int64) int {
	n := 0
	for n < len(cells) && cells[n].start < t {
		n++
	}
	return n
}

// sameStart returns how many of the first cells are of one bucket.
func sameStart(cells []bucketView) int { return before(cells, cells[0].start+1) }
