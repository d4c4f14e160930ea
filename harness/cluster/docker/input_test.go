package docker_test

import (
	"context"
	"debug/elf"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine/enginetest"
	"github.com/hasvc/gauntlet/harness/plan"
)

// TestBadInput starts what cannot be started: the error says what was wrong, and nothing is left.
func TestBadInput(t *testing.T) {
	e := connected(t)
	ready := &plan.Condition{TCP: ":7000"}
	for _, bad := range []struct {
		name   string
		change func(t *testing.T, s *cluster.Service)
		says   []string
	}{
		{"an image that cannot be had", func(_ *testing.T, s *cluster.Service) {
			*s = cluster.Service{Name: s.Name, Replicas: 1, Source: cluster.Source{Image: "localhost:1/no-such-image:v1"}}
		}, []string{"service bad", "localhost:1/no-such-image:v1", "x-gauntlet"}},
		{"a Dockerfile that fails", func(t *testing.T, s *cluster.Service) {
			*s = cluster.Service{Name: s.Name, Replicas: 1, Source: dockerfile(t, "FROM scratch\nCOPY hostile /hostile\nRUN [\"/hostile\", \"what a pity\"]\n")}
		}, []string{"service bad", "what a pity", "Dockerfile"}},
		{"a Dockerfile that is none", func(t *testing.T, s *cluster.Service) {
			*s = cluster.Service{Name: s.Name, Replicas: 1, Source: dockerfile(t, "FORM scratch\n")}
		}, []string{"service bad", "FORM"}},
		{"a program that dies at once", func(_ *testing.T, s *cluster.Service) {
			s.Command = []string{"dance"} // and no condition by which it would be missed
		}, []string{"node bad", "status 1", `no verb in ["dance"]`}},
		{"a built program that dies at once", func(t *testing.T, s *cluster.Service) {
			*s = cluster.Service{Name: s.Name, Replicas: 1, Ready: ready, Source: dockerfile(t, "FROM scratch\nCOPY hostile /hostile\nENTRYPOINT [\"/hostile\", \"dance\"]\n")}
		}, []string{"node bad", "status 1", `no verb in ["dance"]`}},
		{"a stop signal that nobody knows", func(t *testing.T, s *cluster.Service) {
			*s = cluster.Service{Name: s.Name, Replicas: 1, Source: dockerfile(t, "FROM scratch\nCOPY hostile /hostile\nSTOPSIGNAL SIGRTMIN+3\nENTRYPOINT [\"/hostile\", \"serve\"]\n")}
		}, []string{"service bad", "SIGRTMIN+3", "stop_signal"}},
		{"an entrypoint that is not there", func(t *testing.T, s *cluster.Service) {
			*s = cluster.Service{Name: s.Name, Replicas: 1, Source: dockerfile(t, "FROM scratch\nCOPY hostile /hostile\nENTRYPOINT [\"/hospital\"]\n")}
		}, []string{"bad", "/hospital", "not in the image"}},
		{"a script", func(t *testing.T, s *cluster.Service) {
			s.Argv0 = written(t, "script", "#!/bin/sh\nsleep 1000\n")
		}, []string{"service bad", "/bin/sh", "image:"}},
		{"a program of another machine", func(t *testing.T, s *cluster.Service) {
			s.Argv0 = foreign(t)
		}, []string{"service bad", "s390x", "amd64"}},
		{"a bind mount that is not there", func(_ *testing.T, s *cluster.Service) {
			s.Volumes = []cluster.Mount{{Kind: "bind", Source: "/no/such/place", Target: "/x"}}
		}, []string{"bad", "/no/such/place"}},
		{"a full disk", func(_ *testing.T, s *cluster.Service) {
			s.Command, s.Ready = []string{"fill", "/data/file"}, ready
			s.Volumes = []cluster.Mount{{Kind: "tmpfs", Target: "/data", Size: 1 << 20}}
		}, []string{"node bad", "write /data/file: no space left on device"}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			name := unique()
			s := serving("bad", program(t))
			bad.change(t, &s)
			before := goleak.IgnoreCurrent()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			var said lines
			_, err := docker.New().Up(ctx, &cluster.Spec{Name: name, Services: []cluster.Service{serving("good", program(t)), s}}, cluster.Options{Dir: t.TempDir(), Progress: said.add})
			require.Error(t, err)
			if from := s.Source; from.Build != nil || from.Image != "" {
				require.Contains(t, said.text(), "service bad: the image")
			}
			require.NoError(t, ctx.Err(), "a failure that is certain is not waited for")
			for _, says := range bad.says {
				require.ErrorContains(t, err, says)
			}
			require.NotContains(t, err.Error(), "context canceled", "what failed first is what is said")
			require.Empty(t, of(t, e, name))
			require.NoError(t, leaks(before, e))
		})
	}
}

