package role

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
)

// The whole path: client, gateway, orders, etcd; and nothing is left of it when it has stopped.
func TestWhole(t *testing.T) {
	etcd := etcdtest.Start(t, 1)
	before := goleak.IgnoreCurrent()
	a, b := start(t, "orders", etcd.URLs(), nil), start(t, "orders", etcd.URLs(), nil)
	g := start(t, "gateway", etcd.URLs(), nil)
	g.waitReady()

	code, body := g.ask(http.MethodPost, "/orders", `{"sku":"a","quantity":2}`)
	require.Equal(t, http.StatusCreated, code, "%v", body)
	id, ok := body["id"].(string)
	require.True(t, ok)
	for range 10 { // by both replicas
		code, body = g.ask(http.MethodGet, "/orders/"+id, "")
		require.Equal(t, http.StatusOK, code, "%v", body)
		assert.Equal(t, "a", body["sku"])
	}
	code, body = g.ask(http.MethodPut, "/registers/k", `{"value":"1","expectRevision":0}`)
	require.Equal(t, http.StatusOK, code, "%v", body)
	code, again := g.ask(http.MethodGet, "/registers/k", "")
	require.Equal(t, http.StatusOK, code)
	assert.Equal(t, body, again)
	code, body = g.ask(http.MethodPut, "/registers/k", `{"value":"2","expectRevision":0}`)
	require.Equal(t, http.StatusConflict, code, "%v", body)
	assert.NotEmpty(t, body["traceId"])
	assert.Equal(t, http.StatusOK, g.status("/metrics"))
	assert.Equal(t, http.StatusNotFound, g.status("/registers/none"))
	code, body = g.ask(http.MethodPost, "/orders", `{"sku":"a b","quantity":2}`)
	assert.Equal(t, http.StatusBadRequest, code, "%v", body)

	// One replica of orders stops gracefully: no request notices.
	stopped := make(chan error, 1)
	go func() { stopped <- a.stop() }()
	for len(stopped) == 0 {
		require.Equal(t, http.StatusOK, g.status("/orders/"+id))
	}
	require.NoError(t, <-stopped)
	for range 10 {
		require.Equal(t, http.StatusOK, g.status("/orders/"+id))
	}
	require.NoError(t, g.stop())
	require.NoError(t, b.stop())
	goleak.VerifyNone(t, before)
}

// The store is away and comes back: 503 or 504 meanwhile, as before afterwards.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 3)
	start(t, "orders", etcd.URLs(), nil)
	g := start(t, "gateway", etcd.URLs(), nil)
	g.waitReady()
	leader := etcd.Leader()
	leader.Kill()
	begin := time.Now()
	eventually(t, func() bool {
		code, _ := g.ask(http.MethodPut, "/registers/k", `{"value":"1"}`)
		return code == http.StatusOK
	}, "no write succeeds with two members of three")
	t.Logf("a write succeeded %s after the leader's death", time.Since(begin).Round(time.Millisecond))
	for _, m := range etcd.Members {
		if m != leader {
			m.Kill()
		}
	}
	eventually(t, func() bool { return g.status("/readyz") == http.StatusServiceUnavailable }, "ready without a store")
	code, body := g.ask(http.MethodGet, "/registers/k", "")
	assert.Contains(t, []int{http.StatusServiceUnavailable, http.StatusGatewayTimeout}, code, "%v", body)
	assert.Equal(t, http.StatusOK, g.status("/healthz"), "a restart would not help")
}
