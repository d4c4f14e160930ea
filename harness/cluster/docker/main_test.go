package docker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/turn"
)

// TestMain makes the test binary a harness of its own where harnessEnv says so.
func TestMain(m *testing.M) {
	if name := os.Getenv(harnessEnv); name != "" {
		if err := runHarness(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if programs != "" {
		os.RemoveAll(programs)
	}
	os.Exit(code)
}

// needEngine skips a test where there is no engine, with doctor's reason, and takes a turn for it where there is one: all of them
// together take minutes.
func needEngine(t *testing.T) {
	t.Helper()
	if err := docker.New().Capabilities().Missing(cluster.PacketRules); err != nil {
		t.Skipf("no container engine: %v", err)
	}
	turn.Hold(t)
}

// connected returns an engine, or skips the test.
func connected(t *testing.T) *engine.Engine {
	t.Helper()
	needEngine(t)
	e, err := engine.Connect(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// programs is the directory of built programs, once there is one.
var programs string

// hostile builds testdata/hostile.
var hostile = sync.OnceValues(func() (string, error) {
	var err error
	if programs, err = os.MkdirTemp("", "gauntlet-docker-test-"); err != nil {
		return "", err
	}
	out := filepath.Join(programs, "hostile")
	c := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "./testdata/hostile")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build testdata/hostile: %w\n%s", err, b)
	}
	return out, nil
})

// program is the path of the built testdata/hostile.
func program(t *testing.T) string {
	t.Helper()
	p, err := hostile()
	require.NoError(t, err)
	return p
}

// serving is a service that runs a program which answers on port 7000 until it is stopped.
func serving(name, program string) cluster.Service {
	return cluster.Service{
		Name: name, Replicas: 1, Argv0: program, Command: []string{"serve"}, Expose: []int{7000},
		Init: true, StopSignal: "SIGTERM", StopGrace: time.Second, Restart: cluster.Restart{Policy: "no"},
	}
}

var named atomic.Int64

// unique returns a name that no other topology has, so that its things are found by their label.
func unique() string { return fmt.Sprintf("test-%d-%d", os.Getpid(), named.Add(1)) }

// up starts a topology and takes it down at the end of the test, where nothing may be left.
func up(t *testing.T, name string, services ...cluster.Service) cluster.Cluster {
	t.Helper()
	c, err := docker.New().Up(t.Context(), &cluster.Spec{Name: name, Services: services}, cluster.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() {
		left, err := c.Down(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
	})
	return c
}

// of lists the containers, networks and volumes of a topology by its name.
func of(t *testing.T, e *engine.Engine, name string) (found []string) {
	t.Helper()
	f := client.Filters{}.Add("label", engine.LabelName+"="+name)
	cs, err := e.API().ContainerList(context.Background(), client.ContainerListOptions{All: true, Filters: f})
	require.NoError(t, err)
	for _, c := range cs.Items {
		found = append(found, "container "+strings.Join(c.Names, " ")+" "+string(c.State))
	}
	ns, err := e.API().NetworkList(context.Background(), client.NetworkListOptions{Filters: f})
	require.NoError(t, err)
	for _, n := range ns.Items {
		found = append(found, "network "+n.Name)
	}
	vs, err := e.API().VolumeList(context.Background(), client.VolumeListOptions{Filters: f})
	require.NoError(t, err)
	for _, v := range vs.Items {
		found = append(found, "volume "+v.Name)
	}
	return found
}

// containerOf returns the id of a topology's container with a role and, where it has one, a node.
func containerOf(t *testing.T, e *engine.Engine, name, role, node string) string {
	t.Helper()
	f := client.Filters{}.Add("label", engine.LabelName+"="+name, engine.LabelRole+"="+role)
	if node != "" {
		f.Add("label", engine.LabelNode+"="+node)
	}
	cs, err := e.API().ContainerList(t.Context(), client.ContainerListOptions{Filters: f})
	require.NoError(t, err)
	require.Len(t, cs.Items, 1)
	return cs.Items[0].ID
}

// poll asks until f returns no error, and fails with its last one after a time.
func poll(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.After(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond): // nobody tells of it
		case <-deadline:
			require.FailNow(t, fmt.Sprintf("%s: not within %v: %v", what, limit, err))
		}
	}
}

// ended waits for the end of a topology.
func ended(t *testing.T, c cluster.Cluster, limit time.Duration) error {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(limit):
		require.FailNow(t, fmt.Sprintf("nobody noticed within %v", limit))
	}
	require.Error(t, c.Err())
	return c.Err()
}

// callAll makes every call and says which did not fail, or not at once.
func callAll(c cluster.Cluster, node string) (wrong []error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for what, call := range map[string]func() error{
		"dial":       func() error { _, err := c.Dial(ctx, cluster.Client, "tcp", node+":7000"); return err },
		"dial plane": func() error { _, err := c.DialPlane(ctx, "tcp", node+":7000"); return err },
		"listen":     func() error { _, err := c.Listen(ctx, node); return err },
		"exec": func() error {
			_, err := c.Exec(ctx, node, cluster.Process{Argv: []string{"hostile", "serve"}})
			return err
		},
		"start":  func() error { return c.Start(ctx, node) },
		"kill":   func() error { _, err := c.Kill(ctx, node); return err },
		"stop":   func() error { _, err := c.Stop(ctx, node); return err },
		"pause":  func() error { return c.Pause(ctx, node) },
		"signal": func() error { _, err := c.Signal(ctx, node, "SIGHUP", ""); return err },
		"await":  func() error { return c.AwaitReady(ctx, node) },
		"apply": func() error {
			_, err := c.Apply(ctx, []cluster.Link{{From: cluster.Client, To: node}}, cluster.Rule{Drop: true})
			return err
		},
		"reset": func() error {
			_, err := c.Reset(ctx, []cluster.Link{{From: cluster.Client, To: node}})
			return err
		},
	} {
		switch err := call(); {
		case err == nil:
			wrong = append(wrong, fmt.Errorf("%s: it worked", what))
		case errors.Is(err, context.DeadlineExceeded):
			wrong = append(wrong, fmt.Errorf("%s: it hangs until its deadline", what))
		}
	}
	return wrong
}
