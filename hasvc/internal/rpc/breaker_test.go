package rpc

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// broken is a breaker in front of a server, with 3 probes and open for a second.
type broken struct {
	*breaker
	t      *testing.T
	server *server
	m      *Metrics
}

func newBroken(t *testing.T, s *server, defects ...defect.Name) *broken {
	t.Helper()
	cfg, err := config.Parse([]string{"HASVC_BREAKER_PROBES=3", "HASVC_BREAKER_OPEN=1s"}, ":0")
	require.NoError(t, err)
	for _, d := range defects {
		cfg.Defects[d] = true
	}
	m := NewMetrics(prometheus.NewRegistry())
	return &broken{newBreaker("orders", cfg, m), t, s, m}
}

func (b *broken) callIn(ctx context.Context) error {
	return b.unary(ctx, get, nil, nil, nil, b.server.invoke)
}

func (b *broken) call() error { return b.callIn(b.t.Context()) }

func (b *broken) state() float64 {
	return testutil.ToFloat64(b.m.breaker.state.WithLabelValues("orders"))
}

// fallen is a server that is away until up says otherwise.
func fallen(up *bool) *server {
	return &server{answer: func(ctx context.Context, n int) error {
		if *up {
			return nil
		}
		return away(ctx, n)
	}}
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := false
		b := newBroken(t, fallen(&up))
		for n := range 4 {
			assert.Zero(t, b.state(), "after %d failures", n)
			require.False(t, Refused(b.call()))
		}
		assert.EqualValues(t, 2, b.state())
		for range 10 {
			err := b.call()
			assert.True(t, Refused(err))
			assert.Equal(t, codes.Unavailable, status.Code(err))
		}
		assert.Equal(t, 4, b.server.count(), "no call gets through while it is open")
		assert.EqualValues(t, 10, testutil.ToFloat64(b.m.breaker.rejected.WithLabelValues("orders")))

		time.Sleep(time.Second + time.Millisecond)
		require.False(t, Refused(b.call()), "a probe")
		assert.True(t, Refused(b.call()), "which failed")
		assert.EqualValues(t, 2, b.state())

		up = true
		time.Sleep(time.Second + time.Millisecond)
		for range 3 {
			require.NoError(t, b.call())
		}
		assert.Zero(t, b.state())
		for _, way := range [][2]string{{"closed", "open"}, {"half-open", "closed"}} {
			assert.EqualValues(t, 1, testutil.ToFloat64(b.m.breaker.transitions.WithLabelValues("orders", way[0], way[1])), "%v", way)
		}
	})
}

// A half-open breaker lets through so many calls at a time, and no more.
func TestBreakerProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := false
		b := newBroken(t, &server{answer: func(ctx context.Context, n int) error {
			if slow {
				time.Sleep(100 * time.Millisecond)
				return nil
			}
			return away(ctx, n)
		}})
		for range 4 {
			require.Error(t, b.call())
		}
		time.Sleep(time.Second + time.Millisecond)
		slow = true
		before := b.server.count()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { _ = b.call() })
		}
		wg.Wait()
		assert.Equal(t, 3, b.server.count()-before)
		assert.Zero(t, b.state())
	})
}

// Most calls succeed: many failures are no reason.
func TestBreakerRatio(t *testing.T) {
	b := newBroken(t, &server{answer: func(ctx context.Context, n int) error {
		if n%2 == 0 {
			return away(ctx, n)
		}
		return nil
	}})
	for range 1000 {
		require.False(t, Refused(b.call()))
	}
}

// A failure is forgotten when it is older than the interval.
func TestBreakerForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := false
		b := newBroken(t, fallen(&up))
		for range 30 {
			require.False(t, Refused(b.call()))
			time.Sleep(4 * time.Second)
		}
	})
}

func TestBreakerCounts(t *testing.T) {
	pushed := metadata.Pairs(pushback, "-1")
	for _, test := range []struct {
		code    codes.Code
		trailer metadata.MD
		opens   bool
	}{
		{codes.Unavailable, nil, true},
		{codes.DeadlineExceeded, nil, true},
		{codes.Internal, nil, true},
		{codes.Unknown, nil, true},
		{codes.Unavailable, pushed, false},
		{codes.DeadlineExceeded, metadata.Pairs(waited, "1"), false},
		{codes.Canceled, nil, false},
		{codes.ResourceExhausted, nil, false},
		{codes.NotFound, nil, false},
		{codes.InvalidArgument, nil, false},
		{codes.Aborted, nil, false},
	} {
		b := newBroken(t, &server{answer: func(context.Context, int) error { return status.Error(test.code, "") }, trailer: test.trailer})
		for range 20 {
			require.Error(t, b.call())
		}
		assert.Equal(t, test.opens, Refused(b.call()), "%s %v", test.code, test.trailer)
	}
}

