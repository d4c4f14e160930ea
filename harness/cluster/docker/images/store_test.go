package images

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// selfPath is one of the names that this test binary has in its image; it says so there.
const selfPath = "/test-of-images-b"

func TestMain(m *testing.M) {
	if os.Args[0] == selfPath {
		st, err := os.Stat("/test-of-images-a")
		if err == nil {
			var own os.FileInfo
			own, err = os.Stat(selfPath)
			fmt.Println("started as", os.Args[0], "one file:", err == nil && os.SameFile(st, own))
		}
		if err != nil {
			fmt.Println(err)
		}
		return
	}
	dir, err := os.MkdirTemp("", "gauntlet-images-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// built is where inside is built.
var built string

// engine is the engine of this machine.
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

// inside is a static program that says what it finds.
var inside = sync.OnceValues(func() (string, error) {
	out := filepath.Join(built, "inside")
	cmd := exec.Command("go", "build", "-o", out, "./testdata/inside")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, said)
	}
	return out, nil
})

// program is a copy of inside with a content of its own, so that no image of it is there yet.
func program(t *testing.T, name string) string {
	from, err := inside()
	require.NoError(t, err)
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name)
	unique := fmt.Sprintf("%s %d %d", t.Name(), os.Getpid(), time.Now().UnixNano())
	require.NoError(t, os.WriteFile(path, append(data, unique...), 0o755))
	return path
}

// forget removes an image at the end of the test.
func forget(t *testing.T, api client.APIClient, id string) {
	t.Cleanup(func() {
		got, err := api.ImageInspect(context.Background(), id)
		if err != nil {
			return
		}
		for _, name := range append(got.RepoTags, id) {
			_, _ = api.ImageRemove(context.Background(), name, client.ImageRemoveOptions{PruneChildren: true})
		}
	})
}

// run starts a container of an image and returns what it printed.
func run(t *testing.T, api client.APIClient, image string, host *container.HostConfig, net *network.NetworkingConfig, entrypoint []string, args ...string) string {
	t.Helper()
	ctx := t.Context()
	made, err := api.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config:     &container.Config{Image: image, Entrypoint: entrypoint, Cmd: args, Labels: map[string]string{"dev.gauntlet": "test"}},
		HostConfig: host, NetworkingConfig: net,
	})
	require.NoError(t, err)
	defer func() {
		_, err := api.ContainerRemove(context.WithoutCancel(ctx), made.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		assert.NoError(t, err)
	}()
	ended := api.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	_, err = api.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	require.NoError(t, err)
	select {
	case err := <-ended.Error:
		require.NoError(t, err)
	case <-ended.Result:
	}
	logs, err := api.ContainerLogs(ctx, made.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	require.NoError(t, err)
	defer logs.Close()
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &out, logs)
	require.NoError(t, err)
	return out.String()
}

func TestProgram(t *testing.T) {
	api := engine(t)
	store := New(api)
	exe := program(t, "inside")
	began := time.Now()
	id, err := store.Program(t.Context(), exe)
	require.NoError(t, err)
	t.Log("made in", time.Since(began))
	forget(t, api, id)

	out := run(t, api, id, nil, nil, nil)
	assert.Contains(t, out, "argv [/usr/local/bin/inside]")
	assert.Contains(t, out, "path /usr/local/bin:")
	assert.Contains(t, out, "/tmp dtrwxrwxrwx\n")
	assert.Contains(t, out, "/run drwxr-xr-x\n/var drwxr-xr-x\n/home drwxr-xr-x\n")
	assert.Contains(t, out, "user nobody\n")
	if exists("/usr/share/zoneinfo/Europe/Berlin") {
		assert.Contains(t, out, "zone <nil>")
	}
	if len(certificates()) > 0 {
		assert.Contains(t, out, "certificates true <nil>")
	}
	got, err := api.ImageInspect(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, "1", got.Config.Labels[Label])
	assert.Len(t, got.RootFS.Layers, 2, "the base and the program")

	began = time.Now()
	again, err := store.Program(t.Context(), exe)
	require.NoError(t, err)
	t.Log("found again in", time.Since(began))
	assert.Equal(t, id, again)

	copied := filepath.Join(t.TempDir(), "inside")
	data, err := os.ReadFile(exe)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(copied, data, 0o700))
	elsewhere, err := New(api).Program(t.Context(), copied)
	require.NoError(t, err)
	assert.Equal(t, id, elsewhere, "an image is of the content, not of the place, the time or the mode of its file")

	require.NoError(t, os.WriteFile(copied, append(data, '!'), 0o700))
	changed, err := store.Program(t.Context(), copied)
	require.NoError(t, err)
	forget(t, api, changed)
	assert.NotEqual(t, id, changed)
}

