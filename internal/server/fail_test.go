package server

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/distributed-median-tracker/dmt/raftfsm"
)

// A member whose disk is broken answers nobody, and says why it stopped.
func TestFail_CutsEverybodyOff(t *testing.T) {
	told := make(chan error, 2)
	srv, err := Start(context.Background(), Options{Listen: "127.0.0.1:0", Raft: raftfsm.Options{
		Dir: t.TempDir(), MinFreeDisk: -1, OnFatal: func(err error) { told <- err },
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := srv.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	get := func() error {
		res, err := http.Get("http://" + srv.Addr() + "/healthz")
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	if err := get(); err != nil {
		t.Fatalf("before: %v", err)
	}
	select {
	case <-srv.Done():
		t.Fatal("Done before anything failed")
	default:
	}
	broken := errors.New("disk: on fire")
	srv.raftOptions(Options{Raft: raftfsm.Options{OnFatal: func(err error) { told <- err }}}).OnFatal(broken)
	select {
	case <-srv.Done():
	case <-ctx.Done():
		t.Fatal("Done is not closed")
	}
	if err := srv.Err(); !errors.Is(err, broken) {
		t.Errorf("Err = %v, want %v", err, broken)
	}
	if err := <-told; !errors.Is(err, broken) {
		t.Errorf("OnFatal was told %v, want %v", err, broken)
	}
	srv.fail(errors.New("another")) // the first one stays
	if err := srv.Err(); !errors.Is(err, broken) {
		t.Errorf("Err = %v after another failure, want %v", err, broken)
	}
	for get() == nil {
		if ctx.Err() != nil {
			t.Fatal("the broken member answers")
		}
	}
	if err := srv.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}
