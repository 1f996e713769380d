package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

// healthz answers as long as the process can: 200 while the member works, 503
// once a broken disk has stopped it. It says nothing about the cluster, so
// that an outage of the cluster does not make a supervisor kill its members.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeHealth(w, s.Err())
}

// readyz answers 200 while a request sent here can be answered: the member
// belongs to a cluster, there is a leader, and it is not shutting down. With
// ?noleader it does not ask for a leader, which suits rolling restarts.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, s.ready(!r.URL.Query().Has("noleader")))
}

func writeHealth(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, err) // the asker has gone: nobody is left to tell
		return
	}
	_, _ = fmt.Fprintln(w, "ok") // likewise
}

// ready says what keeps the member from answering, nil when nothing does.
func (s *Server) ready(leader bool) error {
	if err := s.Err(); err != nil {
		return err
	}
	if s.closing.Load() {
		return errors.New("shutting down")
	}
	if _, formed := s.node.Store().Cluster(); !formed {
		return errors.New("not a member of a cluster yet")
	}
	if _, address := s.node.Leader(); leader && address == "" {
		return errors.New("no leader")
	}
	return nil
}

// Check answers the health protocol of gRPC for the whole server, which is
// the empty name, and for the Tracker service.
func (s *Server) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if req.Service != "" && req.Service != dmtv1connect.TrackerName {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("unknown service %q", req.Service))
	}
	status := grpchealth.StatusServing
	if s.ready(true) != nil {
		status = grpchealth.StatusNotServing
	}
	return &grpchealth.CheckResponse{Status: status}, nil
}
