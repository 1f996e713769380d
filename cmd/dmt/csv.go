package main

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
	"github.com/distributed-median-tracker/dmt/window/sketch"
)

// columns name what load needs of a file, as its header has them.
type columns struct {
	time, node, value string
}

// row is one measurement.
type row struct {
	unix  int64
	node  string
	value sketch.Number
}

// brokenLine is a line that is no row. Reading goes on behind it.
type brokenLine struct {
	line int
	err  error
}

func (e *brokenLine) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }

// rowReader reads rows line by line. A row ends with its line, also inside
// quotes: so a quote that is never closed costs one row, not the rest of the
// file, and memory is bounded by a line.
type rowReader struct {
	lines             *bufio.Reader
	line              int
	fields            int // in the header
	time, node, value int // their positions
}

// openRows opens a CSV file, compressed or not, and reads its header. Every
// byte read from the file is told to progress.
func openRows(name string, c columns, progress io.Writer) (*rowReader, io.Closer, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	r, err := newRows(io.TeeReader(f, progress), c)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return r, f, nil
}

func newRows(in io.Reader, c columns) (*rowReader, error) {
	b := bufio.NewReaderSize(in, maxLine)
	// A file is compressed if it begins like one, whatever it is called.
	if magic, err := b.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		b = bufio.NewReaderSize(z, maxLine)
	}
	r := &rowReader{lines: b}
	text, err := r.next()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("empty: no header")
	}
	if err != nil {
		return nil, err
	}
	header, err := split(strings.TrimPrefix(text, "\ufeff"))
	if err != nil {
		return nil, err
	}
	r.fields = len(header)
	find := func(name string) int {
		i := slices.Index(header, name)
		if i < 0 {
			err = errors.Join(err, fmt.Errorf("no column %q in the header %q", name, header))
		}
		return i
	}
	r.time, r.node, r.value = find(c.time), find(c.node), find(c.value)
	return r, err
}

// next returns one line without its end. Too long a line is skipped to its
// end and returned as broken.
func (r *rowReader) next() (string, error) {
	r.line++
	text, more, err := r.lines.ReadLine()
	if err != nil {
		return "", err
	}
	if !more {
		return string(text), nil
	}
	for more && err == nil {
		_, more, err = r.lines.ReadLine()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return "", &brokenLine{r.line, fmt.Errorf("longer than %d bytes", maxLine)}
}

// read returns the next row, io.EOF after the last one, a *brokenLine for a
// line that is none, and any other error when the file cannot be read on.
func (r *rowReader) read() (row, error) {
	for {
		text, err := r.next()
		if err != nil {
			return row{}, err
		}
		if text == "" {
			continue
		}
		v, err := r.parse(text)
		if err != nil {
			return row{}, &brokenLine{r.line, err}
		}
		return v, nil
	}
}

func (r *rowReader) parse(text string) (row, error) {
	cells, err := split(text)
	if err != nil {
		return row{}, err
	}
	if len(cells) != r.fields {
		return row{}, fmt.Errorf("%d fields, the header has %d", len(cells), r.fields)
	}
	var v row
	if v.unix, err = parseStamp(strings.TrimSpace(cells[r.time])); err != nil {
		return row{}, err
	}
	v.node = cells[r.node]
	if err := window.CheckNode(v.node); err != nil {
		return row{}, err
	}
	if v.value, err = sketch.ParseNumber(strings.TrimSpace(cells[r.value])); err != nil {
		return row{}, fmt.Errorf("value %.40q is not a finite decimal number", cells[r.value])
	}
	return v, nil
}

// parseStamp reads unix seconds or RFC 3339.
func parseStamp(s string) (int64, error) {
	unix, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return 0, fmt.Errorf("time %.40q is neither unix seconds nor RFC 3339", s)
		}
		unix = t.Unix()
	}
	if unix < window.MinTime || unix >= window.MaxTime {
		return 0, fmt.Errorf("time %s is outside the years 1 to 9999", s)
	}
	return unix, nil
}

// split returns the fields of one line.
func split(text string) ([]string, error) {
	if !strings.Contains(text, `"`) {
		return strings.Split(text, ","), nil
	}
	r := csv.NewReader(strings.NewReader(text))
	cells, err := r.Read()
	if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
		err = parse.Err // it would say "line 1"
	}
	return cells, err
}
