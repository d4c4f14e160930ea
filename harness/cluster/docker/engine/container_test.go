package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

func TestOutputIsWhole(t *testing.T) {
	r := newRun(t, connected(t))
	const n = 64 << 10
	o, e, code := ran(t, create(t, r, Spec{}, "write", "65536", "5"))
	assert.Equal(t, strings.Repeat("o", n), o)
	assert.Equal(t, strings.Repeat("e", n), e)
	assert.Equal(t, 5, code)
}

func TestStandardInput(t *testing.T) {
	r := newRun(t, connected(t))
	c := create(t, r, Spec{Stdin: true}, "echo")
	stream, err := c.Attach(t.Context())
	require.NoError(t, err)
	defer stream.Close()
	require.NoError(t, c.Start(t.Context()))
	_, err = io.WriteString(stream.Stdin, "hello")
	require.NoError(t, err)
	var stderr strings.Builder
	out := stream.Output(&stderr)
	b := make([]byte, 5)
	_, err = io.ReadFull(out, b)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(b))
	require.NoError(t, stream.Stdin.Close())
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Empty(t, rest)
	assert.Equal(t, "5\n", stderr.String())
}

// A harness that dies closes its connections and nothing else.
func TestStandardInputEndsWithTheStream(t *testing.T) {
	r := newRun(t, connected(t))
	c := create(t, r, Spec{Stdin: true}, "echo")
	stream, err := c.Attach(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Start(t.Context()))
	require.NoError(t, stream.Close())
	code, err := c.Wait(within(t, 20*time.Second))
	require.NoError(t, err)
	assert.Equal(t, 0, code)
}

func TestSpec(t *testing.T) {
	r := newRun(t, connected(t))
	n, err := r.Network(t.Context())
	require.NoError(t, err)
	addr, err := n.NodeAddr(3)
	require.NoError(t, err)
	c := create(t, r, Spec{Name: "a", Node: "store", Role: "pod", Network: &n, Addr: addr, User: "1234", Dir: "/tmp",
		Hostname: "store-1", Env: map[string]string{"COLOUR": "green"}, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
		Entrypoint: []string{patient, "who"}})
	o, _, _ := ran(t, c)
	assert.Equal(t, "1234 /tmp store-1 green 0\n", o, "user, directory, host name, environment; no arguments of the image")
	in, err := c.e.api.ContainerInspect(t.Context(), c.id, inspectOptions)
	require.NoError(t, err)
	assert.Equal(t, addr, in.Container.NetworkSettings.Networks[n.Name].IPAMConfig.IPv4Address)
	assert.Len(t, in.Container.NetworkSettings.Networks, 1)
	assert.Empty(t, in.Container.HostConfig.PortBindings, "the image exposes a port, and nothing is published")
	assert.Equal(t, "none", in.Container.HostConfig.LogConfig.Type)
	assert.Equal(t, r.ID(), in.Container.Config.Labels[LabelRun])
	assert.Equal(t, "store", in.Container.Config.Labels[LabelNode])
	assert.Equal(t, "pod", in.Container.Config.Labels[LabelRole])
}

func TestSharedNetwork(t *testing.T) {
	r := newRun(t, connected(t))
	n, err := r.Network(t.Context())
	require.NoError(t, err)
	addr, err := n.NodeAddr(0)
	require.NoError(t, err)
	pod := create(t, r, Spec{Name: "pod", Network: &n, Addr: addr, Hostname: "h1", Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}})
	program := create(t, r, Spec{Name: "program", NetworkOf: pod.ID()}, "cat", "/proc/sys/net/ipv4/ip_forward", "/etc/hostname")

	err = program.Start(t.Context())
	assert.ErrorIs(t, err, ErrNotRunning, "its pod does not run")

	startReady(t, pod)
	o, _, _ := ran(t, program)
	assert.Contains(t, o, "ip_forward 644 1\n")
	assert.Contains(t, o, "h1\n")
}

