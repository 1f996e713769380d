package server

import (
	"compress/gzip"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
)

// errInflated ends the decompression of a body that is larger than any request.
var errInflated = errors.New("more bytes than a request may have")

// boundedGzip stops decompressing where the request is too large. Connect's
// own goes on to the end to say how large it would have been: the eight
// megabytes that a request may have can unfold to eight gigabytes, which keep
// a core busy for more than a second.
type boundedGzip struct {
	gzip.Reader
	left int
}

func (g *boundedGzip) Read(p []byte) (int, error) {
	if g.left <= 0 {
		return 0, errInflated
	}
	if len(p) > g.left {
		p = p[:g.left]
	}
	n, err := g.Reader.Read(p)
	g.left -= n
	return n, err
}

func (g *boundedGzip) Reset(r io.Reader) error {
	// One byte beyond is what tells too large from just large enough, one more
	// is what finds the end of a body of that length.
	g.left = api.MaxRequestBytes + 2
	return g.Reader.Reset(r)
}

// withBoundedGzip replaces Connect's gzip.
func withBoundedGzip() connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &boundedGzip{} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) })
}
