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
	if n <= maxComplaints {
		say(w, "dmt: "+format, args...)
	}
	if n == maxComplaints {
		say(w, "dmt: further ones are only counted")
	}
}

// say writes a line for a person, to stderr. Names in it come from outside and
// may not steer the terminal. Where stderr cannot be written there is nobody
// to tell.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintln(w, printable(fmt.Sprintf(format, args...)))
}
