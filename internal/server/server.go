// Package server is one member as a process sees it: it opens the data
// directory, listens on the one port, answers the API there and hands the Raft
// connections that arrive on it to the member.
//
// It promises:
//
//   - Every byte from outside is bounded before it is allocated and validated
//     before the log. A request is refused whole, with a typed error that names
//     the field, or counted whole; only the time of a bucket is judged entry by
//     entry, by the leader, once.
//   - A request may be sent to any member. A follower passes writes on to the
//     leader and holds them through an election; a batch keeps its name over
//     every retry, so it is counted once. Questions are answered by the member
//     that is asked.
//   - Errors have one of the Connect codes with a detail {reason, field, limit,
//     leader, retry_after_ms}; a refused request leaves its connection usable.
//   - Shutdown hands over leadership, then finishes what it has begun.
//   - Without TLS, which is for later, it does not listen beyond loopback
//     unless told to.
//
// What is counted, in which order and how durably, it leaves to package raftfsm;
// the wire itself to internal/api.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-median-tracker/dmt/raftfsm"
)

// Options say where a member listens and how it runs. Raft.Dir is required.
type Options struct {
	// Listen is the host:port to listen on. Port 0 takes any that is free.
	// Empty is 127.0.0.1:7171.
	Listen string

	// Listener is used instead of Listen. The server closes it.
	Listener net.Listener

	// Advertise is the host:port that clients and members dial. Empty is the
	// address listened on.
	Advertise string

	// Insecure permits to listen beyond loopback, where everybody who reaches
	// the port may read, write and remove members.
	Insecure bool

	// Raft tunes the member. Address and Peers are filled in by the server, so
	// are Logger and OnFatal where they are nil.
	Raft raftfsm.Options

	// Dial opens connections to other members, for requests and for Raft.
	// Nil is net.Dialer.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// Logger receives what an operator should read. Nil discards.
	Logger *slog.Logger
}

// DefaultListen is where a member listens unless told otherwise.
const DefaultListen = "127.0.0.1:7171"

// Server is a running member. All methods are safe for concurrent use.
type Server struct {
	log       *slog.Logger
	advertise string
	version   string
	node      *raftfsm.Node
	http      *http.Server
	peers     *peers
	leaders   *leaders
	lanes     lanes
	serving   sync.WaitGroup

	closing  atomic.Bool
	stopOnce sync.Once
	stopErr  error

	done    chan struct{} // closed when err is set
	stopped chan struct{} // closed by Shutdown and Kill

	mu  sync.Mutex // guards err
	err error
}

// Start opens the member and serves it. When it returns, requests are
// answered; forming or joining a cluster goes on in the background, see
// WaitReady. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	listener, advertise, err := listen(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Logger, advertise: advertise, version: o.Raft.Version, done: make(chan struct{}), stopped: make(chan struct{})}
	s.peers = newPeers(s, o.Dial)
	if s.node, err = raftfsm.Open(s.raftOptions(o)); err != nil {
		_ = listener.Close() // nothing was accepted yet; the first error says more
		return nil, fmt.Errorf("open member: %w", err)
	}
	close(s.peers.opened)
	s.lanes.now = s.node.Now
	s.leaders = watchLeaders(s.node.Leader)
	s.http = newHTTPServer(s)
	s.serving.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("serve %s: %w", listener.Addr(), err))
		}
	})
	s.serving.Go(s.cutOffWhenBroken)
	s.log.Info("serving", "address", advertise, "id", s.node.ID())
	return s, nil
}

func (s *Server) raftOptions(o Options) raftfsm.Options {
	r := o.Raft
	r.Address = s.advertise
	r.Peers = s.peers
	r.Dial = o.Dial
	if r.Logger == nil {
		r.Logger = o.Logger
	}
	told := r.OnFatal
	r.OnFatal = func(err error) {
		s.fail(err)
		if told != nil {
			told(err)
		}
	}
	return r
}

// Addr returns the address that clients and members dial.
func (s *Server) Addr() string { return s.advertise }

// Node returns the member itself, for tests and tools in this process.
func (s *Server) Node() *raftfsm.Node { return s.node }

// WaitReady returns when the member belongs to a cluster that has a leader, or
// with the reason why not when ctx ends.
func (s *Server) WaitReady(ctx context.Context) error {
	if err := s.node.WaitReady(ctx); err != nil {
		return fmt.Errorf("member %s: %w", s.node.ID(), err)
	}
	return nil
}

// Done is closed when the server has stopped by itself, because of a broken
// disk or listener. Err says why.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server has stopped by itself, nil while it has not.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail records the first fatal error. It is called from inside the member
// too, so it waits for nothing.
func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	s.log.Error("member stopped", "error", err)
	close(s.done)
}

// cutOffWhenBroken closes every connection once the member has failed: with a
// broken disk it must not answer.
func (s *Server) cutOffWhenBroken() {
	select {
	case <-s.stopped:
	case <-s.done:
		_ = s.http.Close() // the error that broke the member says more
	}
}

// shutdownDrain bounds how long requests that were begun may take to finish
// when the caller of Shutdown set no deadline.
const shutdownDrain = 15 * time.Second

// Shutdown hands leadership to another member, finishes the requests that were
// begun, and closes the member. It may be called twice, also after Kill. ctx
// bounds the first two; the member is closed in any case.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.closing.Store(true)
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, shutdownDrain)
			defer cancel()
		}
		if err := s.handOver(ctx); err != nil {
			s.log.Warn("leadership not handed over", "error", err)
		}
		drained := s.http.Shutdown(ctx)
		if drained != nil {
			drained = errors.Join(fmt.Errorf("finish requests: %w", drained), s.http.Close())
		}
		s.stopErr = errors.Join(drained, s.node.Shutdown(ctx))
		s.release()
	})
	return s.stopErr
}

// handOver transfers leadership while requests are still answered, so that
// they are forwarded to the next leader instead of refused.
func (s *Server) handOver(ctx context.Context) error {
	if !s.node.IsLeader() {
		return nil
	}
	voters := 0
	for _, m := range s.node.Members() {
		if m.Voter {
			voters++
		}
	}
	if voters < 2 {
		return nil
	}
	return s.node.Transfer(ctx, "")
}

// Kill stops the server as the death of its process would: connections are
// cut, nothing is flushed or handed over. For tests.
func (s *Server) Kill() {
	s.stopOnce.Do(func() {
		s.closing.Store(true)
		_ = s.http.Close() // a dying process closes nothing either
		s.node.Kill()
		s.release()
	})
}

// release ends what Start began besides the node and the listener.
func (s *Server) release() {
	close(s.stopped)
	s.leaders.close()
	s.peers.close()
	s.serving.Wait()
}
