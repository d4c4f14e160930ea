package command

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

func run(ctx context.Context, environ []string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(ctx, args, environ, &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"serve"}, {"orders", "now"}, {"probe"}, {"probe", "8080"}, {"config", "x"}, {"certs", "."}, {"certs", ".", "a/b"}, {"certs", ".", "ca"},
		{"certs", t.TempDir(), "orders", "orders-key"}} {
		code, stdout, stderr := run(t.Context(), nil, args...)
		assert.Equal(t, exitUsage, code, "%v", args)
		assert.Empty(t, stdout)
		assert.NotEmpty(t, stderr)
	}
	code, stdout, _ := run(t.Context(), nil, "help")
	assert.Equal(t, exitOK, code)
	assert.Contains(t, stdout, "gateway")
}

func TestBadEnvironment(t *testing.T) {
	code, _, stderr := run(t.Context(), []string{"HASVC_DEFECT=none", "HASVC_DRAINS=1s"}, "gateway")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, "known are slow-start")
	assert.Contains(t, stderr, "HASVC_DRAINS")
}

// A role that is told to stop ends with 0, also when it never got ready; one that cannot listen does not.
func TestRoles(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := []string{"HASVC_HTTP=127.0.0.1:0", "HASVC_GRPC=127.0.0.1:0", "HASVC_ETCD=http://127.0.0.1:1", "HASVC_DRAIN=0s"}
	for _, name := range []string{"edge", "gateway", "orders"} {
		code, _, stderr := run(ctx, env, name)
		assert.Equal(t, exitOK, code, stderr)
	}
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	env[0] = "HASVC_HTTP=" + taken.Listener.Addr().String()
	code, _, stderr := run(t.Context(), env, "orders")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "listening on")
}

func TestProbe(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	for _, test := range []struct{ status, code int }{{200, exitOK}, {204, exitOK}, {404, exitFailed}, {503, exitFailed}} {
		status = test.status
		code, _, _ := run(t.Context(), nil, "probe", s.URL)
		assert.Equal(t, test.code, code, "%d", test.status)
	}
	s.Close()
	code, _, stderr := run(t.Context(), nil, "probe", s.URL)
	assert.Equal(t, exitFailed, code)
	assert.NotEmpty(t, stderr)
}

func TestLists(t *testing.T) {
	_, stdout, _ := run(t.Context(), nil, "api")
	for _, word := range []string{
		store.Accepted, store.Pending, store.Rejected, // what an order can be
		" 400 ", " 404", " 405", " 408 ", " 409", " 413 ", " 415 ", " 429 ", " 500 ", " 501", " 502 ", " 503 ", " 504 ",
	} {
		assert.Contains(t, stdout, word)
	}
	_, stdout, _ = run(t.Context(), nil, "config")
	for _, v := range config.Table {
		assert.Contains(t, stdout, v.Name)
	}
	_, stdout, _ = run(t.Context(), nil, "defects")
	for _, d := range defect.Table {
		assert.Contains(t, stdout, string(d.Name))
	}
	code, stdout, _ := run(t.Context(), nil, "version")
	assert.Equal(t, exitOK, code)
	assert.Contains(t, stdout, "github.com/hasvc/gauntlet", "the build info; that of a test binary has no more")
}
