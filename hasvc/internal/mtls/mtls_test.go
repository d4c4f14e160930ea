package mtls

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

func issue(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, Issue(dir, []string{"gateway", "orders"}))
	return dir
}

// serve is a replica until the test ends.
func serve(t *testing.T, f config.TLS) (addr string) {
	t.Helper()
	creds, err := Server(f)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := grpc.NewServer(grpc.Creds(creds))
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); assert.NoError(t, <-served) })
	return l.Addr().String()
}

func ask(t *testing.T, addr string, creds credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

// Who has no certificate, or one of another authority, or calls a replica of another service, is not served.
func TestWhoIsServed(t *testing.T) {
	ours, others := issue(t), issue(t)
	secured, plain := serve(t, Files(ours, "orders")), serve(t, config.TLS{})
	client := func(f config.TLS, service string) credentials.TransportCredentials {
		c, err := Client(f, service)
		require.NoError(t, err)
		return c
	}
	nobody := func() credentials.TransportCredentials {
		_, authority, err := load(Files(ours, "gateway"))
		require.NoError(t, err)
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: authority, ServerName: "orders"})
	}
	mixed := Files(others, "gateway") // trusts the right authority, and proves itself by another's word
	mixed.CA = Files(ours, "").CA
	for name, c := range map[string]struct {
		addr   string
		by     credentials.TransportCredentials
		served bool
	}{
		"of one authority":                     {secured, client(Files(ours, "gateway"), "orders"), true},
		"both in plain text":                   {plain, client(config.TLS{}, "orders"), true},
		"the client in plain text":             {secured, client(config.TLS{}, "orders"), false},
		"the server in plain text":             {plain, client(Files(ours, "gateway"), "orders"), false},
		"a server of another authority":        {secured, client(Files(others, "gateway"), "orders"), false},
		"a client of another authority":        {secured, client(mixed, "orders"), false},
		"a client without a certificate":       {secured, nobody(), false},
		"a certificate of another service's":   {secured, client(Files(ours, "gateway"), "inventory"), false},
		"a service that calls another replica": {secured, client(Files(ours, "orders"), "orders"), true},
	} {
		err := ask(t, c.addr, c.by)
		if c.served {
			assert.NoError(t, err, name)
			continue
		}
		assert.Equal(t, codes.Unavailable, status.Code(err), "%s: %v", name, err)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	dir := issue(t)
	good := Files(dir, "orders")
	nothing := filepath.Join(dir, "nothing.pem")
	require.NoError(t, os.WriteFile(nothing, []byte("nothing"), 0o600))
	for want, change := range map[string]func(*config.TLS){
		"HASVC_TLS_CERT":                 func(f *config.TLS) { f.Cert = filepath.Join(dir, "none.pem") },
		"HASVC_TLS_KEY: open":            func(f *config.TLS) { f.Key = filepath.Join(dir, "none.pem") },
		"does not match public key":      func(f *config.TLS) { f.Key = Files(dir, "gateway").Key },
		"HASVC_TLS_CA: open":             func(f *config.TLS) { f.CA = filepath.Join(dir, "none.pem") },
		"holds no certificate in PEM":    func(f *config.TLS) { f.CA = nothing },
		"failed to find any PEM data in": func(f *config.TLS) { f.Cert = nothing },
	} {
		f := good
		change(&f)
		_, err := Server(f)
		require.ErrorContains(t, err, want)
		_, err = Client(f, "orders")
		require.ErrorContains(t, err, want)
	}
}

// A key is for its owner's eyes.
func TestKeysAreSecret(t *testing.T) {
	info, err := os.Stat(Files(issue(t), "orders").Key)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.Error(t, Issue(filepath.Join(t.TempDir(), "none"), []string{"orders"}))
}

// Whatever is there in its place: a file that all may read, or a link to one.
func TestKeysReplaceWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.WriteFile(elsewhere, []byte("before"), 0o644))
	require.NoError(t, os.Symlink(elsewhere, Files(dir, "orders").Key))
	require.NoError(t, os.WriteFile(Files(dir, "gateway").Key, []byte("before"), 0o644))
	require.NoError(t, Issue(dir, []string{"gateway", "orders"}))
	for _, service := range []string{"gateway", "orders"} {
		info, err := os.Lstat(Files(dir, service).Key)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode(), service)
		_, err = Server(Files(dir, service))
		require.NoError(t, err)
	}
	same, err := os.ReadFile(elsewhere)
	require.NoError(t, err)
	assert.Equal(t, "before", string(same))
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 5, "and nothing else")
}