func TestFilesAndPrograms(t *testing.T) {
	r := newRun(t, connected(t))
	tool := filepath.Join(t.TempDir(), "tool")
	require.NoError(t, os.WriteFile(tool, []byte("a tool"), 0o600))
	s := Spec{
		Files: []cluster.File{
			{Target: "/etc/deep/er/conf", Content: []byte("deep"), Mode: 0o640},
			{Target: "/tmp/secret", Content: []byte("secret"), Mode: 0o400},
		},
		Programs: map[string]string{"tool": tool},
	}
	c := create(t, r, s, "cat", "/etc/deep/er/conf", "/tmp/secret", "/usr/local/bin/tool")
	o, e, code := ran(t, c)
	assert.Equal(t, "/etc/deep/er/conf 640 deep\n/tmp/secret 400 secret\n/usr/local/bin/tool 755 a tool\n", o, e)
	assert.Equal(t, 0, code)

	s.Name = "modes"
	o, _, _ = ran(t, create(t, r, s, "stat", "/tmp"))
	assert.Equal(t, "dtrwxrwxrwx\n", o, "a directory on the way keeps its mode")

	_, err := r.Create(t.Context(), Spec{Name: "none", Image: image(t), Programs: map[string]string{"x": tool + "-not-there"}})
	require.ErrorIs(t, err, os.ErrNotExist)
	cs, _, err := r.e.list(t.Context(), r.filter())
	require.NoError(t, err)
	assert.Len(t, cs, 2, "of a container that could not be filled nothing is left")
}

func TestMounts(t *testing.T) {
	e := connected(t)
	r := newRun(t, e)
	require.NoError(t, r.Volume(t.Context(), r.full("v"), map[string]string{"dev.gauntlet.test": r.ID()}))
	defer func() {
		left, err := r.Remove(t.Context())
		require.NoError(t, err)
		require.Empty(t, left)
		require.NoError(t, e.RemoveVolumes(t.Context(), map[string]string{"dev.gauntlet.test": r.ID()}))
		_, err = e.api.VolumeInspect(t.Context(), r.full("v"), volumeInspectOptions)
		require.True(t, notThere(err), "the volume is gone: %v", err)
	}()
	volume := cluster.Mount{Kind: "volume", Source: r.full("v"), Target: "/data"}
	_, stderr, code := ran(t, create(t, r, Spec{Name: "w", Mounts: []cluster.Mount{volume}}, "touch", "/data/x"))
	require.Equal(t, 0, code, stderr)

	volume.ReadOnly = true
	_, _, code = ran(t, create(t, r, Spec{Name: "r", Mounts: []cluster.Mount{volume}}, "have", "/data/x"))
	assert.Equal(t, 0, code, "a volume outlives containers")
	_, stderr, _ = ran(t, create(t, r, Spec{Name: "ro", Mounts: []cluster.Mount{volume}}, "touch", "/data/y"))
	assert.Contains(t, stderr, "read-only")

	tmpfs := cluster.Mount{Kind: "tmpfs", Target: "/data", Size: 1 << 20}
	_, stderr, _ = ran(t, create(t, r, Spec{Name: "t", Mounts: []cluster.Mount{tmpfs}}, "fill", "/data/y", "2000000"))
	assert.Contains(t, stderr, "no space left")

	bind := cluster.Mount{Kind: "bind", Source: "/nowhere/at/all", Target: "/data"}
	_, err := r.Create(t.Context(), Spec{Name: "b", Image: image(t), Mounts: []cluster.Mount{bind}})
	require.ErrorContains(t, err, "a bind mount's source is not on the engine's machine")
	require.NoDirExists(t, "/nowhere")
}

func TestNoNewPrivileges(t *testing.T) {
	r := newRun(t, connected(t))
	for _, none := range []bool{false, true} {
		out, stderr, _ := ran(t, create(t, r, Spec{Name: fmt.Sprint(none), NoNewPrivileges: none}, "cat", "/proc/self/status"))
		assert.Equal(t, none, strings.Contains(out, "NoNewPrivs:\t1\n"), "%s%s", out, stderr)
	}
}

