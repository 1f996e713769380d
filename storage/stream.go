package storage

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	// A stream pins pages of the file, which grows meanwhile: one slower than
	// slowBytes in slowTime is cut.
	slowTime  = 30 * time.Second
	slowBytes = 4 << 20 * 30

	streamBuffer = 1 << 20
)

// Stream writes the flushed file to w, from one read transaction and without a
// copy of the database. What the head holds is not part of it.
func (db *DB) Stream(ctx context.Context, w io.Writer) (n int64, err error) {
	r, _, _, err := db.OpenStream(ctx)
	if err != nil {
		return 0, err
	}
	n, err = io.CopyBuffer(w, onlyReader{r}, make([]byte, streamBuffer))
	return n, errors.Join(err, r.Close())
}

// onlyReader keeps io.Copy to the buffer that it was given.
type onlyReader struct{ io.Reader }

// OpenStream returns the flushed file as a stream of size bytes, and what it
// holds. The stream has to be closed. Close of the DB, the end of ctx and a
// reader slower than 4 MiB/s over 30 s cut it: Read then returns ErrClosed, the
// error of ctx, or ErrSlow.
func (db *DB) OpenStream(ctx context.Context) (io.ReadCloser, FlushedState, int64, error) {
	s := &stream{db: db}
	db.mu.Lock()
	err := db.usable()
	if err == nil {
		s.gen = db.gen
		s.gen.acquire() // the current generation is not retired
		db.streams[s] = struct{}{}
	}
	db.mu.Unlock()
	if err != nil {
		return nil, FlushedState{}, 0, err
	}
	var f FlushedState
	s.mu.Lock()
	err = guarded(func() error {
		if s.err != nil {
			return s.err // cut already
		}
		var err error
		if s.tx, err = s.gen.bolt.Begin(false); err != nil {
			return err
		}
		s.size = s.tx.Size()
		s.front, err = metaPages(s.tx, 2*s.gen.bolt.Info().PageSize)
		if err == nil {
			f, err = flushed(s.tx)
		}
		return err
	})
	s.watchdog = time.AfterFunc(slowTime, s.watch)
	s.uncancel = context.AfterFunc(ctx, func() { s.cut(ctx.Err()) })
	s.mu.Unlock()
	if err != nil {
		s.cut(err)
		return nil, FlushedState{}, 0, err
	}
	return s, f, s.size, nil
}

// metaPages returns the two pages at the front of the file as they were when the
// transaction began. In the file they may be newer; all others are as they were.
func metaPages(tx *bbolt.Tx, size int) ([]byte, error) {
	w := &frontWriter{limit: size}
	if _, err := tx.WriteTo(w); len(w.b) < size {
		return nil, errors.Join(errors.New("no meta pages"), err)
	}
	return w.b, nil
}

// frontWriter keeps the first limit bytes and ends the copy there.
type frontWriter struct {
	b     []byte
	limit int
}

var errEnough = errors.New("enough")

func (w *frontWriter) Write(p []byte) (int, error) {
	if len(w.b) >= w.limit {
		return 0, errEnough
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// stream reads the pages of one transaction. No lock is held while its reader
// does something else, so that it can be cut at any time.
type stream struct {
	db       *DB
	uncancel func() bool
	watchdog *time.Timer

	mu    sync.Mutex // guards what follows
	gen   *generation
	tx    *bbolt.Tx
	ended bool // tx and gen are given back
	front []byte
	size  int64
	at    int64
	moved int64 // at when the watchdog last looked
	err   error
}

// Read reads the next bytes of the file.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	n, err := 0, error(nil)
	if s.at < int64(len(s.front)) {
		n = copy(p, s.front[s.at:])
	} else {
		p = p[:min(int64(len(p)), s.size-s.at)]
		n, err = s.gen.file.ReadAt(p, s.at)
	}
	s.at += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF // the file is shorter than its pages
	case err == nil && s.at == s.size:
		s.err = io.EOF
		s.end()
	}
	return n, err
}

// Close gives back what the stream holds.
func (s *stream) Close() error {
	s.cut(ErrClosed)
	s.uncancel()
	s.watchdog.Stop()
	s.db.mu.Lock()
	delete(s.db.streams, s)
	s.db.mu.Unlock()
	return nil
}

// cut ends the stream: its reader gets err.
func (s *stream) cut(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.end()
}

func (s *stream) end() {
	if s.ended {
		return
	}
	s.ended = true
	if s.tx != nil {
		// A read transaction that ends twice is the only error there is.
		_ = s.tx.Rollback()
	}
	s.gen.release()
}

func (s *stream) watch() {
	s.mu.Lock()
	slow := s.at-s.moved < slowBytes
	s.moved = s.at
	ended := s.ended
	s.mu.Unlock()
	switch {
	case ended:
	case slow:
		s.db.log.Warn("stream cut", "error", ErrSlow, "at", s.moved, "size", s.size)
		s.cut(ErrSlow)
	default:
		s.watchdog.Reset(slowTime)
	}
}
