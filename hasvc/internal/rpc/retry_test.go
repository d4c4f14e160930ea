package rpc

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

// server stands for the replicas: each attempt gets the answer of its number.
type server struct {
	mu       sync.Mutex
	attempts int
	answer   func(ctx context.Context, n int) error
	trailer  metadata.MD
}

func (s *server) invoke(ctx context.Context, _ string, _, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
	s.mu.Lock()
	s.attempts++
	n := s.attempts
	s.mu.Unlock()
	for _, o := range opts {
		if t, ok := o.(grpc.TrailerCallOption); ok {
			*t.TrailerAddr = s.trailer
		}
	}
	err := s.answer(ctx, n)
	if r, ok := reply.(*ordersv1.Register); ok && err == nil {
		r.Revision = int64(n)
	}
	return err
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts
}

func away(context.Context, int) error { return status.Error(codes.Unavailable, "away") }

// hang is a replica that is stopped with its connections open.
func hang(ctx context.Context, _ int) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

func call(t *testing.T, s *server, method string, deadline time.Duration, defects ...defect.Name) (*ordersv1.Register, error) {
	t.Helper()
	cfg, err := config.Parse([]string{"HASVC_TRY_TIMEOUT=450ms"}, ":0")
	require.NoError(t, err)
	cfg.Defects = defect.Set{}
	for _, d := range defects {
		cfg.Defects[d] = true
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	reply := &ordersv1.Register{}
	return reply, newRetrier(cfg, nil).unary(ctx, method, nil, reply, nil, s.invoke)
}

const (
	get = ordersv1.Orders_GetRegister_FullMethodName
	put = ordersv1.Orders_PutRegister_FullMethodName
)

func TestRetries(t *testing.T) {
	for _, test := range []struct {
		name     string
		method   string
		answer   func(ctx context.Context, n int) error
		attempts int
		code     codes.Code
	}{
		{"a good answer", get, func(context.Context, int) error { return nil }, 1, codes.OK},
		{"away once", get, func(ctx context.Context, n int) error {
			if n == 1 {
				return away(ctx, n)
			}
			return nil
		}, 2, codes.OK},
		{"away for good", get, away, 3, codes.Unavailable},
		{"hanging once", get, func(ctx context.Context, n int) error {
			if n == 1 {
				return hang(ctx, n)
			}
			return nil
		}, 2, codes.OK},
		{"hanging for good", get, hang, 3, codes.DeadlineExceeded},
		{"a real error", get, func(context.Context, int) error { return status.Error(codes.NotFound, "none") }, 1, codes.NotFound},
		{"a write that is away", put, away, 1, codes.Unavailable},
		{"a write that hangs", put, hang, 1, codes.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: test.answer}
				_, err := call(t, s, test.method, 2*time.Second)
				assert.Equal(t, test.code, status.Code(err))
				assert.Equal(t, test.attempts, s.count())
			})
		})
	}
}

// A server whose own dependency is away says so, and is left alone.
func TestPushback(t *testing.T) {
	s := &server{answer: away, trailer: metadata.Pairs(pushback, "-1")}
	_, err := call(t, s, get, time.Second)
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.Equal(t, 1, s.count())
}

func TestRetryStorm(t *testing.T) {
	s := &server{answer: away, trailer: metadata.Pairs(pushback, "-1")}
	_, err := call(t, s, put, time.Second, defect.RetryStorm)
	require.Error(t, err)
	assert.Equal(t, stormTries, s.count(), "without the defect: 1")
}

// The defect leaves the first attempt alone, which takes effect after the second.
func TestRetryNonIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		effects := make(chan int, 2)
		late := func(ctx context.Context, n int) error {
			if n == 1 {
				select {
				case <-time.After(5 * time.Second):
				case <-ctx.Done():
					return status.FromContextError(ctx.Err()).Err()
				}
			}
			effects <- n
			return nil
		}
		_, err := call(t, &server{answer: late}, put, time.Second)
		assert.Equal(t, codes.DeadlineExceeded, status.Code(err))
		synctest.Wait()
		assert.Empty(t, effects, "the one attempt was stopped at its deadline")

		got, err := call(t, &server{answer: late}, put, time.Second, defect.RetryNonIdempotent)
		require.NoError(t, err)
		assert.EqualValues(t, 2, got.GetRevision())
		assert.Equal(t, 2, <-effects)
		time.Sleep(10 * time.Second)
		assert.Equal(t, 1, <-effects, "the first attempt took effect after the second")
		assert.EqualValues(t, 2, got.GetRevision(), "and wrote nothing into the answer")
	})
}

func TestNoDeadlineMakesOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: hang}
		_, err := call(t, s, get, time.Minute, defect.NoDeadline)
		require.Error(t, err)
		assert.Equal(t, 1, s.count())
	})
}

// Checks of health come whether there are requests or not: they neither pay into the budget nor spend it.
func TestChecksAreFree(t *testing.T) {
	r := newRetrier(config.Config{Try: time.Second, Tries: 3, Budget: 0.5}, NewMetrics(prometheus.NewRegistry()))
	attempts := 0
	away := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		attempts++
		return status.Error(codes.Unavailable, "")
	}
	r.budget.tokens = 2
	require.Error(t, r.unary(t.Context(), grpc_health_v1.Health_Check_FullMethodName, nil, nil, nil, away))
	assert.Equal(t, 3, attempts)
	assert.EqualValues(t, 2, r.budget.tokens)
	require.Error(t, r.unary(t.Context(), get, nil, nil, nil, away))
	assert.Equal(t, 6, attempts)
	assert.EqualValues(t, 0.5, r.budget.tokens)
}

// However many fail, retries stay a share of the requests.
func TestBudget(t *testing.T) {
	b := newBudget(0.1)
	const requests = 10_000
	retries := 0
	for range requests {
		b.request()
		for range 2 {
			if b.retry() {
				retries++
			}
		}
	}
	assert.InDelta(t, requests*0.1+budgetReserve, retries, 1)
	assert.Greater(t, budgetReserve, 15, "a gateway with 150 requests a second loses 15 to a replica that stops, before it notices")
}
