package role

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/mtls"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

// The whole path with mutual TLS between the services, calls and streams; a gateway without a certificate finds nobody ready.
func TestSecured(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	dir := t.TempDir()
	require.NoError(t, mtls.Issue(dir, []string{"gateway", "orders", "inventory"}))
	as := func(service string) func(*config.Config) {
		return func(c *config.Config) { c.Inventory, c.TLS = true, mtls.Files(dir, service) }
	}
	start(t, "inventory", etcd.URLs(), as("inventory")).waitReady()
	start(t, "orders", etcd.URLs(), as("orders"))
	g := start(t, "gateway", etcd.URLs(), as("gateway"))
	stranger := start(t, "gateway", etcd.URLs(), nil)
	g.waitReady()
	eventually(t, func() bool { return g.status("/stock/a") == http.StatusOK }, "no stock")

	code, body := g.ask(http.MethodPost, "/orders", `{"sku":"a","quantity":2}`)
	require.Equal(t, http.StatusCreated, code, "%v", body)
	assert.Equal(t, store.Accepted, body["status"], "its stock was taken")

	lines, _ := g.listen("/stream/stock/a?for=5s")
	assert.Equal(t, store.InitialStock("a")-2, next(t, lines).Level)

	code, body = stranger.ask(http.MethodGet, "/readyz", "")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Contains(t, body["problems"], "orders")
}
