package storage

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("storage: closed")

	// ErrLocked is returned by Open when another process has the file open.
	ErrLocked = errors.New("storage: the file is in use by another process")

	// ErrFailed is returned by every method after the first write or sync that
	// failed. The process has to stop: what the disk holds is not known.
	ErrFailed = errors.New("storage: stopped after a failed write")

	// ErrNotInitialised is returned while no KindInit was applied.
	ErrNotInitialised = errors.New("storage: not initialised: not a member of a cluster yet")

	// ErrCluster is returned by Replace for a file of another cluster.
	ErrCluster = errors.New("storage: the file belongs to another cluster")

	// ErrSlow is returned by a stream that was cut because its reader is slow.
	ErrSlow = errors.New("storage: stream cut: slower than 4 MiB/s for 30 s")
)

// DamagedError says that stored bytes are not what was written. What was asked
// for cannot be answered; nothing was guessed.
type DamagedError struct {
	// Table names the table, "nodes/10s" for example.
	Table string
	// Key names the record in words: metric, node and bucket where it has them.
	Key string
	Err error
}

// Error returns the table, the key and the cause.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("storage: damaged record in %s: %s: %v", e.Table, e.Key, e.Err)
}

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Err }
