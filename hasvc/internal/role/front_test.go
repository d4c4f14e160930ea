package role

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

// The path through the edge; a gateway that stops gracefully is left in time.
func TestEdge(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	e := start(t, "edge", etcd.URLs(), nil)
	assert.Equal(t, http.StatusServiceUnavailable, e.status("/readyz"), "no gateway yet")
	assert.Equal(t, http.StatusServiceUnavailable, e.status("/orders/x"))
	assert.Equal(t, http.StatusOK, e.status("/healthz"))
	start(t, "orders", etcd.URLs(), nil)
	a, b := start(t, "gateway", etcd.URLs(), nil), start(t, "gateway", etcd.URLs(), nil)
	a.waitReady()
	b.waitReady()
	// Ready it is with one gateway; that one must not be the one that goes.
	eventually(t, func() bool { return strings.Contains(exposition(t, e), `hasvc_edge_backends{state="ready"} 2`) }, "the edge does not know both gateways")
	code, body := e.ask(http.MethodPost, "/orders", `{"sku":"a","quantity":2}`)
	require.Equal(t, http.StatusCreated, code, "%v", body)
	id, ok := body["id"].(string)
	require.True(t, ok)
	for _, path := range []string{"//orders", "/orders/../orders", "/stream", "/nothing"} {
		code, body := e.ask(http.MethodPost, path, `{"sku":"a","quantity":2}`)
		assert.Equal(t, http.StatusNotFound, code, path)
		assert.NotEmpty(t, body["traceId"], path)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- a.stop() }()
	for len(stopped) == 0 {
		require.Equal(t, http.StatusOK, e.status("/orders/"+id))
	}
	require.NoError(t, <-stopped)
	for range 10 {
		require.Equal(t, http.StatusOK, e.status("/orders/"+id))
	}
	require.NoError(t, e.stop())
}

// exposition is what a replica tells Prometheus.
func exposition(t *testing.T, r *running) string {
	resp, err := http.Get("http://" + r.HTTP + "/metrics") //nolint:noctx // it is answered at once
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

// Inventory goes: orders are taken as pending and levels are the last known; it comes back, and they are confirmed.
func TestFallback(t *testing.T) {
	each(t, defect.NoFallback, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		fast := func(c *config.Config) {
			c.Inventory = true
			c.Breaker.Open, c.Breaker.Probes = 200*time.Millisecond, 1
		}
		i := start(t, "inventory", etcd.URLs(), nil)
		i.waitReady()
		start(t, "orders", etcd.URLs(), fast, defects...)
		g := start(t, "gateway", etcd.URLs(), fast)
		g.waitReady()
		eventually(t, func() bool { return g.status("/stock/a") == http.StatusOK }, "no stock")
		require.NoError(t, i.stop())

		code, body := g.ask(http.MethodPost, "/orders", `{"sku":"a","quantity":2}`)
		stock, level := g.ask(http.MethodGet, "/stock/a", "")
		if wrong {
			assert.Equal(t, http.StatusServiceUnavailable, code, "%v", body)
			assert.Equal(t, http.StatusServiceUnavailable, stock, "%v", level)
			return
		}
		require.Equal(t, http.StatusCreated, code, "%v", body)
		assert.Equal(t, store.Pending, body["status"])
		assert.Equal(t, http.StatusOK, stock)
		assert.Equal(t, true, level["stale"])
		id, ok := body["id"].(string)
		require.True(t, ok)

		start(t, "inventory", etcd.URLs(), nil).waitReady()
		eventually(t, func() bool {
			_, order := g.ask(http.MethodGet, "/orders/"+id, "")
			return order["status"] == store.Accepted
		}, "the order is not confirmed")
		eventually(t, func() bool {
			_, now := g.ask(http.MethodGet, "/stock/a", "")
			return now["stale"] == nil
		}, "the level is still stale")
		_, now := g.ask(http.MethodGet, "/stock/a", "")
		assert.InDelta(t, store.InitialStock("a")-2, now["level"], 0, "taken once")
	})
}