// TestStolenName: a name of ours that stands for something else is not taken for it.
func TestStolenName(t *testing.T) {
	api := engine(t)
	one, two := program(t, "one"), program(t, "two")
	first, err := New(api).Program(t.Context(), one)
	require.NoError(t, err)
	forget(t, api, first)
	second, err := New(api).Program(t.Context(), two)
	require.NoError(t, err)
	forget(t, api, second)
	got, err := api.ImageInspect(t.Context(), first)
	require.NoError(t, err)
	_, err = api.ImageTag(t.Context(), client.ImageTagOptions{Source: second, Target: got.RepoTags[0]})
	require.NoError(t, err)
	again, err := New(api).Program(t.Context(), one)
	require.NoError(t, err)
	assert.Equal(t, first, again)
}

// TestDynamicProgram starts a program of this machine that is linked with the C library and looks up names.
func TestDynamicProgram(t *testing.T) {
	api := engine(t)
	getent, err := exec.LookPath("getent")
	if err != nil {
		t.Skip("this machine has no getent: ", err)
	}
	if e, err := lookAt(t.Context(), getent, runtime.GOARCH); err != nil || e.loader == "" {
		t.Skip("getent is not linked dynamically here: ", err)
	}
	id, err := New(api).Program(t.Context(), getent)
	require.NoError(t, err)
	forget(t, api, id)
	assert.Contains(t, run(t, api, id, nil, nil, nil, "passwd", "nobody"), "nobody:x:65534:")
	assert.Contains(t, run(t, api, id, nil, nil, nil, "hosts", "localhost"), "localhost")

	net, err := api.NetworkCreate(t.Context(), fmt.Sprint("gauntlet-images-", os.Getpid()), client.NetworkCreateOptions{
		Internal: true, Labels: map[string]string{"dev.gauntlet": "test"},
	})
	require.NoError(t, err)
	defer func() {
		_, err := api.NetworkRemove(context.WithoutCancel(t.Context()), net.ID, client.NetworkRemoveOptions{})
		assert.NoError(t, err)
	}()
	out := run(t, api, id, &container.HostConfig{NetworkMode: container.NetworkMode(net.ID)},
		&network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{net.ID: {Aliases: []string{"by-dns"}}}},
		nil, "hosts", "by-dns")
	assert.Contains(t, out, "by-dns", "no hosts file has this name")
}

func TestSelf(t *testing.T) {
	api := engine(t)
	began := time.Now()
	id, err := New(api).Self(t.Context(), "/test-of-images-a", selfPath)
	require.NoError(t, err)
	t.Log("made in", time.Since(began))
	forget(t, api, id)
	assert.Equal(t, "started as "+selfPath+" one file: true\n", run(t, api, id, nil, nil, []string{selfPath}))
}

func TestWith(t *testing.T) {
	api := engine(t)
	exe := program(t, "inside")
	store := New(api).With(map[string]string{"other": program(t, "o"), "inside": exe})
	id, err := store.Program(t.Context(), exe)
	require.NoError(t, err)
	forget(t, api, id)
	assert.Contains(t, run(t, api, id, nil, nil, nil), "argv [/usr/local/bin/inside]")
	assert.Contains(t, run(t, api, id, nil, nil, []string{"other"}), "argv [other]")
}

