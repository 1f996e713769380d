package main

import (
	"fmt"
	"io"
)

// maxComplaints is how many bad lines of one input are named: enough to see
// what is wrong, few enough to be read.
const maxComplaints = 20

// complain names the nth bad line of an input on stderr.
func complain(w io.Writer, n int, format string, args ...any) {
	switch {
	case n < maxComplaints:
		fmt.Fprintf(w, "dmt: %s\n", printable(fmt.Sprintf(format, args...)))
	case n == maxComplaints:
		fmt.Fprintf(w, "dmt: %s\ndmt: further ones are only counted\n", printable(fmt.Sprintf(format, args...)))
	}
}
