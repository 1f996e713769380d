package raftfsm

import (
	"fmt"
	"time"
)

// CheckAge returns ErrTooStale when the state of this member may be further
// behind the cluster than most. 0 accepts any age.
func (n *Node) CheckAge(most time.Duration) error {
	if age := n.age(); most > 0 && age > most {
		return fmt.Errorf("%w: %v, at most %v", ErrTooStale, age.Round(time.Millisecond), most)
	}
	return nil
}