// Callers in a hurry learn nothing about the service.
func TestBreakerIgnoresHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			timeout time.Duration
			opens   bool
		}{{5 * time.Millisecond, false}, {200 * time.Millisecond, true}} {
			b := newBroken(t, &server{answer: hang})
			for range 10 {
				ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
				require.Error(t, b.callIn(ctx))
				cancel()
			}
			assert.Equal(t, test.opens, b.state() == 2, test.timeout)
		}
	})
}

func TestBreakerPassesHealthChecks(t *testing.T) {
	b := newBroken(t, &server{answer: away})
	for range 20 {
		err := b.unary(t.Context(), grpc_health_v1.Health_Check_FullMethodName, nil, nil, nil, b.server.invoke)
		require.False(t, Refused(err))
	}
	assert.Zero(t, b.state())
}

// What the breaker refuses is not tried again.
func TestRefusedIsNotRetried(t *testing.T) {
	up := false
	b := newBroken(t, fallen(&up))
	for range 4 {
		require.Error(t, b.call())
	}
	cfg, err := config.Parse(nil, ":0")
	require.NoError(t, err)
	r := newRetrier(cfg, b.m)
	err = r.unary(t.Context(), get, nil, nil, nil, func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
		return b.unary(ctx, method, req, reply, cc, b.server.invoke, opts...)
	})
	assert.True(t, Refused(err))
	assert.Zero(t, testutil.ToFloat64(b.m.retries.WithLabelValues(get)))
	assert.EqualValues(t, 1, testutil.ToFloat64(b.m.breaker.rejected.WithLabelValues("orders")))
	assert.Equal(t, 4, b.server.count())
}

// A call that panics must not keep the place of a probe.
func TestBreakerAndPanics(t *testing.T) {
	b := newBroken(t, &server{answer: func(context.Context, int) error { panic("at the disco") }})
	for range 4 {
		assert.Panics(t, func() { _ = b.call() })
	}
	assert.True(t, Refused(b.call()))
}

func TestBreakerOff(t *testing.T) {
	for _, test := range []struct {
		defects []defect.Name
		calls   int
	}{{nil, 4}, {[]defect.Name{defect.BreakerOff}, 50}} {
		up := false
		b := newBroken(t, fallen(&up), test.defects...)
		for range 50 {
			require.Error(t, b.call())
		}
		assert.Equal(t, test.calls, b.server.count(), "defects %v", test.defects)
	}
}

func TestBreakerSticky(t *testing.T) {
	for _, test := range []struct {
		defects []defect.Name
		closes  bool
	}{{nil, true}, {[]defect.Name{defect.BreakerSticky}, false}} {
		synctest.Test(t, func(t *testing.T) {
			up := false
			b := newBroken(t, fallen(&up), test.defects...)
			for range 4 {
				require.Error(t, b.call())
			}
			up = true
			time.Sleep(time.Hour)
			assert.Equal(t, test.closes, b.call() == nil, "defects %v", test.defects)
		})
	}
}

func TestBreakerCountsCancel(t *testing.T) {
	for _, test := range []struct {
		defects []defect.Name
		opens   bool
	}{{nil, false}, {[]defect.Name{defect.BreakerCountsCancel}, true}} {
		b := newBroken(t, &server{answer: hang}, test.defects...)
		for range 6 {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.Error(t, b.callIn(ctx))
		}
		assert.Equal(t, test.opens, b.state() == 2, "defects %v", test.defects)
	}
}

// stream stands for a stream whose answers the test decides; err ends it.
type stream struct {
	grpc.ClientStream
	answers int
	err     error
}

func (s *stream) RecvMsg(any) error {
	if s.answers--; s.answers >= 0 {
		return nil
	}
	return s.err
}

func (s *stream) Trailer() metadata.MD { return nil }

func TestBreakerStreams(t *testing.T) {
	gone := status.Error(codes.Unavailable, "gone")
	for _, test := range []struct {
		name   string
		open   error
		stream *stream
		opens  bool
	}{
		{name: "not opened", open: gone, opens: true},
		{name: "no answer", stream: &stream{err: gone}, opens: true},
		{name: "ended", stream: &stream{err: io.EOF}},
		{name: "broken later", stream: &stream{answers: 1, err: gone}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBroken(t, nil)
			for range 4 {
				s, err := b.breaker.stream(t.Context(), nil, nil, "/s/m", func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
					if test.open != nil {
						return nil, test.open
					}
					own := *test.stream
					return &own, nil
				})
				require.False(t, Refused(err))
				for err == nil {
					err = s.RecvMsg(nil)
				}
			}
			assert.Equal(t, test.opens, b.state() == 2)
		})
	}
}

// A stream whose caller goes away gives back its place among the probes.
func TestBreakerAbandonedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := false
		b := newBroken(t, fallen(&up))
		for range 4 {
			require.Error(t, b.call())
		}
		time.Sleep(time.Second + time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			_, err := b.breaker.stream(ctx, nil, nil, "/s/m", func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
				return &stream{}, nil
			})
			require.NoError(t, err)
		}
		up = true
		require.True(t, Refused(b.call()), "all probes are under way")
		cancel()
		synctest.Wait()
		require.NoError(t, b.call())
	})
}
