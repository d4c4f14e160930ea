package health

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func ok(context.Context) error { return nil }

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func get(t *testing.T, c *Checker, path string) (int, map[string]any) {
	t.Helper()
	mux := http.NewServeMux()
	c.Routes(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body := map[string]any{}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	return w.Code, body
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dep := ok
		pulse := NewPulse("loop", time.Second)
		c := &Checker{
			Timeout:      100 * time.Millisecond,
			Dependencies: []Dependency{{Name: "etcd", Ping: func(ctx context.Context) error { return dep(ctx) }}, {Name: "extra", Ping: hang, Optional: true}},
			Pulses:       []*Pulse{pulse},
		}
		code, body := get(t, c, "/readyz")
		assert.Equal(t, 503, code)
		assert.Equal(t, "starting", body["status"])
		c.Started()
		code, body = get(t, c, "/ready")
		assert.Equal(t, 200, code, "an optional dependency does not count")
		assert.Equal(t, "ready", body["status"])
		assert.InDelta(t, 100, body["extra_ping_ms"], 1)
		assert.Contains(t, body["problems"], "extra")

		dep = func(context.Context) error { return errors.New("refused") }
		code, body = get(t, c, "/readyz")
		assert.Equal(t, 503, code)
		assert.Equal(t, "not ready", body["status"])

		dep = hang
		begin := time.Now()
		code, _ = get(t, c, "/readyz")
		assert.Equal(t, 503, code)
		assert.Equal(t, c.Timeout, time.Since(begin), "it has a deadline")
		code, _ = get(t, c, "/healthz")
		assert.Equal(t, 200, code, "liveness does not look at it")

		dep = ok
		time.Sleep(2 * time.Second)
		code, body = get(t, c, "/readyz")
		assert.Equal(t, 503, code)
		assert.Contains(t, body["problems"], "loop", "a goroutine that is stuck")
		pulse.Beat()
		code, _ = get(t, c, "/readyz")
		assert.Equal(t, 200, code)

		c.Drain()
		code, body = get(t, c, "/readyz")
		assert.Equal(t, 503, code)
		assert.Equal(t, "draining", body["status"])
		code, _ = get(t, c, "/healthz")
		assert.Equal(t, 200, code)
	})
}

// That a replica is about to stop is heard at once, whatever hangs: a probe that is under way is not waited for, nor is one begun.
func TestDrainingIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Checker{Timeout: time.Minute, Dependencies: []Dependency{{Name: "etcd", Ping: hang}}}
		c.Started()
		begin := time.Now()
		time.AfterFunc(time.Second, c.Drain)
		for range 2 { // one under way, one begun after
			code, body := get(t, c, "/readyz")
			assert.Equal(t, 503, code)
			assert.Equal(t, "draining", body["status"])
			assert.NotContains(t, body, "problems", "that a probe is broken off is none")
			assert.Equal(t, time.Second, time.Since(begin))
		}
	})
}

func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Checker{Timeout: time.Second}
		server := health.NewServer()
		state := func() grpc_health_v1.HealthCheckResponse_ServingStatus {
			r, err := server.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
			require.NoError(t, err)
			return r.GetStatus()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Publish(ctx, server, time.Second, NewPulse("publisher", time.Minute))
		}()
		synctest.Wait()
		assert.Equal(t, grpc_health_v1.HealthCheckResponse_NOT_SERVING, state())
		c.Started()
		time.Sleep(1100 * time.Millisecond)
		assert.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, state())
		c.Drain()
		time.Sleep(time.Second)
		assert.Equal(t, grpc_health_v1.HealthCheckResponse_NOT_SERVING, state())
		cancel()
		<-done
	})
}
