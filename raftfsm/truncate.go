package raftfsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// maxHeldLog is how large the log may grow while a snapshot streams to another
// member and for a minute after: cut before the receiver asks for what follows,
// and it needs the next snapshot at once, and so on for ever.
const maxHeldLog = 4 << 30

// truncate takes a snapshot, which is a flush, whenever the log has too many
// entries or bytes.
func (n *Node) truncate() {
	ticker := time.NewTicker(n.o.SnapshotInterval)
	defer ticker.Stop()
	var last time.Time
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-ticker.C:
		case <-n.logs.grown:
			// Between two looks only a burst matters, and that once a second.
			if time.Since(last) < time.Second {
				continue
			}
		}
		if !n.tooLong() {
			continue
		}
		last = time.Now()
		if err := n.Snapshot(n.ctx); err != nil && n.ctx.Err() == nil {
			n.log.Warn("log was not cut", "error", err)
		}
	}
}

func (n *Node) tooLong() bool {
	entries, bytes := n.logs.size()
	if entries < n.o.SnapshotEntries+n.o.TrailingLogs && bytes < n.o.SnapshotBytes {
		return false
	}
	return bytes > maxHeldLog || !n.snaps.streaming()
}

// Snapshot flushes the state and cuts the log behind it, now. What stays is
// TrailingLogs entries, or as many as half of SnapshotBytes holds.
func (n *Node) Snapshot(ctx context.Context) error {
	rc := n.raft.ReloadableConfig()
	rc.TrailingLogs = n.logs.trailing(n.o.TrailingLogs, n.o.SnapshotBytes/2)
	if err := n.raft.ReloadConfig(rc); err != nil {
		return fmt.Errorf("raftfsm: snapshot: %w", err)
	}
	err := n.await(ctx, func() raft.Future { return n.raft.Snapshot() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raftfsm: snapshot: %w", err)
	}
	return nil
}