func TestTogether(t *testing.T) {
	p := placed{}
	require.NoError(t, p.add([]file{{path: "/lib/liba.so", from: "/opt/one/liba.so"}}))
	require.NoError(t, p.add([]file{{path: "/lib/liba.so", from: "/opt/one/liba.so"}}))
	assert.ErrorContains(t, p.add([]file{{path: "/lib/liba.so", from: "/opt/two/liba.so"}}), "another program of the same image needs /opt/one/liba.so there")
}

// TestConcurrently asks for one image from several goroutines.
func TestConcurrently(t *testing.T) {
	api := engine(t)
	store, exe := New(api), program(t, "inside")
	ids := make([]string, 4)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() { ids[i], _ = store.Program(t.Context(), exe) })
	}
	wg.Wait()
	require.NotEmpty(t, ids[0])
	forget(t, api, ids[0])
	assert.Len(t, slices.Compact(ids), 1)
}

func TestHave(t *testing.T) {
	api := engine(t)
	store := New(api)
	id, err := store.Program(t.Context(), program(t, "inside"))
	require.NoError(t, err)
	forget(t, api, id)
	got, err := store.Have(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, id, got)

	_, err = store.Have(t.Context(), "registry.invalid/nothing:1")
	assert.ErrorContains(t, err, "registry.invalid/nothing:1")
	assert.ErrorContains(t, err, "x-gauntlet: {go: PACKAGE} or {exec: PROGRAM}")
	assert.ErrorContains(t, err, "https://registry.invalid/v2/", "the engine's own words")
	_, err = store.Have(t.Context(), "No Reference")
	assert.ErrorContains(t, err, "No Reference")
}

// seesOnly is an engine that lists only some images: those of other runs on this machine are not the test's to remove.
type seesOnly struct {
	client.APIClient
	ids []string
}

func (s seesOnly) ImageList(ctx context.Context, opt client.ImageListOptions) (client.ImageListResult, error) {
	list, err := s.APIClient.ImageList(ctx, opt)
	kept := list.Items[:0]
	for _, i := range list.Items {
		if slices.Contains(s.ids, i.ID) {
			kept = append(kept, i)
		}
	}
	list.Items = kept
	return list, err
}

func TestClean(t *testing.T) {
	api := engine(t)
	ctx := t.Context()
	var ids []string
	for _, name := range []string{"unused", "used", "named"} {
		id, err := New(api).Program(ctx, program(t, name))
		require.NoError(t, err)
		forget(t, api, id)
		ids = append(ids, id)
	}
	unused, used, named := ids[0], ids[1], ids[2]
	_, err := api.ImageTag(ctx, client.ImageTagOptions{Source: named, Target: "gauntlet-test-of-clean"})
	require.NoError(t, err)
	made, err := api.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{Image: used, Labels: map[string]string{"dev.gauntlet": "test"}}})
	require.NoError(t, err)
	removeContainer := func() {
		_, err := api.ContainerRemove(context.WithoutCancel(ctx), made.ID, client.ContainerRemoveOptions{Force: true})
		require.NoError(t, err)
	}

	store := New(seesOnly{api, ids})
	removed, err := store.Clean(ctx)
	if !assert.NoError(t, err) {
		removeContainer()
		return
	}
	assert.Len(t, removed, 2)
	_, err = api.ImageInspect(ctx, unused)
	assert.Error(t, err)
	got, err := api.ImageInspect(ctx, named)
	if assert.NoError(t, err, "it has a name of its own") {
		assert.Equal(t, []string{"gauntlet-test-of-clean:latest"}, got.RepoTags)
	}
	_, err = api.ImageInspect(ctx, used)
	assert.NoError(t, err, "a container uses it")
	removeContainer()
	removed, err = store.Clean(ctx)
	require.NoError(t, err)
	require.Len(t, removed, 1)
	assert.True(t, strings.HasPrefix(removed[0], programRepo+":"))
}
