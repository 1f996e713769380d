package raftfsm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// ServeHTTP answers GET /raft. Everything is checked before the connection is
// taken over; who is refused gets a plain HTTP answer, and no byte of theirs
// reaches Raft's decoder.
func (l *streamLayer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status, reason := l.checkUpgrade(r); status != 0 {
		if status == http.StatusUpgradeRequired {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", upgradeProtocol)
		}
		http.Error(w, reason, status)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot be taken over", http.StatusInternalServerError)
		return
	}
	c, err := l.track(conn, rw.Reader)
	if err != nil {
		return // shutting down: track closed it
	}
	if err := welcome(c, rw.Writer); err != nil {
		_ = c.Close() // the peer dials again
		return
	}
	select {
	case l.accept <- c:
	case <-l.done:
		_ = c.Close() // Close of the layer may have come before track
	}
}

// welcome answers 101 and removes the deadlines that the HTTP server had set.
func welcome(c *streamConn, w *bufio.Writer) error {
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	_, err := io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgradeProtocol+"\r\n\r\n")
	if err := errors.Join(err, w.Flush()); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// checkUpgrade returns 0, or the status and reason of a refusal.
func (l *streamLayer) checkUpgrade(r *http.Request) (int, string) {
	ours := l.names.clusterID()
	switch theirs := r.Header.Get(headerCluster); {
	case r.Method != http.MethodGet:
		return http.StatusMethodNotAllowed, "raft streams are opened by GET"
	case r.ProtoMajor != 1:
		return http.StatusHTTPVersionNotSupported, "raft streams are opened over HTTP/1.1"
	case !headerHas(r.Header, "Connection", "upgrade") || r.Header.Get("Upgrade") != upgradeProtocol:
		return http.StatusUpgradeRequired, "want Upgrade: " + upgradeProtocol
	case r.ContentLength != 0:
		return http.StatusBadRequest, "a raft stream is opened without a body"
	case ours == "":
		return http.StatusServiceUnavailable, "this member has not joined a cluster yet"
	case theirs != ours:
		return http.StatusConflict, fmt.Sprintf("cluster id %.*q, this cluster is %q", maxClusterID, theirs, ours)
	case r.Header.Get(headerGroup) != "0":
		return http.StatusNotFound, "unknown raft group"
	case !validServerID(r.Header.Get(headerMember)):
		return http.StatusBadRequest, headerMember + ": want id@uuid"
	case r.Header.Get(headerTarget) != string(l.names.self()):
		return http.StatusMisdirectedRequest, fmt.Sprintf("%s is not this member, which is %s", headerTarget, l.names.self())
	}
	return 0, ""
}

func validServerID(s string) bool {
	id, uuid := splitServerID(raft.ServerID(s))
	return validID(id) && validUUID(uuid)
}

// headerHas says whether a comma-separated header names a token.
func headerHas(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}
