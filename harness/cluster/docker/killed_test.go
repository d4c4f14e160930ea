package docker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine/enginetest"
	"github.com/hasvc/gauntlet/harness/cluster/docker/images"
)

// The environment that makes the test binary a harness of its own: the name of its topology, its program, and how many replicas of it
// there are, if not one.
const (
	harnessEnv  = "GAUNTLET_TEST_HARNESS"
	programEnv  = "GAUNTLET_TEST_PROGRAM"
	replicasEnv = "GAUNTLET_TEST_REPLICAS"
)

// aftermath is what a harness says when its topology has ended by itself.
type aftermath struct {
	Err      string
	Calls    []string // that did not fail, or not at once
	Left     []string
	Down     string // its error
	DownTook time.Duration
	Leaks    string // goroutines
}

// runHarness starts a topology, says so, and waits for its end.
func runHarness(name string) error {
	dir, err := os.MkdirTemp("", "gauntlet-docker-test-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	before := goleak.IgnoreCurrent()
	s := serving("a", os.Getenv(programEnv))
	if n := os.Getenv(replicasEnv); n != "" {
		if s.Replicas, err = strconv.Atoi(n); err != nil {
			return err
		}
		s.Scaled = true // they have numbers
	}
	s.Volumes = []cluster.Mount{{Kind: "volume", Source: "data", Target: "/data"}}
	c, err := docker.New().Up(context.Background(), &cluster.Spec{Name: name, Services: []cluster.Service{s}, Volumes: []string{"data"}}, cluster.Options{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println("up")
	<-c.Done()
	a := aftermath{Err: c.Err().Error()}
	for _, err := range callAll(c, "a") {
		a.Calls = append(a.Calls, err.Error())
	}
	began := time.Now()
	left, err := c.Down(context.Background())
	a.Left, a.DownTook = left, time.Since(began)
	if err != nil {
		a.Down = err.Error()
	}
	if err := goleak.Find(before); err != nil {
		a.Leaks = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// harness is the test binary as one.
type harness struct {
	*exec.Cmd
	lines *bufio.Reader
}

// startHarness starts a harness and returns when its topology is up. It is killed with the test.
func startHarness(t *testing.T, name string, env ...string) *harness {
	t.Helper()
	h := &harness{Cmd: exec.Command("/proc/self/exe")}
	// What it makes in the temporary folder stays when it is killed, and is this test's to remove.
	h.Env = append(append(os.Environ(), harnessEnv+"="+name, programEnv+"="+program(t), "TMPDIR="+t.TempDir()), env...)
	h.Stderr = os.Stderr
	out, err := h.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, h.Start())
	t.Cleanup(func() {
		_ = h.Process.Kill() // where the test has not
		_ = h.Wait()
	})
	h.lines = bufio.NewReader(out)
	line, err := h.lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "up\n", line)
	return h
}

// TestHarnessKilled kills a harness beside another that lives, and beside a container of somebody else with a name like
// ours.
func TestHarnessKilled(t *testing.T) {
	e := connected(t)
	living := up(t, unique(), serving("b", program(t)))
	strange := stranger(t, e, "gauntlet-aaaaaaaa-plane")
	name := unique()
	h := startHarness(t, name)
	require.NotEmpty(t, running(t, e, name, "plane"))
	require.NotEmpty(t, running(t, e, name, "pod"))
	require.NoError(t, h.Process.Kill())
	require.ErrorContains(t, h.Wait(), "killed")

	poll(t, 5*time.Second, "the plane and the pods end by themselves", func() error {
		if still := append(running(t, e, name, "plane"), running(t, e, name, "pod")...); len(still) > 0 {
			return fmt.Errorf("%v run", still)
		}
		return nil
	})
	before := strings.Join(of(t, e, name), "\n")
	require.Contains(t, before, "-a-pod", "it stays for the sweeper")
	require.Contains(t, before, "network ")
	require.Contains(t, before, "volume ")

	removed, err := docker.Clean(t.Context())
	require.NoError(t, err)
	require.Contains(t, strings.Join(removed, "\n"), "-a-pod")
	require.Empty(t, of(t, e, name))

	_, err = e.API().ContainerInspect(t.Context(), strange, client.ContainerInspectOptions{})
	require.NoError(t, err, "somebody else's container")
	require.NoError(t, living.Err())
	c, err := living.Dial(t.Context(), cluster.Client, "tcp", "b:7000")
	require.NoError(t, err, "the other run goes on")
	require.NoError(t, c.Close())
	_, err = living.Kill(t.Context(), "b")
	require.NoError(t, err)
	require.NoError(t, living.Start(t.Context(), "b"))
}

// TestPodsOfAKilledHarnessLeaveOneByOne: all see its end at once, and an engine may lose count of a network that several leave at once.
func TestPodsOfAKilledHarnessLeaveOneByOne(t *testing.T) {
	e := connected(t)
	name := unique()
	h := startHarness(t, name, replicasEnv+"=6")
	pods := slices.DeleteFunc(running(t, e, name, "pod"), func(pod string) bool { return strings.HasSuffix(pod, "-client-pod") })
	require.Len(t, pods, 6)
	require.NoError(t, h.Process.Kill())
	require.ErrorContains(t, h.Wait(), "killed")

	poll(t, 10*time.Second, "the pods end by themselves", func() error {
		if still := running(t, e, name, "pod"); len(still) > 0 {
			return fmt.Errorf("%v run", still)
		}
		return nil
	})
	ended := map[string]time.Time{}
	for _, pod := range pods {
		got, err := e.API().ContainerInspect(t.Context(), pod, client.ContainerInspectOptions{})
		require.NoError(t, err)
		ended[pod], err = time.Parse(time.RFC3339Nano, got.Container.State.FinishedAt)
		require.NoError(t, err)
	}
	byEnd := slices.SortedFunc(maps.Keys(ended), func(a, b string) int { return ended[a].Compare(ended[b]) })
	slices.Sort(pods) // by the replica's number, as their addresses
	require.Equal(t, pods, byEnd)
	_, err := docker.Clean(t.Context())
	require.NoError(t, err)
	require.Empty(t, of(t, e, name))
}

// TestCleanLeavesImagesToARunThatStarts: they are made, or found, before a container uses them.
func TestCleanLeavesImagesToARunThatStarts(t *testing.T) {
	e := connected(t)
	path := filepath.Join(t.TempDir(), "unused")
	b, err := os.ReadFile(program(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(b, unique()...), 0o755)) // no image is of it yet
	starting := e.NewRun(unique())
	_, err = starting.Network(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := starting.Remove(context.Background())
		require.NoError(t, err)
	})
	image, err := images.New(e.API()).Program(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := e.API().ImageRemove(context.Background(), image, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		require.NoError(t, err)
	})
	_, err = docker.Clean(t.Context())
	require.NoError(t, err)
	_, err = e.API().ImageInspect(t.Context(), image)
	require.NoError(t, err)
}

// TestTheNetworkComesBeforeTheImages: from its first image on, something of a run stands that Clean sees.
func TestTheNetworkComesBeforeTheImages(t *testing.T) {
	e := connected(t)
	asked := make(chan string, 100)
	enginetest.Between(t, e.Host(), func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		switch {
		case strings.Contains(r.URL.Path, "/images/"):
			asked <- r.URL.Path
		case strings.HasSuffix(r.URL.Path, "/networks/create"):
			select { // who does not wait for the answer asks for an image meanwhile
			case path := <-asked:
				asked <- path
			case <-time.After(500 * time.Millisecond):
			}
			http.Error(w, `{"message": "not today"}`, http.StatusInternalServerError)
			return
		}
		engine.ServeHTTP(w, r)
	})
	_, err := docker.New().Up(t.Context(), &cluster.Spec{Name: unique(), Services: []cluster.Service{serving("a", program(t))}}, cluster.Options{Dir: t.TempDir()})
	require.ErrorContains(t, err, "not today")
	require.Empty(t, asked)
}

// running lists the running containers of a topology with a role.
func running(t *testing.T, e *engine.Engine, name, role string) (ids []string) {
	t.Helper()
	f := client.Filters{}.Add("label", engine.LabelName+"="+name, engine.LabelRole+"="+role)
	cs, err := e.API().ContainerList(context.Background(), client.ContainerListOptions{Filters: f})
	require.NoError(t, err)
	for _, c := range cs.Items {
		ids = append(ids, c.Names[0])
	}
	return ids
}

// stranger makes a container without labels.
func stranger(t *testing.T, e *engine.Engine, name string) string {
	t.Helper()
	image, err := images.New(e.API()).Program(t.Context(), program(t))
	require.NoError(t, err)
	made, err := e.API().ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Config: &container.Config{Image: image}})
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := e.API().ContainerRemove(context.Background(), made.ID, client.ContainerRemoveOptions{Force: true})
		require.NoError(t, err)
	})
	return made.ID
}

