package workers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

var order = &grpc.UnaryServerInfo{FullMethod: "/orders.v1.Orders/CreateOrder"}

// job is a handler that takes its time, and stops when its context ends.
func job(took time.Duration) grpc.UnaryHandler {
	return func(ctx context.Context, _ any) (any, error) {
		select {
		case <-time.After(took):
			return "done", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ends calls Unary n times at once and returns after how long each call ended, and how.
func ends(t *testing.T, p *Pool, n int, deadline time.Duration, info *grpc.UnaryServerInfo) (after map[time.Duration]int, codesOf map[codes.Code]int) {
	t.Helper()
	type end struct {
		after time.Duration
		code  codes.Code
	}
	begin, all := time.Now(), make(chan end, n)
	for range n {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			_, err := p.Unary(ctx, nil, info, job(time.Second))
			all <- end{time.Since(begin), status.Code(err)}
		}()
	}
	after, codesOf = map[time.Duration]int{}, map[codes.Code]int{}
	for range n {
		e := <-all
		after[e.after]++
		codesOf[e.code]++
	}
	return after, codesOf
}

func TestBoundAndLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(config.Config{Workers: 2}, prometheus.NewRegistry())
		time.AfterFunc(time.Millisecond, func() { assert.InDelta(t, 3, testutil.ToFloat64(p.waiting), 0, "in line") })
		after, _ := ends(t, p, 5, time.Minute, order)
		require.Equal(t, map[time.Duration]int{time.Second: 2, 2 * time.Second: 2, 3 * time.Second: 1}, after, "two at a time")
		require.InDelta(t, 0, testutil.ToFloat64(p.waiting), 0)
	})
}

func TestWhoLeavesIsNotWorkedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(config.Config{Workers: 1}, prometheus.NewRegistry())
		at := make(chan error, 1)
		go func() {
			_, err := p.Unary(t.Context(), nil, order, job(time.Second))
			at <- err
		}()
		synctest.Wait() // it is at work, and leaves nothing for the others at the moment at which they go
		after, how := ends(t, p, 4, 500*time.Millisecond, order)
		require.Equal(t, map[time.Duration]int{500 * time.Millisecond: 4}, after)
		require.Equal(t, map[codes.Code]int{codes.DeadlineExceeded: 4}, how, "they leave the line")
		require.NoError(t, <-at)
		after, _ = ends(t, p, 1, time.Minute, order)
		require.Equal(t, map[time.Duration]int{time.Second: 1}, after, "and take no place with them")
	})
}

func TestWhatTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := New(config.Config{}, prometheus.NewRegistry())
		after, _ := ends(t, all, 50, time.Minute, order)
		require.Equal(t, map[time.Duration]int{time.Second: 50}, after, "no bound")
		one := New(config.Config{Workers: 1}, prometheus.NewRegistry())
		after, _ = ends(t, one, 5, time.Minute, &grpc.UnaryServerInfo{FullMethod: "/grpc.health.v1.Health/Check"})
		require.Equal(t, map[time.Duration]int{time.Second: 5}, after, "health checks")
	})
}
