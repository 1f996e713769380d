package client

import (
	"context"
	crand "crypto/rand"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-median-tracker/dmt/window"
)

const (
	defaultFlushEvery = 10 * time.Second
	defaultTimeout    = 5 * time.Second
	defaultInFlight   = 4
	maxInFlight       = 8
	defaultPending    = 64 << 20
	defaultSpoolAge   = 7 * 24 * time.Hour

	// minFlushEvery keeps the clock goroutine from spinning.
	minFlushEvery = time.Millisecond

	// jitterShare is the most by which a shipment is late on purpose, as a
	// share of its interval. More spreads a fleet better, less answers sooner.
	jitterShare = 0.1
)

// HTTPClient sends one request: *http.Client does, and so does a test's own.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// Options tune a Client. The zero value is right for production.
type Options struct {
	// FlushEvery is how often a recorder ships what it has counted, unless its
	// own options say otherwise. 0 means 10 s, the width of a bucket: every
	// bucket is then shipped once. Shorter shows values sooner and ships a
	// bucket in several parts; longer ships several buckets at once.
	FlushEvery time.Duration

	// MaxInFlight is how many batches may be on their way at once. 0 means 4;
	// the most is 8.
	MaxInFlight int

	// Timeout bounds one try of a request. 0 means 5 s.
	Timeout time.Duration

	// MaxPendingBytes bounds the memory of sketches that are not yet
	// acknowledged. 0 means 64 MiB. Past it the oldest buckets that were never
	// sent are merged into ones of a minute, and as that fills of ten minutes,
	// an hour and a day: no value is lost, but those are then found at the
	// beginning of their minute or hour. When that is not enough the oldest are
	// dropped. Stats and the logger tell of both, OnDrop of drops.
	MaxPendingBytes int64

	// Spool names a directory for what is not acknowledged yet, so that it
	// survives the process: see RecorderOptions.Spool. With it here, New fails
	// where it cannot be opened, and trackers spool without any Recorder.
	Spool string

	// SpoolBytes bounds the sketches in the spool; the file may be up to twice
	// as large. What is in the spool is in memory, too, so MaxPendingBytes
	// bounds it as well: the smaller counts, and is the default.
	SpoolBytes int64

	// SpoolAge is how long a sketch may wait in the spool before it is given up
	// and reported. 0 means 7 days, after which the cluster has forgotten
	// whether it had counted a batch; negative means for ever.
	SpoolAge time.Duration

	// Logger receives what an operator should read. Nil discards.
	Logger *slog.Logger

	// HTTPClient carries the requests. Nil means one of the client's own: it
	// keeps connections alive, and follows no redirects to other hosts.
	HTTPClient HTTPClient

	// OnDrop is told of every loss, in the background and one at a time: it
	// should be quick, and may not call Close. Nil means nobody is.
	OnDrop func(Dropped)
}

// Client talks to one cluster. It is safe for concurrent use, holds one
// identity under which every batch is counted exactly once, and must be closed.
type Client struct {
	options   Options
	log       *slog.Logger
	members   *members
	transport *transport
	random    func() float64 // in [0, 1)

	life context.Context // ends the background work
	end  context.CancelFunc
	work sync.WaitGroup // every goroutine of the client
	kick chan struct{}  // wakes the clock goroutine: something new to look at

	collect sync.Mutex // held while values are moved from recorders to the queue
	opening sync.Mutex // held while a spool is opened

	inherited account // of what an earlier process left in the spool

	openNow atomic.Int64 // same as open, for those without the lock

	mu       sync.Mutex // guards what follows
	accounts map[*account]struct{}
	open     int64   // start of the bucket that recorders count into, unix seconds
	jitter   float64 // of the shipments of this bucket, in [0, 1)
	ticking  bool    // the clock goroutine runs
	closed   bool    // no recorder may be added
	queue    queue
	spool    *spooler // nil without one
	cluster  cluster
	producer *producer
	inFlight int           // batches
	learning bool          // a goroutine asks for the cluster's settings
	failure  error         // of the last try, nil once one succeeded
	hurry    chan struct{} // closed to cut waits between tries short
	warned   time.Time     // of clock skew
	drops    []Dropped     // to be reported
	dropping bool          // a goroutine reports them
	reported bool          // Close has reported the last ones
	stats    Stats
}