// TestStopSignal: a program is stopped as docker stop does it, by the signal of the file or else by that of the image.
func TestStopSignal(t *testing.T) {
	needEngine(t)
	from := func(name, image, file string) cluster.Service {
		s := serving(name, "")
		s.Source, s.StopSignal, s.Command = dockerfile(t, "FROM scratch\nCOPY hostile /hostile\n"+image+"ENTRYPOINT [\"/hostile\", \"serve\"]\n"), file, nil
		return s
	}
	program := serving("program", program(t))
	program.StopSignal = ""
	c := up(t, unique(), from("image", "STOPSIGNAL SIGINT\n", ""), from("file", "STOPSIGNAL SIGINT\n", "SIGHUP"), from("neither", "", ""), program)
	for node, signal := range map[string]string{"image": "SIGINT", "file": "SIGHUP", "neither": "SIGTERM", "program": "SIGTERM"} {
		exit, err := c.Stop(t.Context(), node)
		require.NoError(t, err)
		require.Equal(t, signal, exit.Signal, node)
	}
}

// lines collects what is reported.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// dockerfile returns a directory with a Dockerfile and the program hostile.
func dockerfile(t *testing.T, text string) cluster.Source {
	t.Helper()
	b, err := os.ReadFile(program(t))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hostile"), b, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644))
	return cluster.Source{Build: &cluster.Build{Context: dir, Dockerfile: "Dockerfile"}}
}

func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

// foreign is the program, as its head has it for another architecture.
func foreign(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(program(t))
	require.NoError(t, err)
	b[18], b[19] = byte(elf.EM_S390), 0 // e_machine
	return written(t, "foreign", string(b))
}

// TestNodeThatCouldNotBeMade: nothing of it is in the way of the next attempt.
func TestNodeThatCouldNotBeMade(t *testing.T) {
	e := connected(t)
	var failing atomic.Bool
	enginetest.Between(t, e.Host(), func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/attach") && failing.Load() {
			http.Error(w, `{"message": "not today"}`, http.StatusInternalServerError)
			return
		}
		engine.ServeHTTP(w, r)
	})
	s := serving("a", program(t))
	s.Scaled = true
	c := up(t, unique(), s)
	failing.Store(true)
	err := c.Scale(t.Context(), "a", 2)
	require.ErrorContains(t, err, "attach to the container")
	failing.Store(false)
	require.NoError(t, c.Scale(t.Context(), "a", 2))
}

// TestNameTaken has somebody else take the name of a container while a topology runs: the node cannot be made anew.
func TestNameTaken(t *testing.T) {
	e := connected(t)
	name := unique()
	c := up(t, name, serving("a", program(t)))
	_, err := c.Stop(t.Context(), "a")
	require.NoError(t, err)
	cs, err := e.API().ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", engine.LabelName+"="+name, engine.LabelNode+"=a", engine.LabelRole+"=program")})
	require.NoError(t, err)
	require.Len(t, cs.Items, 1)
	taken := strings.TrimPrefix(cs.Items[0].Names[0], "/")
	_, err = e.API().ContainerRename(t.Context(), cs.Items[0].ID, client.ContainerRenameOptions{NewName: taken + "-before"})
	require.NoError(t, err)
	strange := stranger(t, e, taken)
	err = c.Restart(t.Context(), "a", map[string]string{"MORE": "1"}) // needs a new container
	require.ErrorContains(t, err, "a container of this name exists")
	require.ErrorContains(t, err, taken)
	_, err = e.API().ContainerInspect(t.Context(), strange, client.ContainerInspectOptions{})
	require.NoError(t, err, "it is not ours to remove")
}

// TestNoEngine has no engine, and one that may not be used.
func TestNoEngine(t *testing.T) {
	start := func(t *testing.T) error {
		dir := t.TempDir()
		_, err := docker.New().Up(t.Context(), &cluster.Spec{Name: "none", Services: []cluster.Service{serving("a", program(t))}}, cluster.Options{Dir: dir})
		require.Error(t, err)
		left, readErr := os.ReadDir(dir)
		require.NoError(t, readErr)
		require.Empty(t, left)
		return err
	}
	t.Run("nobody listens", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "dead.sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		require.NoError(t, err)
		l.SetUnlinkOnClose(false)
		require.NoError(t, l.Close())
		t.Setenv("DOCKER_HOST", "unix://"+path)
		err = start(t)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "start the engine")
		removed, err := docker.Clean(t.Context())
		require.ErrorContains(t, err, path, "what is left there cannot be seen")
		require.Empty(t, removed)
	})
	t.Run("forbidden", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root can become a user who may not use a socket of this one")
		}
		dir := t.TempDir()
		require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
		require.NoError(t, os.Chmod(dir, 0o755))
		path := filepath.Join(dir, "engine.sock")
		l, err := net.Listen("unix", path)
		require.NoError(t, err)
		defer l.Close()
		require.NoError(t, os.Chmod(path, 0))
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+path, "HOME=/", harnessEnv+"=forbidden", programEnv+"="+program(t))
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := c.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "permission denied")
		require.Contains(t, string(out), "add yourself to the group docker")
	})
}

// TestFullRunDirectory has no room for logs: the run cannot be recorded, and Up says so.
func TestFullRunDirectory(t *testing.T) {
	e := connected(t)
	if os.Getuid() != 0 {
		t.Skip("only root mounts a small file system here")
	}
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "nr_inodes=2"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	name := unique()
	_, err := docker.New().Up(t.Context(), &cluster.Spec{Name: name, Services: []cluster.Service{serving("a", program(t))}}, cluster.Options{Dir: dir})
	require.ErrorContains(t, err, "no space left on device")
	require.ErrorContains(t, err, dir)
	require.Empty(t, of(t, e, name))
}
