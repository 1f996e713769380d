package main

import (
	"io"
	"strconv"
	"strings"
	"unicode"
)

// streams are what a command reads and writes, so that a test runs it
// without a process.
type streams struct {
	In  io.Reader
	Out io.Writer // results
	Err io.Writer // everything else

	// Whether a person watches them.
	OutTerminal, ErrTerminal bool
}

// printable returns s with everything that is not a visible character escaped,
// as Go does, except line ends: names come from outside, and a terminal obeys.
func printable(s string) string {
	clean := func(r rune) bool { return r == '\n' || unicode.IsPrint(r) && r != unicode.ReplacementChar }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], string(unicode.ReplacementChar)):
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i]), 16)) // a byte that is no UTF-8
		case clean(r), r == unicode.ReplacementChar:
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// cell is printable for one cell of a table, where line ends are escaped too.
func cell(s string) string {
	return strings.ReplaceAll(printable(s), "\n", `\n`)
}
