package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

const (
	benchMembers = 3

	// benchPatience bounds the wait for a member or an election.
	benchPatience = 30 * time.Second
	benchPoll     = 5 * time.Millisecond
)

// newBenchMemberCmd is serve for members that bench starts: it ends with its
// stdin, so that none is left behind whatever becomes of bench.
func newBenchMemberCmd(s streams) *cobra.Command {
	cmd := newServeCmd(s)
	serve := cmd.RunE
	cmd.Use, cmd.Hidden = "member", true
	profile := cmd.Flags().String("cpu-profile", "", "`file` for a CPU profile")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		// It is left behind when the member stops for another reason: a read
		// cannot be called off, and the process is at its end.
		go func() {
			_, _ = io.Copy(io.Discard, s.In) // whatever ends it, nobody is there any more
			cancel()
		}()
		if *profile != "" {
			f, err := os.Create(*profile)
			if err != nil {
				return err
			}
			if err := pprof.StartCPUProfile(f); err != nil {
				return errors.Join(err, f.Close())
			}
			defer func() {
				pprof.StopCPUProfile()
				err = errors.Join(err, f.Close())
			}()
		}
		cmd.SetContext(ctx)
		return serve(cmd, args)
	}
	return cmd
}

// benchCluster is a cluster of processes in a temporary directory.
type benchCluster struct {
	args    *benchArgs
	dir     string
	members []*benchMember
}

// benchMember is one place in it. Its files and address outlive the processes
// that run there one after another.
type benchMember struct {
	addr, dir string
	flags     []string
	cmd       *exec.Cmd // nil while it is down
	stdin     io.Closer
	stderr    *tail
}

// startBenchCluster starts the members and waits until all of them vote.
func startBenchCluster(ctx context.Context, a *benchArgs) (*benchCluster, error) {
	dir, err := os.MkdirTemp(a.dir, "dmt-bench-")
	if err != nil {
		return nil, err
	}
	c := &benchCluster{args: a, dir: dir}
	if err := c.form(ctx); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *benchCluster) form(ctx context.Context) error {
	addrs, err := freeAddresses(benchMembers)
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		m := c.place(addr)
		m.flags = append(m.flags, "--join", strings.Join(addrs, ","), "--bootstrap-expect", fmt.Sprint(benchMembers))
		if err := m.start(); err != nil {
			return err
		}
	}
	return c.waitVoters(ctx, benchMembers)
}

// place makes room for a member at addr.
func (c *benchCluster) place(addr string) *benchMember {
	name := memberName(len(c.members))
	m := &benchMember{addr: addr, dir: filepath.Join(c.dir, name)}
	m.flags = []string{
		"bench", "member", "--id", name, "--dir", m.dir, "--addr", addr, "--log-level", "warn",
		"--retention", c.args.retention, "--precision", fmt.Sprint(c.args.precision),
	}
	if c.args.cpuProfile != "" {
		m.flags = append(m.flags, "--cpu-profile", filepath.Join(c.args.cpuProfile, name+".cpu"))
	}
	c.members = append(c.members, m)
	return m
}

func (c *benchCluster) addrs() []string {
	var addrs []string
	for _, m := range c.members {
		addrs = append(addrs, m.addr)
	}
	return addrs
}

// start starts a process on the files of the member.
func (m *benchMember) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m.stderr = &tail{}
	cmd := exec.Command(self, m.flags...)
	cmd.Args[0] = "dmt" // a test binary is dmt by this name
	cmd.Stderr = m.stderr
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DMT_") { // those are for bench, not for members
			cmd.Env = append(cmd.Env, v)
		}
	}
	if m.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.cmd = cmd
	return nil
}

// kill ends the process as kill -9 does.
func (m *benchMember) kill() error { return m.end((*os.Process).Kill) }

// stop asks the process to end.
func (m *benchMember) stop() error {
	return m.end(func(p *os.Process) error { return p.Signal(syscall.SIGTERM) })
}

