// Package enginetest stands between tests and a container engine.
package enginetest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// SocketOf returns the path of an engine's socket, and skips the test where it has none.
func SocketOf(t *testing.T, host string) string {
	t.Helper()
	socket, local := strings.CutPrefix(host, "unix://")
	if !local {
		t.Skipf("the engine at %s has no socket to stand before", host)
	}
	return socket
}

// Between has what connects from now on see the engine at host through a handler, which has its answers.
func Between(t *testing.T, host string, handle func(w http.ResponseWriter, r *http.Request, engine http.Handler)) {
	t.Helper()
	socket := SocketOf(t, host)
	to := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "engine"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
		FlushInterval: -1,
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, to) }))
	path := filepath.Join(t.TempDir(), "engine.sock")
	var err error
	s.Listener.Close()
	s.Listener, err = net.Listen("unix", path)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv("DOCKER_HOST", "unix://"+path)
}
