package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fake is an engine that answers what a test wants.
type fake struct {
	api, os  string
	security []string
	product  string
	more     map[string]http.HandlerFunc // by the path after the version
}

// start serves the fake and points DOCKER_HOST at it, by TCP or by a socket.
func (f fake) start(t *testing.T, network string) {
	t.Helper()
	answer := func(w http.ResponseWriter, v any) { assert.NoError(t, json.NewEncoder(w).Encode(v)) }
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", f.api)
		w.Header().Set("Ostype", f.os)
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case r.URL.Path == "/_ping":
		case f.more[path] != nil:
			f.more[path](w, r)
		case path == "info":
			answer(w, map[string]any{"SecurityOptions": f.security, "SystemTime": "2030-01-02T03:04:05.678Z", "MemoryLimit": true})
		case path == "version":
			answer(w, map[string]any{"Components": []map[string]string{{"Name": f.product}}})
		default:
			http.NotFound(w, r)
		}
	}))
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	var err error
	s.Listener.Close()
	s.Listener, err = net.Listen(network, address)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv("DOCKER_HOST", network+"://"+s.Listener.Addr().String())
}

func TestKinds(t *testing.T) {
	for want, f := range map[string]fake{
		KindDocker:   {api: "1.44", os: "linux", product: "Engine"},
		KindRootless: {api: "1.44", os: "linux", product: "Engine", security: []string{"name=seccomp", "name=rootless"}},
		KindPodman:   {api: "1.41", os: "linux", product: "Podman Engine", security: []string{"name=rootless"}},
	} {
		for _, network := range []string{"tcp", "unix"} {
			f.start(t, network)
			e, err := Connect(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, e.Kind())
			assert.Equal(t, network == "unix", e.Local())
			assert.Equal(t, network == "tcp", strings.Contains(fmt.Sprint(e.differences()), "remote"))
			assert.Error(t, e.CPULimit())
			assert.NoError(t, e.MemoryLimit())
			require.NoError(t, e.Close())
		}
	}
}

func TestConnectErrors(t *testing.T) {
	diagnosed := func(stage, said string) {
		t.Helper()
		report := Doctor(t.Context())
		after := false
		for _, s := range report { // before: nothing; the stage: the error; after it: not tried
			switch {
			case s.Name == stage:
				assert.ErrorContains(t, s.Err, said)
				assert.NotEmpty(t, s.Remedy)
				after = true
			case after:
				assert.ErrorIs(t, s.Err, errNotTried)
			default:
				assert.NoError(t, s.Err)
			}
		}
		assert.True(t, after)
	}
	check := func(stage, said string) {
		t.Helper()
		_, err := Connect(t.Context())
		var ce *ConnectError
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, stage, ce.Stage)
		assert.ErrorContains(t, err, said)
		assert.NotEmpty(t, ce.Remedy)
		diagnosed(stage, said)
	}
	t.Setenv("DOCKER_HOST", "unix:///not/there.sock")
	check("socket", "/not/there.sock")
	t.Setenv("DOCKER_HOST", "ssh://host")
	check("socket", "ssh")
	t.Setenv("DOCKER_HOST", "nonsense")
	check("socket", "nonsense")
	fake{api: "1.39", os: "linux"}.start(t, "unix")
	check("version", "1.39")
	fake{api: "1.44", os: "windows"}.start(t, "unix")
	check("platform", "windows")
	fake{api: "1.44", os: "linux"}.start(t, "unix")
	diagnosed("network", "list networks")
}

func TestNoPermission(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, os.Chmod(path, 0))
	if os.Getuid() == 0 {
		t.Log("root may use any socket: only the words are tried")
		stage, _ := diagnose(fmt.Errorf("permission denied while trying to connect to the docker API at unix://%s", path))
		assert.Equal(t, "permission", stage)
		return
	}
	t.Setenv("DOCKER_HOST", "unix://"+path)
	_, err = Connect(t.Context())
	var ce *ConnectError
	require.ErrorAs(t, err, &ce)
	assert.Equal(t, "permission", ce.Stage)
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("DOCKER_HOST", "")
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	sum := sha256.Sum256([]byte("far"))
	id := hex.EncodeToString(sum[:])
	write("config.json", `{"currentContext": "far"}`)
	_, err := places()
	require.ErrorContains(t, err, "the docker context far")

	write("contexts/meta/"+id+"/meta.json", `{"Endpoints": {"docker": {"Host": "tcp://far:2376"}}}`)
	got, err := places()
	require.NoError(t, err)
	assert.Equal(t, []place{{host: "tcp://far:2376"}}, got)

	write("contexts/tls/"+id+"/docker/ca.pem", "")
	got, err = places()
	require.NoError(t, err)
	certs := filepath.Join(dir, "contexts/tls", id, "docker")
	assert.Equal(t, []place{{host: "tcp://far:2376", certs: certs}}, got)
	require.NoError(t, got[0].during(func() error {
		assert.Equal(t, "tcp://far:2376", os.Getenv("DOCKER_HOST"))
		assert.Equal(t, certs, os.Getenv("DOCKER_CERT_PATH"))
		return nil
	}))
	_, had := os.LookupEnv("DOCKER_CERT_PATH")
	assert.False(t, had, "the environment is as before")

	t.Setenv("DOCKER_HOST", "unix:///mine")
	got, err = places()
	require.NoError(t, err)
	assert.Equal(t, []place{{host: "unix:///mine"}}, got, "it wins over the context")
}