func TestLife(t *testing.T) {
	r := newRun(t, connected(t))
	ctx := within(t, time.Minute)
	c := started(t, r, Spec{})
	s, err := c.Inspect(ctx)
	require.NoError(t, err)
	assert.True(t, s.Running)
	assert.NotZero(t, s.Pid)
	assert.WithinDuration(t, time.Now(), s.Started, time.Minute)
	assert.True(t, s.Finished.IsZero())

	require.NoError(t, c.Pause(ctx))
	s, err = c.Inspect(ctx)
	require.NoError(t, err)
	assert.True(t, s.Paused)
	require.NoError(t, c.Unpause(ctx))

	require.NoError(t, c.Stop(ctx, "SIGTERM", 20*time.Second))
	s, err = c.Inspect(ctx)
	require.NoError(t, err)
	assert.False(t, s.Running)
	assert.Equal(t, 7, s.ExitCode, "it got the signal, and ended by itself")
	require.NoError(t, c.Stop(ctx, "SIGTERM", time.Second), "it has ended already")
	assert.ErrorIs(t, c.Kill(ctx, "SIGTERM"), ErrNotRunning)

	startReady(t, c)
	require.NoError(t, c.Kill(ctx, "SIGKILL"))
	s, err = c.Inspect(ctx)
	require.NoError(t, err)
	assert.Equal(t, 137, s.ExitCode)
	assert.False(t, s.OOMKilled)

	require.NoError(t, c.Remove(ctx))
	require.NoError(t, c.Remove(ctx), "again")
	_, err = c.Inspect(ctx)
	assert.ErrorIs(t, err, ErrNoContainer)
	assert.ErrorIs(t, c.Start(ctx), ErrNoContainer)
	_, err = c.Attach(ctx)
	assert.ErrorIs(t, err, ErrNoContainer)
}

func TestStopKillsWhatDoesNotStop(t *testing.T) {
	r := newRun(t, connected(t))
	c := started(t, r, Spec{}, "stubborn")
	began := time.Now()
	require.NoError(t, c.Stop(within(t, time.Minute), "SIGTERM", 300*time.Millisecond))
	assert.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	s, err := c.Inspect(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 137, s.ExitCode)
}

