package role

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

func withInventory(c *config.Config) { c.Inventory = true }

// An order takes its stock once, however often it is asked for.
func TestInventory(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	start(t, "inventory", etcd.URLs(), nil).waitReady()
	o := start(t, "orders", etcd.URLs(), withInventory)
	g := start(t, "gateway", etcd.URLs(), nil)
	g.waitReady()
	eventually(t, func() bool { return g.status("/stock/a") == http.StatusOK }, "no stock")
	level := func() int64 {
		code, body := g.ask(http.MethodGet, "/stock/a", "")
		require.Equal(t, http.StatusOK, code, "%v", body)
		n, ok := body["level"].(float64)
		require.True(t, ok)
		return int64(n)
	}
	assert.Equal(t, store.InitialStock("a"), level())
	for range 2 {
		code, body := g.askWith(http.MethodPost, "/orders", `{"sku":"a","quantity":2}`, "Idempotency-Key", "k")
		require.Equal(t, http.StatusCreated, code, "%v", body)
		assert.Equal(t, store.Accepted, body["status"])
	}
	assert.Equal(t, store.InitialStock("a")-2, level())
	code, body := g.askWith(http.MethodPost, "/orders", `{"sku":"a","quantity":3}`, "Idempotency-Key", "k")
	assert.Equal(t, http.StatusConflict, code, "%v", body)
	assert.Equal(t, http.StatusBadRequest, g.status("/stock/a%20b"))
	_, body = o.ask(http.MethodGet, "/readyz", "")
	assert.Contains(t, body, "inventory_ping_ms")
}

func TestWithoutInventory(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	start(t, "orders", etcd.URLs(), nil)
	g := start(t, "gateway", etcd.URLs(), nil)
	g.waitReady()
	assert.Equal(t, http.StatusNotImplemented, g.status("/stock/a"))
}
