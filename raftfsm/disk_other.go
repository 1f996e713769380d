//go:build !unix

package raftfsm

// freeDisk is not known here.
func freeDisk(string) int64 { return -1 }
