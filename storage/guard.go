package storage

import (
	"fmt"
	"runtime/debug"
)

// guarded runs fn and turns a panic into an error. bbolt panics on some damaged
// pages, and reading a mapped page that the disk cannot deliver, or that lies
// behind the end of the file, is a fault: both are damage to be named, not a
// reason to end the process.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case callerPanic:
			panic(r.value)
		default:
			err = fmt.Errorf("page structure: %v", r)
		}
	}()
	return fn()
}

// callerPanic is a panic of a caller's function below guarded: not ours to hide.
type callerPanic struct{ value any }

// calling runs a caller's function below guarded.
func calling(fn func() error) error {
	defer func() {
		if r := recover(); r != nil {
			panic(callerPanic{r})
		}
	}()
	return fn()
}