// TestEngineGone takes the engine away from a running topology, and gives it back.
func TestEngineGone(t *testing.T) {
	e := connected(t)
	p := newProxy(t, e)
	name := unique()
	h := startHarness(t, name, "DOCKER_HOST="+p.host())
	began := time.Now()
	p.cut()
	var a aftermath
	require.NoError(t, json.NewDecoder(h.lines).Decode(&a))
	require.Less(t, time.Since(began), 10*time.Second)
	require.NoError(t, h.Wait())
	t.Logf("%+v", a)

	require.Contains(t, a.Err, "the container engine does not answer any more")
	require.Empty(t, a.Calls)
	require.Contains(t, a.Down, "the container engine does not answer any more")
	require.Contains(t, strings.Join(a.Left, "\n"), "gauntlet clean", "what to do about what is left")
	require.Less(t, a.DownTook, 5*time.Second)
	require.Empty(t, a.Leaks)
	require.NotEmpty(t, of(t, e, name), "there is something to clean")

	p.restore()
	t.Setenv("DOCKER_HOST", p.host())
	_, err := docker.Clean(t.Context())
	require.NoError(t, err)
	require.Empty(t, of(t, e, name))
}

// TestDownWhenStreamsDoNotEnd: the engine has killed everything, or says so, and yet never ends the streams of what it ran.
func TestDownWhenStreamsDoNotEnd(t *testing.T) {
	e := connected(t)
	p := newProxy(t, e)
	t.Cleanup(p.hold())
	t.Setenv("DOCKER_HOST", p.host())
	name := unique()
	c, err := docker.New().Up(t.Context(), &cluster.Spec{Name: name, Services: []cluster.Service{serving("a", program(t))}}, cluster.Options{Dir: t.TempDir(), Bin: map[string]string{"hostile": program(t)}})
	require.NoError(t, err)
	x, err := c.Exec(t.Context(), cluster.Client, cluster.Process{Argv: []string{"hostile", "serve"}})
	require.NoError(t, err)
	down := make(chan error, 1)
	go func() {
		left, err := c.Down(context.Background())
		if len(left) > 0 {
			err = errors.Join(err, &cluster.LeftError{Left: left})
		}
		down <- err
	}()
	select {
	case err := <-down:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "Down does not return")
	}
	_, err = x.Wait()
	require.Error(t, err, "nobody knows how it ended")
	require.Empty(t, of(t, e, name))
}

