package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

// Query answers from this member's own state, after the gate that the read
// level asks for.
func (s *Server) Query(ctx context.Context, req *connect.Request[dmtv1.QueryRequest]) (*connect.Response[dmtv1.QueryResponse], error) {
	now := s.node.Now()
	q, err := api.QueryFromProto(req.Msg, now)
	if err != nil {
		return nil, s.connectError(err)
	}
	return read(ctx, s, func(ctx context.Context) (*dmtv1.QueryResponse, error) {
		lim, err := s.bounds()
		if err != nil {
			return nil, err
		}
		checked, err := q.Check(now, lim.tiers.Base())
		if err != nil {
			return nil, err
		}
		answer, err := s.node.Query(ctx, checked)
		if err != nil {
			return nil, err
		}
		return api.AnswerToProto(answer), nil
	})
}

// Metrics lists what is measured.
func (s *Server) Metrics(ctx context.Context, req *connect.Request[dmtv1.MetricsRequest]) (*connect.Response[dmtv1.MetricsResponse], error) {
	level, staleness, err := api.ReadFromProto(req.Msg.GetRead(), req.Msg.GetMaxStaleness())
	if err != nil {
		return nil, s.connectError(err)
	}
	return read(ctx, s, func(ctx context.Context) (*dmtv1.MetricsResponse, error) {
		if err := s.node.CheckAge(staleness); err != nil {
			return nil, err
		}
		infos, index, err := s.node.Metrics(ctx, level)
		if err != nil {
			return nil, err
		}
		res := &dmtv1.MetricsResponse{AppliedIndex: index, Metrics: make([]*dmtv1.MetricInfo, len(infos))}
		for i, m := range infos {
			res.Metrics[i] = &dmtv1.MetricInfo{
				Metric: string(m.Metric), Count: m.Count, Nodes: int32(m.Nodes), Buckets: m.Buckets,
			}
			res.Metrics[i].First, res.Metrics[i].Last = api.SpanToProto(m.Span)
		}
		return res, nil
	})
}

// Nodes lists who measured a metric.
func (s *Server) Nodes(ctx context.Context, req *connect.Request[dmtv1.NodesRequest]) (*connect.Response[dmtv1.NodesResponse], error) {
	metric, err := window.ParseMetric(req.Msg.GetMetric())
	if err != nil {
		return nil, s.connectError(err)
	}
	level, staleness, err := api.ReadFromProto(req.Msg.GetRead(), req.Msg.GetMaxStaleness())
	if err != nil {
		return nil, s.connectError(err)
	}
	return read(ctx, s, func(ctx context.Context) (*dmtv1.NodesResponse, error) {
		if err := s.node.CheckAge(staleness); err != nil {
			return nil, err
		}
		infos, index, err := s.node.Nodes(ctx, level, metric)
		if err != nil {
			return nil, err
		}
		res := &dmtv1.NodesResponse{AppliedIndex: index, Nodes: make([]*dmtv1.NodeInfo, len(infos))}
		for i, n := range infos {
			res.Nodes[i] = &dmtv1.NodeInfo{
				Node: n.Node, Count: n.Count, Buckets: n.Buckets,
			}
			res.Nodes[i].First, res.Nodes[i].Last = api.SpanToProto(n.Span)
		}
		return res, nil
	})
}

// read runs a question here and holds it through an election. Questions are
// never forwarded: a follower asks the leader for an index only.
func read[Res any](ctx context.Context, s *Server, ask func(context.Context) (*Res, error)) (*connect.Response[Res], error) {
	return hold(ctx, s, false, func(ctx context.Context, _ *leaderView) (*connect.Response[Res], error) {
		res, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(res), nil
	})
}
