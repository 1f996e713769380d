package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/distributed-median-tracker/dmt/internal/api"
	dmtv1 "github.com/distributed-median-tracker/dmt/internal/api/dmt/v1"
	"github.com/distributed-median-tracker/dmt/window"
)

// patience bounds a question or command whose context has no deadline.
const patience = 30 * time.Second

// MetricInfo describes one metric of the cluster.
type MetricInfo struct {
	Metric      window.Metric
	Count       uint64    // values
	Nodes       int       // that have measured it
	First, Last time.Time // start of the first bucket, end of the last
	Buckets     uint64
}

// NodeInfo describes what one node has measured of one metric.
type NodeInfo struct {
	Node        string
	Count       uint64
	First, Last time.Time // start of the first bucket, end of the last
	Buckets     uint64
}

// Query answers a question: one certified estimate per quantile, for each node
// and step asked for. It tries members until ctx ends; without a deadline, for
// 30 s. An answer without results comes with ErrNoData. Other errors are
// ErrUnknownMetric, ErrUnavailable and *RefusedError.
func (c *Client) Query(ctx context.Context, q window.Query) (window.Answer, error) {
	// What is plainly wrong need not travel. The cluster checks again, with
	// the width of its own buckets.
	if _, err := q.Check(time.Now(), 1); err != nil {
		return window.Answer{}, refusal(err, "")
	}
	request := api.QueryToProto(q)
	res, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.QueryResponse], error) {
		return m.Query(ctx, connect.NewRequest(request))
	})
	if err != nil {
		return window.Answer{}, err
	}
	ans, err := api.AnswerFromProto(res)
	if err != nil {
		return window.Answer{}, fmt.Errorf("answer of the cluster: %w", err)
	}
	if len(ans.Results) == 0 {
		return ans, ErrNoData
	}
	return ans, nil
}

// Metrics lists what is measured, sorted by metric.
func (c *Client) Metrics(ctx context.Context, read window.Read) ([]MetricInfo, error) {
	res, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.MetricsResponse], error) {
		return m.Metrics(ctx, connect.NewRequest(&dmtv1.MetricsRequest{Read: read.String()}))
	})
	if err != nil {
		return nil, err
	}
	infos := make([]MetricInfo, len(res.GetMetrics()))
	for i, m := range res.GetMetrics() {
		infos[i] = MetricInfo{
			Metric: window.Metric(m.GetMetric()), Count: m.GetCount(), Nodes: int(m.GetNodes()),
			First: m.GetFirst().AsTime(), Last: m.GetLast().AsTime(), Buckets: m.GetBuckets(),
		}
	}
	return infos, nil
}

// Nodes lists who measured a metric, sorted by node.
func (c *Client) Nodes(ctx context.Context, metric string, read window.Read) ([]NodeInfo, error) {
	name, err := window.ParseMetric(metric)
	if err != nil {
		return nil, refusal(err, ReasonBadMetric)
	}
	res, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.NodesResponse], error) {
		return m.Nodes(ctx, connect.NewRequest(&dmtv1.NodesRequest{Metric: string(name), Read: read.String()}))
	})
	if err != nil {
		return nil, err
	}
	infos := make([]NodeInfo, len(res.GetNodes()))
	for i, n := range res.GetNodes() {
		infos[i] = NodeInfo{
			Node: n.GetNode(), Count: n.GetCount(),
			First: n.GetFirst().AsTime(), Last: n.GetLast().AsTime(), Buckets: n.GetBuckets(),
		}
	}
	return infos, nil
}

// AddValues hands raw numbers to a member, which sketches them: for scripts and
// for few values. Processes that count hold a Recorder. The values are counted
// once however often the call had to be repeated; with a requestID also when
// the caller repeats it. It returns how many values the request counted.
func (c *Client) AddValues(ctx context.Context, metric, node string, ints []int64, floats []float64, requestID string) (uint64, error) {
	if requestID == "" {
		requestID = fmt.Sprintf("%x", newIdentity())
	}
	name, err := window.ParseMetric(metric)
	if err != nil {
		return 0, refusal(err, ReasonBadMetric)
	}
	if err := window.CheckNode(node); err != nil {
		return 0, refusal(err, ReasonBadNode)
	}
	request := &dmtv1.AddValuesRequest{Metric: string(name), Node: node, Values: ints, Floats: floats, RequestId: requestID}
	res, err := ask(ctx, c, func(ctx context.Context, m *member) (*connect.Response[dmtv1.AddValuesResponse], error) {
		return m.AddValues(ctx, connect.NewRequest(request))
	})
	return res.GetCount(), err
}

// ask repeats f until it is answered or the caller has waited enough, and types
// the error. Everything that goes through here may be repeated.
func ask[R any](ctx context.Context, c *Client, f func(context.Context, *member) (*connect.Response[R], error)) (*R, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	res, err := attempt(ctx, c, policy{asked: true}, f)
	if err != nil {
		return nil, typed(err)
	}
	return res.Msg, nil
}

// typed turns the error of a call into what callers branch on.
func typed(err error) error {
	if errors.Is(err, errEnded) {
		if errors.Is(err, context.Canceled) {
			return err // the caller has lost interest
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	j := judge(err)
	message := err.Error()
	if ce := (*connect.Error)(nil); errors.As(err, &ce) {
		message = ce.Message()
	}
	switch j.reason {
	case api.ReasonUnknownMetric:
		return fmt.Errorf("%w: %s", ErrUnknownMetric, message)
	case api.ReasonNoData:
		return ErrNoData
	}
	if j.reason == "" {
		j.reason = connect.CodeOf(err).String()
	}
	return &RefusedError{Reason: j.reason, Field: j.field, Limit: j.limit, Message: message}
}