// New returns a client of the cluster whose members are at addrs, each
// host:port or a URL with scheme http or https. One address is enough, since
// any member passes requests on; with all of them the client survives the loss
// of any. New does not use the network, so it fails only for an address that
// cannot be one, or options out of range.
func New(addrs []string, o Options) (*Client, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	t := newTransport(o.HTTPClient, o.MaxInFlight)
	m, err := newMembers(addrs, t)
	if err != nil {
		return nil, err
	}
	c := &Client{
		options:   o,
		log:       o.Logger,
		members:   m,
		transport: t,
		random:    rand.Float64,
		kick:      make(chan struct{}, 1),
		accounts:  make(map[*account]struct{}),
		producer:  newProducer(),
		hurry:     make(chan struct{}),
	}
	c.inherited = account{client: c, source: inherited{}, every: o.FlushEvery}
	c.life, c.end = context.WithCancel(context.Background())
	if o.Spool != "" {
		if err := c.openSpool(o.Spool); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (o *Options) fill() error {
	bad := func(field, message string) error {
		return &window.InputError{Field: field, Reason: "range", Message: message}
	}
	switch {
	case o.FlushEvery < 0:
		return bad("FlushEvery", "is negative")
	case o.MaxInFlight < 0 || o.MaxInFlight > maxInFlight:
		return bad("MaxInFlight", "is not in 0..8")
	case o.Timeout < 0:
		return bad("Timeout", "is negative")
	case o.MaxPendingBytes < 0:
		return bad("MaxPendingBytes", "is negative")
	case o.SpoolBytes < 0:
		return bad("SpoolBytes", "is negative")
	}
	orElse(&o.FlushEvery, defaultFlushEvery)
	o.FlushEvery = max(o.FlushEvery, minFlushEvery)
	orElse(&o.MaxInFlight, defaultInFlight)
	orElse(&o.Timeout, defaultTimeout)
	orElse(&o.MaxPendingBytes, defaultPending)
	orElse(&o.SpoolAge, defaultSpoolAge)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orElse[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// newIdentity returns 128 random bits.
func newIdentity() (id [16]byte) {
	// crypto/rand.Read never fails: it ends the process where it cannot work.
	_, _ = crand.Read(id[:])
	return id
}

// Flush returns nil when everything that was added before the call, through
// any recorder or tracker of the client, is counted by the cluster. An
// *UnsentError says what is still on its way when ctx ends; a *RefusedError
// (several are joined) says what was lost since the last Flush.
func (c *Client) Flush(ctx context.Context) error {
	c.mu.Lock()
	accounts := c.listAccounts()
	c.mu.Unlock()
	return c.flush(ctx, accounts)
}

// Close flushes all recorders and trackers, waits until everything is
// acknowledged or ctx ends, and then ends the client's background work. What
// could not be sent is in the *UnsentError and is reported to OnDrop; losses
// not reported before are joined to it. A second Close returns ErrClosed.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.closed = true
	accounts := c.listAccounts()
	c.mu.Unlock()

	for _, a := range accounts {
		a.source.shut()
	}
	unsent := c.settled(ctx, accounts)
	lost := c.takeLosses(accounts)
	for _, a := range accounts {
		if r, ok := a.source.(*Recorder); ok {
			lost = join(lost, r.openLocals())
		}
	}
	c.mu.Lock()
	c.end() // under the lock: no goroutine is started after it
	c.mu.Unlock()
	c.work.Wait()
	safe, spoolErr := c.closeSpool()
	values, batches := c.abandon(safe)
	c.reportDrops()
	c.mu.Lock()
	c.reported = true
	c.mu.Unlock()
	c.transport.close()
	if unsent == nil || values == 0 {
		return join(lost, spoolErr)
	}
	unsent.Values, unsent.Batches = values, batches
	if safe {
		unsent.Spooled = values
	}
	return join(unsent, lost, spoolErr)
}

// Stats returns what the client has done so far.
func (c *Client) Stats() Stats {
	c.collect.Lock() // or values on their way to the queue would be missing
	defer c.collect.Unlock()
	c.mu.Lock()
	accounts := c.listAccounts()
	s := c.stats.clone()
	s.PendingBytes = c.queue.bytes
	c.mu.Unlock()
	for _, a := range accounts {
		a.source.count(&s)
	}
	s.RawBytes = 8 * s.Values
	s.BytesSent, s.Requests = c.transport.sent.Load(), c.transport.requests.Load()
	return s
}
