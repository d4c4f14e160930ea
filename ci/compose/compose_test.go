// Package compose shows that the reference topology is a plain Compose file: `make images`, then docker compose up.
package compose

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const file = "scenarios/topologies/reference.yaml"

// composeCommand is that of Compose 2, or of Compose 1 where that is not installed.
func composeCommand(t *testing.T) []string {
	if exec.Command("docker", "compose", "version").Run() == nil {
		return []string{"docker", "compose"}
	}
	if _, err := exec.LookPath("docker-compose"); err != nil {
		t.Skip("neither docker compose nor docker-compose is installed")
	}
	return []string{"docker-compose"}
}

func engine(t *testing.T) *client.Client {
	api, err := client.New(client.FromEnv)
	require.NoError(t, err)
	t.Cleanup(func() { _ = api.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := api.Ping(ctx, client.PingOptions{}); err != nil {
		t.Skip("no Docker engine answers: ", err)
	}
	return api
}

// command runs in the module's root and returns what it wrote to standard output.
func command(ctx context.Context, argv ...string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

func TestReference(t *testing.T) {
	if testing.Short() {
		t.Skip("builds images and starts eight containers, left out by -short")
	}
	api := engine(t)
	project := fmt.Sprint("gauntlet-compose-", os.Getpid())
	compose := append(composeCommand(t), "-p", project, "-f", file)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	first, err := command(ctx, "go", "run", "./ci/images")
	require.NoError(t, err)
	began := time.Now()
	second, err := command(ctx, "go", "run", "./ci/images")
	require.NoError(t, err)
	t.Log("images the second time:", time.Since(began))
	assert.Equal(t, first, second, "nothing changed, so the images are the same")

	down := func() {
		_, err := command(context.WithoutCancel(ctx), append(compose, "down", "--volumes", "--timeout", "5")...)
		assert.NoError(t, err)
	}
	t.Cleanup(down)
	began = time.Now()
	_, err = command(ctx, append(compose, "up", "-d", "--no-build")...)
	require.NoError(t, err)
	t.Log("up:", time.Since(began))

	for _, replica := range []string{"1", "2"} {
		published, err := command(ctx, append(compose, "port", "--index", replica, "gateway", "8080")...)
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(published)
		require.NoError(t, err)
		assert.Equal(t, http.StatusCreated, order(t, ctx, net.JoinHostPort("127.0.0.1", port)))
	}

	label := "com.docker.compose.project=" + project
	assert.Len(t, left(t, api, label), 8+1+3, "containers, network, volumes")
	down()
	assert.Empty(t, left(t, api, label))
}

// order posts an order until the gateway, whose containers Compose does not wait for, answers as it should, and returns
// the status.
func order(t *testing.T, ctx context.Context, address string) int {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var last error
	for try := time.NewTicker(50 * time.Millisecond); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/orders", strings.NewReader(`{"sku":"a","quantity":1}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "compose-"+address)
		// Not the default client: a proxy of the environment has no way to this machine's own address.
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode < 500 {
				return res.StatusCode
			}
			err = fmt.Errorf("status %s", res.Status)
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-try.C:
		case <-ctx.Done():
			try.Stop()
			require.NoError(t, last, "the gateway at %s did not take an order", address)
		}
	}
}

// left are the containers, networks and volumes with a label.
func left(t *testing.T, api client.APIClient, label string) []string {
	var names []string
	with := make(client.Filters).Add("label", label)
	containers, err := api.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: with})
	require.NoError(t, err)
	for _, c := range containers.Items {
		names = append(names, "container "+c.ID)
	}
	networks, err := api.NetworkList(t.Context(), client.NetworkListOptions{Filters: with})
	require.NoError(t, err)
	for _, n := range networks.Items {
		names = append(names, "network "+n.Name)
	}
	volumes, err := api.VolumeList(t.Context(), client.VolumeListOptions{Filters: with})
	require.NoError(t, err)
	for _, v := range volumes.Items {
		names = append(names, "volume "+v.Name)
	}
	return names
}