// TestExecIsKilledUntilItEnds: its context has ended, and the first attempt to kill it fails.
func TestExecIsKilledUntilItEnds(t *testing.T) {
	e := connected(t)
	var refused atomic.Bool
	enginetest.Between(t, e.Host(), func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		if strings.Contains(r.URL.Query().Get("name"), "-beside-") && refused.CompareAndSwap(false, true) {
			http.Error(w, `{"message": "not today"}`, http.StatusInternalServerError)
			return
		}
		engine.ServeHTTP(w, r)
	})
	c := up(t, unique(), serving("a", program(t)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	x, err := c.Exec(ctx, "a", cluster.Process{Argv: []string{"/usr/local/bin/hostile", "wait"}})
	require.NoError(t, err)
	cancel()
	ended := make(chan cluster.Exit, 1)
	go func() {
		exit, _ := x.Wait()
		ended <- exit
	}()
	select {
	case exit := <-ended:
		require.Equal(t, "SIGKILL", exit.Signal)
	case <-time.After(15 * time.Second):
		require.FailNow(t, "it lives on")
	}
	require.True(t, refused.Load())
}

// TestSignalsToTheFirstProcess: without an init the program is process 1, which the kernel keeps from a KILL or STOP from inside.
func TestSignalsToTheFirstProcess(t *testing.T) {
	needEngine(t)
	s := serving("a", program(t))
	s.Init = false
	c := up(t, unique(), s)
	for _, signal := range []struct {
		name, process string
		reaches       int
	}{{"STOP", "hostile serve", 1}, {"CONT", "hostile serve", 1}, {"KILL", "hostile", 1}} {
		n, err := c.Signal(t.Context(), "a", signal.name, signal.process)
		require.NoError(t, err, "%s to %s", signal.name, signal.process)
		require.Equal(t, signal.reaches, n, "%s to %s", signal.name, signal.process)
	}
	poll(t, 10*time.Second, "the program ends", func() error {
		switch s, err := c.Status("a"); {
		case err != nil:
			return err
		case s.State != cluster.StateExited || s.Exit.Signal != "SIGKILL":
			return fmt.Errorf("%s, %v", s.State, s.Exit)
		}
		return nil
	})
}

// TestContainerKilled kills the plane, and a pod, from outside.
func TestContainerKilled(t *testing.T) {
	e := connected(t)
	for _, victim := range []struct{ role, node, signal, says string }{
		{"plane", "", "SIGKILL", "the plane ended by itself"},
		{"plane", "", "SIGQUIT", "plane.log:\n"}, // a Go program says where it was
		{"pod", "a", "SIGKILL", "the pod of node a ended by itself"},
	} {
		t.Run(victim.role+" "+victim.signal, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			name := unique()
			c, err := docker.New().Up(t.Context(), &cluster.Spec{Name: name, Services: []cluster.Service{serving("a", program(t))}}, cluster.Options{Dir: t.TempDir()})
			require.NoError(t, err)
			_, err = e.API().ContainerKill(t.Context(), containerOf(t, e, name, victim.role, victim.node), client.ContainerKillOptions{Signal: victim.signal})
			require.NoError(t, err)
			require.ErrorContains(t, ended(t, c, 5*time.Second), victim.says)
			require.Empty(t, callAll(c, "a"))
			left, err := c.Down(t.Context())
			require.NoError(t, err)
			require.Empty(t, left)
			require.Empty(t, of(t, e, name))
			require.NoError(t, leaks(before, e))
		})
	}
}

