//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package storage

import (
	"os"
	"syscall"
)

// unlock gives up the lock of a file that bbolt has left open in a panic.
// Closing is not enough: the mapping it left behind keeps the lock alive.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
