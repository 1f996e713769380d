package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/distributed-median-tracker/dmt/internal/api"
)

// output is how results are written.
type output struct {
	format string
	json   bool
	utc    bool
}

func (o *output) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "`format` of results: table, json or csv")
	cmd.Flags().BoolVar(&o.json, "json", false, "the same as -o json")
	cmd.Flags().BoolVar(&o.utc, "utc", false, "times of tables in UTC instead of local time")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp)))
}

// check refuses formats that are not there, before anything is asked.
func (o *output) check() error {
	if o.json {
		o.format = "json"
	}
	switch o.format {
	case "table", "json", "csv":
		return nil
	}
	return usagef("-o: %q is none of table, json, csv", o.format)
}

// time writes a time for people in a table, and for programs elsewhere.
func (o *output) time(unix int64) string {
	if o.format == "table" && !o.utc {
		return time.Unix(unix, 0).Local().Format("2006-01-02 15:04:05 -0700")
	}
	return time.Unix(unix, 0).UTC().Format(time.RFC3339)
}

// table is a result for people and spreadsheets.
type table struct {
	header []string // as in JSON: snake_case
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes a result: m for -o json, t for the others.
func (o *output) write(w io.Writer, t table, m proto.Message) error {
	switch o.format {
	case "json":
		b, err := api.MarshalJSON(m)
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	case "csv":
		return t.writeCSV(w)
	}
	return t.writeText(w)
}

// writeList writes a list of things: for -o json one object with the list
// under its name.
func (o *output) writeList(w io.Writer, t table, name string, list []proto.Message) error {
	if o.format != "json" {
		return o.write(w, t, nil)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{%q:[`, name)
	for i, m := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		one, err := api.MarshalJSON(m)
		if err != nil {
			return err
		}
		b.Write(one)
	}
	b.WriteString("]}\n")
	_, err := w.Write(b.Bytes())
	return err
}

func (t *table) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	if err := c.Write(t.header); err != nil {
		return err
	}
	// WriteAll flushes.
	return c.WriteAll(t.rows)
}

// writeText aligns the columns. Without rows there is nothing to align, and
// stdout stays empty.
func (t *table) writeText(w io.Writer) error {
	if len(t.rows) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells []string, f func(string) string) {
		out := make([]string, len(cells))
		for i, c := range cells {
			out[i] = f(c)
		}
		// The writer keeps its first error for Flush.
		_, _ = fmt.Fprintln(tw, strings.Join(out, "\t"))
	}
	line(t.header, func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "_", " ")) })
	for _, r := range t.rows {
		line(r, cell)
	}
	return tw.Flush()
}

// bytes writes a size: for people in a table, a number elsewhere.
func (o *output) bytes(n int64) string {
	if o.format != "table" {
		return fmt.Sprint(n)
	}
	return size(n)
}

// size writes a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// grouped writes a count with its digits in threes, for people.
func grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// must is for errors that only a bug in this program can cause.
func must(err error) {
	if err != nil {
		panic("dmt: " + err.Error())
	}
}