// leaks finds goroutines that are left, but for those of the test's own connections with the engine.
func leaks(before goleak.Option, e *engine.Engine) error {
	if err := e.Close(); err != nil { // idle connections only: it opens new ones
		return errors.Join(errors.New("close the engine"), err)
	}
	return goleak.Find(before)
}

// TestPodsAreRemovedWhileTheyRun: one that ended by itself would leave its network beside another that is removed, and engines may miscount
// that.
func TestPodsAreRemovedWhileTheyRun(t *testing.T) {
	e := connected(t)
	var pods, ran atomic.Int32
	enginetest.Between(t, e.Host(), func(w http.ResponseWriter, r *http.Request, to http.Handler) {
		if id := path.Base(r.URL.Path); r.Method == http.MethodDelete && path.Base(path.Dir(r.URL.Path)) == "containers" {
			c, err := e.API().ContainerInspect(r.Context(), id, client.ContainerInspectOptions{})
			if err == nil && c.Container.Config.Labels[engine.LabelRole] == "pod" {
				pods.Add(1)
				for begin := time.Now(); err == nil && c.Container.State.Running; { // one whose input has ended is said to have ended by then
					if time.Since(begin) > 2*time.Second {
						ran.Add(1)
						break
					}
					time.Sleep(50 * time.Millisecond)
					c, err = e.API().ContainerInspect(r.Context(), id, client.ContainerInspectOptions{})
				}
			}
		}
		to.ServeHTTP(w, r)
	})
	s := serving("a", program(t))
	s.Scaled, s.Replicas = true, 3
	c := up(t, unique(), s)
	require.NoError(t, c.Scale(t.Context(), "a", 1))
	require.Equal(t, int32(2), pods.Load())
	require.Equal(t, int32(2), ran.Load())
}
