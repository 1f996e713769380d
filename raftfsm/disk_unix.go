//go:build unix

package raftfsm

import "golang.org/x/sys/unix"

// freeDisk is the space that this process may still use where path lies, or -1.
func freeDisk(path string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return -1
	}
	return int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // types differ by system
}