func TestKillOfAPausedContainer(t *testing.T) {
	r := newRun(t, connected(t))
	ctx := within(t, time.Minute)
	for i, signal := range []string{"SIGTERM", "SIGKILL"} {
		c := started(t, r, Spec{Name: signal})
		require.NoError(t, c.Pause(ctx))
		require.NoError(t, c.Kill(ctx, signal))
		code, err := c.Wait(ctx)
		require.NoError(t, err)
		assert.Equal(t, []int{7, 137}[i], code)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	r := newRun(t, connected(t))
	c := started(t, r, Spec{})
	_, err := c.Wait(within(t, 50*time.Millisecond))
	require.Error(t, err)
	assert.NotErrorIs(t, err, ErrEngineGone)
}

func TestErrorsOfStart(t *testing.T) {
	r := newRun(t, connected(t))
	for argv0, said := range map[string]string{
		"/not/there": "no such file or directory", "notthere": "executable file not found", "/tmp": "permission denied",
	} {
		c := create(t, r, Spec{Name: strings.ReplaceAll(argv0[1:], "/", "-"), Entrypoint: []string{argv0}})
		stream, err := c.Attach(t.Context())
		require.NoError(t, err)
		err = c.Start(t.Context())
		require.ErrorIs(t, err, ErrNoProgram)
		assert.ErrorContains(t, err, said)
		assert.NoError(t, stream.Copy(nil, nil), "the stream ends with the failed start")
		require.NoError(t, stream.Close())
	}
}

// Some runtimes notice at the start that a file is no executable, others in the container.
func TestAFileThatIsNoProgram(t *testing.T) {
	r := newRun(t, connected(t))
	c := create(t, r, Spec{Entrypoint: []string{"/notexec"}})
	stream, err := c.Attach(t.Context())
	require.NoError(t, err)
	defer stream.Close()
	startErr := c.Start(t.Context())
	var said strings.Builder
	require.NoError(t, stream.Copy(&said, &said))
	if startErr != nil {
		said.WriteString(startErr.Error())
		assert.ErrorIs(t, startErr, ErrNoProgram)
	}
	assert.Contains(t, said.String(), "exec format error")
	s, err := c.Inspect(t.Context())
	require.NoError(t, err)
	assert.False(t, s.Running)
	assert.NotZero(t, s.ExitCode)
}

func TestErrorsOfCreate(t *testing.T) {
	r := newRun(t, connected(t))
	create(t, r, Spec{Name: "one"})
	_, err := r.Create(t.Context(), Spec{Name: "one", Image: image(t)})
	assert.ErrorContains(t, err, "a container of this name exists")

	began := time.Now()
	_, err = r.Create(t.Context(), Spec{Name: "two", Image: "nobody/nothing:never"})
	assert.ErrorIs(t, err, ErrNoImage)
	assert.Less(t, time.Since(began), 2*time.Second, "it was not looked for elsewhere")

	n := Network{Name: "n", Prefix: netip.MustParsePrefix("10.0.0.0/20")}
	for _, bad := range []Spec{
		{Network: &n, NetworkOf: "x"},
		{NetworkOf: "x", Hostname: "h"},
		{Network: &n, Addr: netip.MustParseAddr("10.1.0.1")},
		{Mounts: []cluster.Mount{{Kind: "npipe"}}},
	} {
		bad.Name, bad.Image = "bad", image(t)
		_, err := r.Create(t.Context(), bad)
		assert.ErrorContains(t, err, "container bad: ")
	}
}

func TestLimits(t *testing.T) {
	e := connected(t)
	if err := errors.Join(e.MemoryLimit(), e.CPULimit()); err != nil {
		t.Skip(err)
	}
	r := newRun(t, e)
	ctx := within(t, time.Minute)
	l := cluster.Limits{CPUs: 0.5, Memory: 64 << 20, Pids: 50}
	c := started(t, r, Spec{Limits: l})
	look := func() (cpu, memory, pids int64) {
		in, err := e.api.ContainerInspect(ctx, c.id, inspectOptions)
		require.NoError(t, err)
		res := in.Container.HostConfig.Resources
		return res.CPUQuota, res.Memory, *res.PidsLimit
	}
	cpu, memory, pids := look()
	assert.Equal(t, []int64{50_000, 64 << 20, 50}, []int64{cpu, memory, pids})

	require.NoError(t, c.Limit(ctx, cluster.Limits{CPUs: 0.25, Memory: 128 << 20}))
	cpu, memory, pids = look()
	assert.Equal(t, []int64{25_000, 128 << 20, 0}, []int64{cpu, memory, pids})

	require.NoError(t, c.Limit(ctx, cluster.Limits{}))
	cpu, memory, _ = look()
	assert.Equal(t, []int64{-1, unlimitedMemory}, []int64{cpu, memory})

	_, _, code := ran(t, create(t, r, Spec{Name: "eater", Limits: cluster.Limits{Memory: 32 << 20}}, "eat", "100"))
	assert.Equal(t, 137, code)
}

// TestCreateOutlivesItsCaller: what is made in spite of a caller who has gone is removed, so that its name is free again.
func TestCreateOutlivesItsCaller(t *testing.T) {
	id := image(t)
	var leave context.CancelFunc
	e := behind(t, func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/containers/create") && leave != nil {
			leave()
			r = r.WithContext(context.WithoutCancel(r.Context())) // an engine does not stop half way
		}
		engine.ServeHTTP(w, r)
	})
	r := newRun(t, e)
	for what, make := range map[string]func(context.Context) error{
		"a container": func(ctx context.Context) error { _, err := r.Create(ctx, Spec{Name: "patient", Image: id}); return err },
		"one beside others": func(ctx context.Context) error {
			_, err := r.Beside(ctx, "", id, []string{patient, "exit", "0"})
			return err
		},
	} {
		var ctx context.Context
		ctx, leave = context.WithCancel(t.Context())
		require.ErrorIs(t, make(ctx), context.Canceled, what)
		leave = nil
		cs, _, err := r.e.list(t.Context(), r.filter())
		require.NoError(t, err)
		require.Empty(t, cs, what)
	}
	create(t, r, Spec{Image: id})
}

func TestOutOfMemory(t *testing.T) {
	e := connected(t)
	if err := e.MemoryLimit(); err != nil {
		t.Skip(err)
	}
	ctx := within(t, time.Minute)
	c := create(t, newRun(t, e), Spec{Limits: cluster.Limits{Memory: 32 << 20}}, "eat", "100")
	require.NoError(t, c.Start(ctx))
	code, err := c.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, 137, code)
	s, err := c.Inspect(ctx)
	require.NoError(t, err)
	assert.True(t, s.OOMKilled)
}
