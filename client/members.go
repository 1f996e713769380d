package client

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
	"github.com/distributed-median-tracker/dmt/window"
)

// maxStrangers bounds the leaders' addresses that members told us of and that
// New was not given.
const maxStrangers = 16

// member is one address with its stub.
type member struct {
	base string
	dmtv1connect.TrackerClient
}

// members knows where to send: to the leader where a member named it, else to
// the last address that answered, else to the next one. Any member passes a
// request on, so the leader is a short cut and not a need.
type members struct {
	scheme string
	dial   func(base string) *member
	list   []*member

	mu        sync.Mutex // guards what follows
	at        int        // the member in use
	leader    *member    // in place of it; nil if not known
	strangers map[string]*member
}

func newMembers(addrs []string, t *transport) (*members, error) {
	if len(addrs) == 0 {
		return nil, &window.InputError{Field: "address", Reason: window.ReasonEmpty, Message: "no address given"}
	}
	m := &members{dial: t.dial, strangers: make(map[string]*member)}
	for _, a := range addrs {
		base, err := baseURL(a)
		if err != nil {
			return nil, err
		}
		m.list = append(m.list, t.dial(base))
	}
	m.scheme, _, _ = strings.Cut(m.list[0].base, "://")
	return m, nil
}

// baseURL checks an address: host:port, or a URL that has nothing but scheme,
// host and port.
func baseURL(addr string) (string, error) {
	bad := func(message string) (string, error) {
		return "", &window.InputError{Field: "address", Reason: "bad_address",
			Message: strconv.Quote(addr) + " " + message, Limit: "host:port"}
	}
	full := addr
	if !strings.Contains(addr, "://") {
		full = "http://" + addr
	}
	u, err := url.Parse(full)
	if err != nil {
		return bad("is not an address")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return bad("has a scheme that is neither http nor https")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return bad("has more than a host and a port")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return bad("has no host")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("has no port")
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port), nil
}

// pick returns whom to ask next.
func (m *members) pick() *member {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader != nil {
		return m.leader
	}
	return m.list[m.at]
}

// failed says that a member did not answer, or could not.
func (m *members) failed(who *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if who != m.leader && (m.leader != nil || who != m.list[m.at]) {
		return // another request has moved on already
	}
	// Not back to the member that named this leader: it would again.
	m.leader = nil
	m.at = (m.at + 1) % len(m.list)
}

// follow takes a leader's address from a member. It returns false where that
// leads nowhere: the address cannot be one, or is that of the member itself.
func (m *members) follow(from *member, address string) bool {
	base, err := baseURL(m.scheme + "://" + address)
	if err != nil || base == from.base {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.list {
		if e.base == base {
			m.leader = e
			return true
		}
	}
	e := m.strangers[base]
	if e == nil {
		if len(m.strangers) >= maxStrangers {
			clear(m.strangers)
		}
		e = m.dial(base)
		m.strangers[base] = e
	}
	m.leader = e
	return true
}

// transport carries requests and counts the bytes of those that hold sketches.
type transport struct {
	inner    HTTPClient
	own      *http.Transport // nil when the inner client was given
	sent     atomic.Uint64
	requests atomic.Uint64
}

// newTransport makes an HTTP client unless one is given. It speaks HTTP/1.1:
// a connection whose other end has gone silent dies with the first request
// that times out on it, and the next try gets a new one. An HTTP/2 connection
// would be kept, and every try be sent into the void.
func newTransport(given HTTPClient, inFlight int) *transport {
	if given != nil {
		return &transport{inner: given}
	}
	own := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   inFlight + 2,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
	return &transport{own: own, inner: &http.Client{
		Transport: own,
		// A member never redirects; what does is something else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (t *transport) Do(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, dmtv1connect.TrackerIngestProcedure) {
		t.requests.Add(1)
		if r.ContentLength > 0 {
			t.sent.Add(uint64(r.ContentLength))
		}
	}
	return t.inner.Do(r)
}

func (t *transport) dial(base string) *member {
	return &member{base: base, TrackerClient: dmtv1connect.NewTrackerClient(t, base,
		connect.WithSendGzip(),
		connect.WithCompressMinBytes(compressFrom),
		connect.WithReadMaxBytes(api.MaxResponseBytes))}
}

func (t *transport) close() {
	if t.own != nil {
		t.own.CloseIdleConnections()
	}
}
