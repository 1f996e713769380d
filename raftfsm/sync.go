package raftfsm

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// broadcast wakes everybody who waits. Take wait before looking at the state
// that is waited for, or a change between the two is missed.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) fire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// tracker starts goroutines until it is closed, and waits for them then.
type tracker struct {
	mu     sync.Mutex // guards closed, and wg against Add during Wait
	closed bool
	wg     sync.WaitGroup
}

// start runs f in a goroutine, or reports false.
func (t *tracker) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

func (t *tracker) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}

// await waits for a future of Raft, which has no context. The goroutine that
// stays behind when ctx ends is waited for before Raft is shut down.
func (n *Node) await(ctx context.Context, start func() raft.Future) error {
	done := make(chan error, 1)
	if !n.calls.start(func() { done <- start().Error() }) {
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
