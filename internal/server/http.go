package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/distributed-median-tracker/dmt/internal/api"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

// times bound what one client may keep busy. None of them touches a Raft
// connection: net/http clears the deadlines of what is hijacked. A variable
// for tests only.
var times = struct{ readHeader, read, write, idle time.Duration }{
	// How long a client may take to say what it wants.
	readHeader: 5 * time.Second,
	// Header and body. 8 MiB in it are 140 KB/s.
	read: 60 * time.Second,
	// From the header to the end of the answer; the slowest questions, over
	// everything, take seconds.
	write: 90 * time.Second,
	// Until a connection that nobody uses is closed.
	idle: 2 * time.Minute,
}

const (
	// maxHeaderBytes is far more than any client sends.
	maxHeaderBytes = 64 << 10

	// compressFrom is the size from which answers are compressed for those who
	// ask. Compressing every acknowledgement, of 50 bytes, was a quarter of
	// the work of taking in a small batch (BenchmarkIngest, sketches=1).
	compressFrom = 4 << 10

	// maxStreams bounds the requests of one HTTP/2 connection at once.
	maxStreams = 250
)

// recovered answers a request whose handler panicked, which is a bug of ours:
// the operator gets the panic, the caller does not.
func (s *Server) recovered(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
	s.log.Error("panic in a request", "procedure", spec.Procedure, "panic", p, "stack", string(debug.Stack()))
	return connect.NewError(connect.CodeInternal, errors.New("internal error, see the log of the member"))
}

// newHTTPServer routes the one port.
func newHTTPServer(s *Server) *http.Server {
	options := append(api.Codecs(),
		connect.WithReadMaxBytes(api.MaxRequestBytes),
		connect.WithCompressMinBytes(compressFrom),
		withBoundedGzip(),
		connect.WithRecover(s.recovered),
	)
	mux := http.NewServeMux()
	mux.Handle(dmtv1connect.NewTrackerHandler(s, options...))
	mux.Handle(dmtv1connect.NewPeerHandler(peerService{s}, options...))
	mux.Handle(grpchealth.NewHandler(s))

	// Raft and health pass the admission of requests by: a member that is full
	// of requests must go on hearing its leader, and is not ill.
	root := http.NewServeMux()
	root.Handle("/raft", s.node.UpgradeHandler())
	root.HandleFunc("GET /healthz", s.healthz)
	root.HandleFunc("GET /readyz", s.readyz)
	root.Handle("/", &admission{next: mux, errors: connect.NewErrorWriter(options...)})

	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           root,
		Protocols:         protocols,
		ReadHeaderTimeout: times.readHeader,
		ReadTimeout:       times.read,
		WriteTimeout:      times.write,
		IdleTimeout:       times.idle,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		// What scanners send is not for operators.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}