func TestNothingIsLeftInTheEnvironment(t *testing.T) {
	connected(t)
	_, had := os.LookupEnv("TESTCONTAINERS_RYUK_DISABLED")
	assert.False(t, had)
	if os.Getenv("TESTCONTAINERS_RYUK_DISABLED") == "" {
		assert.True(t, settings().Config.RyukDisabled)
	}
}

func TestEngineGone(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if assert.NoError(t, err) {
			conn.Close()
		}
	}
	fake{api: "1.41", os: "linux", more: map[string]http.HandlerFunc{
		"containers/x/json": cut, "containers/x/attach": cut, "containers/x/wait": cut,
	}}.start(t, "unix")
	e, err := Connect(t.Context())
	require.NoError(t, err)
	defer e.Close()
	c := &Container{e: e, id: "x", name: "x"}
	_, err = c.Inspect(t.Context())
	assert.ErrorIs(t, err, ErrEngineGone)
	_, err = c.Attach(t.Context())
	assert.ErrorIs(t, err, ErrEngineGone)
	_, err = c.Wait(t.Context())
	assert.ErrorIs(t, err, ErrEngineGone)
}

// TestStreamsOfAnEngineThatHangs: an attempt ends with its context, and a connection that comes later is closed.
func TestStreamsOfAnEngineThatHangs(t *testing.T) {
	answer, closed := make(chan struct{}), make(chan error, 2)
	late := func(w http.ResponseWriter, _ *http.Request) {
		<-answer
		conn, _, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_, err = io.Copy(io.Discard, conn) // up to its end; the rest of the request may come first
		closed <- err
	}
	fake{api: "1.41", os: "linux", more: map[string]http.HandlerFunc{
		"containers/x/attach": late, "exec/p/start": late,
		"containers/x/exec": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			_, err := io.WriteString(w, `{"Id": "p"}`)
			assert.NoError(t, err)
		},
	}}.start(t, "unix")
	e, err := Connect(t.Context())
	require.NoError(t, err)
	defer e.Close()
	c := &Container{e: e, id: "x", name: "x"}
	for what, attempt := range map[string]func(context.Context) error{
		"attach": func(ctx context.Context) error { _, err := c.Attach(ctx); return err },
		"exec":   func(ctx context.Context) error { _, err := c.Exec(ctx, ExecSpec{Argv: []string{"x"}}); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- attempt(ctx) }()
		select {
		case err := <-ended:
			require.ErrorIs(t, err, context.DeadlineExceeded, what)
		case <-time.After(10 * time.Second):
			close(answer)
			require.FailNow(t, "it hangs", what)
		}
		cancel()
	}
	close(answer)
	for range 2 {
		require.NoError(t, <-closed, "it was closed")
	}
}

// TestRemoveSaysWhatIsLeftOfAnEngineThatHangs: the look at what is left has a time of its own.
func TestRemoveSaysWhatIsLeftOfAnEngineThatHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fake{api: "1.41", os: "linux", more: map[string]http.HandlerFunc{
		"containers/json": func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, `[{"Id": "x", "Names": ["/gauntlet-x"]}]`)
			assert.NoError(t, err)
		},
		"networks": func(w http.ResponseWriter, _ *http.Request) {
			_, err := io.WriteString(w, `[]`)
			assert.NoError(t, err)
		},
		"containers/x": func(_ http.ResponseWriter, r *http.Request) { // its removal
			cancel()
			<-r.Context().Done()
		},
	}}.start(t, "unix")
	e, err := Connect(t.Context())
	require.NoError(t, err)
	defer e.Close()
	left, err := e.NewRun("x").Remove(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"container gauntlet-x"}, left)
}

// stub records what testcontainers asks for.
type stub struct {
	client.APIClient
	asked []string
}

func (s *stub) ImageInspect(_ context.Context, ref string, _ ...client.ImageInspectOption) (client.ImageInspectResult, error) {
	s.asked = append(s.asked, ref)
	return client.ImageInspectResult{}, nil
}

func (s *stub) ImagePull(_ context.Context, ref string, _ client.ImagePullOptions) (client.ImagePullResponse, error) {
	s.asked = append(s.asked, ref)
	return nil, nil
}

func TestModest(t *testing.T) {
	s := &stub{}
	m := modest{s}
	for _, ref := range []string{"sha256:1", "mirror.example/dir/sha256:2", "mirror.example/redis"} {
		_, err := m.ImageInspect(t.Context(), ref)
		require.NoError(t, err)
	}
	_, err := m.ImagePull(t.Context(), "redis", client.ImagePullOptions{})
	require.ErrorIs(t, Plain(err), ErrNoImage)
	_, err = m.ImagePull(t.Context(), "testcontainers/ryuk:1", client.ImagePullOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"sha256:1", "sha256:2", "mirror.example/redis", "testcontainers/ryuk:1"}, s.asked)
}

func TestPlain(t *testing.T) {
	daemon := func(s string) error { return fmt.Errorf("Error response from daemon: %s", s) }
	assert.NoError(t, Plain(nil))
	err := Plain(daemon("write /x: no space left on device"))
	assert.EqualError(t, err, "the engine's disk is full: make room (docker system df, docker system prune): write /x: no space left on device")
	assert.Equal(t, err, Plain(err), "once is enough")
	wrapped := fmt.Errorf("more: %w", err)
	assert.Equal(t, wrapped, Plain(wrapped))
	unknown := daemon("something else")
	assert.Equal(t, unknown, Plain(unknown))
	assert.Equal(t, context.Canceled, Plain(context.Canceled))
	assert.NotErrorIs(t, Plain(daemon("open /etc/x: no such file or directory")), ErrNoProgram, "any file")
	assert.ErrorIs(t, plainStart(daemon(`exec: "/x": stat /x: no such file or directory`)), ErrNoProgram)
}
