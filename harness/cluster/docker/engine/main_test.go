package engine

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster/docker/engine/enginetest"
)

// patient is the path of testdata/patient in its image.
const patient = "/patient"

// TestMain removes the image, if a test made it.
func TestMain(m *testing.M) {
	code := m.Run()
	if removeImage != nil {
		if err := removeImage(); err != nil {
			fmt.Fprintln(os.Stderr, "remove the tests' image:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// removeImage is set when the image was made.
var removeImage func() error

// connected returns an engine, or skips the test with the reason.
func connected(t *testing.T) *Engine {
	t.Helper()
	e, err := Connect(t.Context())
	if err != nil {
		t.Skip("needs a container engine:", err)
	}
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// behind returns the engine as it is seen through a handler, which has its answers.
func behind(t *testing.T, between func(w http.ResponseWriter, r *http.Request, engine http.Handler)) *Engine {
	t.Helper()
	enginetest.Between(t, connected(t).Host(), between)
	return connected(t)
}

// newRun returns a run that the test removes, and that leaves nothing.
func newRun(t *testing.T, e *Engine) *Run {
	t.Helper()
	r := e.NewRun("test")
	t.Cleanup(func() {
		left, err := r.Remove(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
	})
	return r
}

// image returns the id of an image with the patient.
func image(t *testing.T) string {
	t.Helper()
	id, err := makeImage()
	require.NoError(t, err)
	return id
}

var (
	inspectOptions       client.ContainerInspectOptions
	volumeInspectOptions client.VolumeInspectOptions
)

var makeImage = sync.OnceValues(func() (string, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "gauntlet-engine-test-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "patient")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./testdata/patient")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "patient", Mode: 0o755, Size: int64(len(b))},
		{Typeflag: tar.TypeReg, Name: "notexec", Mode: 0o755, Size: 1},
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755},
	} {
		if err := w.WriteHeader(h); err != nil {
			return "", err
		}
		if _, err := w.Write(map[string][]byte{"patient": b, "notexec": {'x'}}[h.Name]); err != nil {
			return "", err
		}
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	e, err := Connect(ctx)
	if err != nil {
		return "", err
	}
	defer e.Close()
	res, err := e.api.ImageImport(ctx, client.ImageImportSource{Source: &archive, SourceName: "-"}, "", client.ImageImportOptions{
		Changes: []string{`ENTRYPOINT ["/patient"]`, `CMD ["idle"]`, "EXPOSE 8080", "LABEL " + LabelOurs + "=1"},
	})
	if err != nil {
		return "", err
	}
	defer res.Close()
	var last struct{ Status string }
	for d := json.NewDecoder(res); d.More(); {
		if err := d.Decode(&last); err != nil {
			return "", err
		}
	}
	removeImage = func() error {
		e, err := Connect(ctx)
		if err != nil {
			return err
		}
		defer e.Close()
		_, err = e.api.ImageRemove(ctx, last.Status, client.ImageRemoveOptions{PruneChildren: true})
		return err
	}
	return last.Status, nil
})

// create makes a container that runs the patient with arguments, unless the spec says otherwise.
func create(t *testing.T, r *Run, s Spec, args ...string) *Container {
	t.Helper()
	if s.Image == "" {
		s.Image = image(t)
	}
	if s.Name == "" {
		s.Name = "patient"
	}
	if args != nil {
		s.Cmd = args
	}
	c, err := r.Create(t.Context(), s)
	require.NoError(t, err)
	return c
}

// started is create and start; it returns when the patient said that it is ready.
func started(t *testing.T, r *Run, s Spec, args ...string) *Container {
	t.Helper()
	c := create(t, r, s, args...)
	startReady(t, c)
	return c
}

// startReady starts a container and waits for its first line, which is "ready".
func startReady(t *testing.T, c *Container) {
	t.Helper()
	stream, err := c.Attach(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { stream.Close() })
	require.NoError(t, c.Start(t.Context()))
	line, err := bufio.NewReader(stream.Output(io.Discard)).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
}

// ran is a container's whole life: what it wrote, and its status.
func ran(t *testing.T, c *Container) (stdout, stderr string, code int) {
	t.Helper()
	stream, err := c.Attach(t.Context())
	require.NoError(t, err)
	defer stream.Close()
	require.NoError(t, c.Start(t.Context()))
	var o, e bytes.Buffer
	require.NoError(t, stream.Copy(&o, &e))
	code, err = c.Wait(t.Context())
	require.NoError(t, err)
	return o.String(), e.String(), code
}

// within bounds a test whose failure would be to wait for ever.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
