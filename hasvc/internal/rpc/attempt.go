package rpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/logs"
)

// attempts sees each attempt that is made of a call: it measures it, and logs it with the ids of the request that it is for.
type attempts struct {
	service string
	metrics *Metrics
}

func (a attempts) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	begin := time.Now()
	var to peer.Peer
	err := invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Peer(&to))...)
	a.ended(ctx, method, begin, &to, err)
	return err
}

func (a attempts) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	begin := time.Now()
	var to peer.Peer
	s, err := open(ctx, desc, cc, method, append(opts[:len(opts):len(opts)], grpc.Peer(&to))...)
	if err != nil {
		a.ended(ctx, method, begin, &to, err)
		return nil, err
	}
	return &measured{ClientStream: s, end: func(err error) { a.ended(ctx, method, begin, &to, err) }}, nil
}

func (a attempts) ended(ctx context.Context, method string, begin time.Time, to *peer.Peer, err error) {
	took := time.Since(begin)
	code := status.Code(err)
	if a.metrics != nil {
		observe(ctx, a.metrics.seconds.WithLabelValues(a.service, method, code.String()), took)
	}
	// Nothing is put together for a line that is not written.
	if line := logs.From(ctx).Check(zap.DebugLevel, "attempt"); line != nil {
		addr := ""
		if to.Addr != nil {
			addr = to.Addr.String()
		}
		line.Write(zap.String("of", method), zap.String("peer", addr), zap.Stringer("code", code), zap.Float64("seconds", took.Seconds()), zap.Error(err))
	}
}

// measured is a stream whose end is seen.
type measured struct {
	grpc.ClientStream
	once sync.Once
	end  func(error)
}

// RecvMsg implements grpc.ClientStream.
func (m *measured) RecvMsg(v any) error {
	err := m.ClientStream.RecvMsg(v)
	if err != nil {
		m.once.Do(func() {
			if errors.Is(err, io.EOF) {
				m.end(nil)
				return
			}
			m.end(err)
		})
	}
	return err
}

func newClientSeconds(reg prometheus.Registerer) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "hasvc_rpc_client_seconds", Help: "Latency of each attempt of an outgoing call, by service, gRPC method and code.",
		NativeHistogramBucketFactor: bucketFactor,
	}, []string{"service", "method", "code"})
	reg.MustRegister(h)
	return h
}
