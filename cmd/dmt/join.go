package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/distributed-median-tracker/dmt/client"
	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/internal/api/dmt/v1/dmtv1connect"
)

type joinArgs struct {
	connection
	server string
}

func newJoinCmd(s streams) *cobra.Command {
	a := &joinArgs{}
	cmd := &cobra.Command{
		Use:   "join HOST:PORT",
		Short: "Make a running server a member",
		Long: `Join makes the server at HOST:PORT, which runs but belongs to no cluster yet, a
member of the cluster at --addr. It votes once it has caught up. Joining again
is harmless. A server that is started with --join does this by itself.`,
		Example: "  dmt join 127.0.0.1:7174",
		Args:    exactly("HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.server = args[0]
			return runJoin(cmd.Context(), s, a)
		},
	}
	a.connection.flags(cmd)
	return cmd
}

func runJoin(ctx context.Context, s streams, a *joinArgs) error {
	if _, _, err := net.SplitHostPort(a.server); err != nil {
		return usageError{err}
	}
	return a.ask(ctx, func(ctx context.Context, c *client.Client) error {
		h, err := hello(ctx, a.server)
		if err != nil {
			return fmt.Errorf("%w: the server at %s does not answer: %w", client.ErrUnavailable, a.server, err)
		}
		reply, err := c.Join(ctx, client.JoinRequest{ID: h.GetId(), UUID: h.GetUuid(), Address: h.GetAddress(), ClusterID: h.GetClusterId(), Voter: true})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.Out, "%s at %s joined cluster %s, now %d members\n",
			printable(h.GetId()), printable(h.GetAddress()), printable(reply.ClusterID), len(reply.Members))
		return err
	})
}

// hello asks a server who it is.
func hello(ctx context.Context, addr string) (*dmtv1.HelloResponse, error) {
	peer := dmtv1connect.NewPeerClient(http.DefaultClient, "http://"+addr, connect.WithReadMaxBytes(api.MaxRequestBytes))
	res, err := peer.Hello(ctx, connect.NewRequest(&dmtv1.HelloRequest{}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}