func (m *benchMember) end(how func(*os.Process) error) error {
	if m.cmd == nil {
		return nil
	}
	cmd := m.cmd
	m.cmd = nil
	err := how(cmd.Process)
	if errors.Is(err, os.ErrProcessDone) {
		err = fmt.Errorf("%s ended by itself: %s", m.addr, m.stderr)
	}
	hung := time.AfterFunc(benchPatience, func() { _ = cmd.Process.Kill() }) // it may have ended just now
	defer hung.Stop()
	if werr := cmd.Wait(); werr != nil && cmd.ProcessState == nil {
		err = errors.Join(err, werr)
	}
	return err
}

// close ends all processes and removes their files. A profile is written by a
// process that stops, so then they are asked to.
func (c *benchCluster) close() error {
	var errs []error
	for _, m := range c.members {
		if c.args.cpuProfile != "" {
			errs = append(errs, m.stop())
		} else {
			errs = append(errs, m.kill())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// until repeats f until it succeeds, and says what was missing when it does not
// in time.
func until(ctx context.Context, within time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if serr := sleepUntil(ctx, time.Now().Add(benchPoll)); serr != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// tracker is the wire to the member. A client would wait between its tries for
// longer than what is measured here takes.
func (m *benchMember) tracker() dmtv1connect.TrackerClient {
	return dmtv1connect.NewTrackerClient(http.DefaultClient, "http://"+m.addr)
}

// status asks the member once.
func (m *benchMember) status(ctx context.Context) (*dmtv1.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, benchTry)
	defer cancel()
	res, err := m.tracker().Status(ctx, connect.NewRequest(&dmtv1.StatusRequest{}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it says %s", m.addr, err, m.stderr)
	}
	return res.Msg, nil
}

// waitVoters waits until every member sees a leader and so many votes.
func (c *benchCluster) waitVoters(ctx context.Context, n int) error {
	return until(ctx, benchPatience, fmt.Sprintf("a cluster of %d", n), func(ctx context.Context) error {
		for _, m := range c.members {
			if m.cmd == nil {
				continue
			}
			st, err := m.status(ctx)
			if err != nil {
				return err
			}
			voters := 0
			for _, other := range st.GetMembers() {
				if other.GetVoter() {
					voters++
				}
			}
			if st.GetLeaderId() == "" || voters != n {
				return fmt.Errorf("%s counts %d votes of %d, leader %q", m.addr, voters, n, st.GetLeaderId())
			}
		}
		return nil
	})
}

// leader returns the member that leads.
func (c *benchCluster) leader(ctx context.Context) (leader *benchMember, err error) {
	err = until(ctx, benchPatience, "leader", func(ctx context.Context) error {
		for _, m := range c.members {
			if m.cmd == nil {
				continue
			}
			st, err := m.status(ctx)
			if err != nil {
				return err
			}
			for _, l := range c.members {
				if l.addr == st.GetLeaderAddress() && l.cmd != nil {
					leader = l
					return nil
				}
			}
		}
		return errors.New("nobody leads")
	})
	return leader, err
}

// follower returns a member that does not lead.
func (c *benchCluster) follower(ctx context.Context) (*benchMember, error) {
	leader, err := c.leader(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range c.members {
		if m != leader && m.cmd != nil {
			return m, nil
		}
	}
	return nil, errors.New("no follower")
}

// diskBytes returns what the files of the greatest member take, its database
// alone or all of them.
func (c *benchCluster) diskBytes() (state, all int64, err error) {
	for _, m := range c.members {
		var sum int64
		err := filepath.WalkDir(m.dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile
			}
			if err != nil {
				return err
			}
			sum += onDisk(info)
			if d.Name() == "state.db" {
				state = max(state, onDisk(info))
			}
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
		all = max(all, sum)
	}
	return state, all, nil
}

// maxTail is how much of a member's stderr is kept.
const maxTail = 2 << 10

// tail keeps the end of what a member writes to stderr.
type tail struct {
	mu  sync.Mutex // guards end
	end []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	t.end = t.end[max(0, len(t.end)-maxTail):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := strings.TrimSpace(string(t.end)); text != "" {
		return text
	}
	return "nothing"
}
