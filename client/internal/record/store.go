package record

import (
	"errors"
	"sync/atomic"
)

// Store keeps records through the end of a process. Its methods are called one
// at a time.
type Store interface {
	// Commit writes and removes records, all or none, and returns when that is
	// durable. After an error nobody knows what the file holds: only Rewrite
	// and Close may follow.
	Commit(put []Record, remove [][]byte) error

	// Rewrite makes the store hold these records and no others. An error with
	// swapped false has left the file as it was; with swapped true nobody knows.
	Rewrite(all []Record) (swapped bool, err error)

	// Close gives the store up.
	Close() error
}

// Found is what a store held when it was opened.
type Found struct {
	Records []Record
	Damage  []error // what could not be read, each naming what
}

// Opener opens the store in a directory.
type Opener func(dir string) (Store, Found, error)

var opener atomic.Pointer[Opener]

// Register makes stores available to Open. Package client/spool does.
func Register(open Opener) { opener.Store(&open) }

// ErrNoStore says that the program holds no implementation.
var ErrNoStore = errors.New(`client: a spool was asked for, but the program is built without: ` +
	`add import _ "github.com/distributed-median-tracker/dmt/client/spool"`)

// Open opens the store in a directory by what was registered, or returns
// ErrNoStore.
func Open(dir string) (Store, Found, error) {
	open := opener.Load()
	if open == nil {
		return nil, Found{}, ErrNoStore
	}
	return (*open)(dir)
}
