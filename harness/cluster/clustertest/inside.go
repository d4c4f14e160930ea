package clustertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// inside checks what a program finds: its files, its user, its directory and its environment.
func (s *suite) inside(t *testing.T) {
	dir, volumes, shared := t.TempDir(), s.volumes(t), t.TempDir()
	require.NoError(t, os.Chmod(shared, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(shared, "given"), []byte("from the machine"), 0o644))
	service := func() *cluster.Spec {
		v := s.service("v", "serve")
		v.Env["GREETING"], v.Env["EMPTY"] = "good day, \"you\" $HOME", ""
		v.User, v.Hostname, v.Dir = "1234:2345", "somewhere", "/srv/work"
		v.Volumes = []cluster.Mount{
			{Kind: "volume", Source: "data", Target: "/var/lib/data"},
			{Kind: "volume", Source: "data", Target: "/data-ro", ReadOnly: true},
			{Kind: "bind", Source: shared, Target: "/srv/shared"},
			{Kind: "bind", Source: shared, Target: "/opt/ro", ReadOnly: true},
			{Kind: "tmpfs", Target: "/scratch", Size: 1 << 20},
			{Kind: "tmpfs", Target: "/run/layer", Exec: true},
			{Kind: "volume", Source: "data", Target: "/run/layer/data"},
			{Kind: "tmpfs", Target: "/sealed", ReadOnly: true},
			{Kind: "volume", Source: "data", Target: "/sealed/data"},
		}
		v.Files = []cluster.File{
			{Target: "/etc/app/config.yaml", Content: []byte("level: 3\n"), Mode: 0o444},
			{Target: "/run/secrets/token", Content: []byte("s3cret"), Mode: 0o440},
		}
		v.Ready = &plan.Condition{TCP: ":7000"}
		w := s.service("w", "serve")
		w.Volumes = []cluster.Mount{{Kind: "volume", Source: "data", Target: "/d"}, {Kind: "volume", Source: "other", Target: "/o"}}
		w.CapDrop, w.NoNewPrivileges = []string{"ALL"}, true
		w.Ready = v.Ready
		return &cluster.Spec{Name: "inside", Services: []cluster.Service{v, w}, Volumes: []string{"data", "other"}}
	}
	var top *topology
	up := func(t *testing.T, ctx context.Context) {
		var err error
		top, err = s.tryUp(t, ctx, service(), cluster.Options{Dir: dir, Volumes: volumes})
		require.NoError(t, err)
	}
	check(t, "up", 20*time.Second, up)
	if top == nil {
		t.FailNow()
	}
	check(t, "identity", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for what, me := range map[string]selfInfo{"program": decode[selfInfo](t, ctx, top, "v", "/env"), "exec": inside[selfInfo](t, ctx, top, "v", "env")} {
			require.Equal(t, "1234 2345 somewhere /srv/work", show(me.Uid, me.Gid, me.Hostname, me.Cwd), what)
			require.Equal(t, "good day, \"you\" $HOME", me.Env["GREETING"], what)
			empty, there := me.Env["EMPTY"]
			require.True(t, there && empty == "", what)
			require.Equal(t, "0000000000000000", me.Caps, what)
		}
		require.Equal(t, "0000000000000000", decode[selfInfo](t, ctx, top, "w", "/env").Caps, "root without what it is not to have")
		d := inside[dialed](t, ctx, top, "w", "dial", "tcp", "v:7000", "echo hello")
		require.Equal(t, "hello", d.Answer, "its name is still the node's: %s", d.Error)
	})
	check(t, "files", 10*time.Second, func(t *testing.T, ctx context.Context) {
		f := inside[file](t, ctx, top, "v", "read", "/etc/app/config.yaml")
		require.Equal(t, "level: 3\n", f.Content, f.Error)
		require.Equal(t, uint32(0o444), f.Mode)
		f = inside[file](t, ctx, top, "v", "read", "/run/secrets/token")
		require.Equal(t, "s3cret", f.Content, f.Error)
	})
	check(t, "bind", 10*time.Second, func(t *testing.T, ctx context.Context) {
		require.Equal(t, "from the machine", inside[file](t, ctx, top, "v", "read", "/srv/shared/given").Content)
		f := inside[file](t, ctx, top, "v", "write", "/srv/shared/back", "from inside")
		require.Empty(t, f.Error)
		b, err := os.ReadFile(filepath.Join(shared, "back"))
		require.NoError(t, err)
		require.Equal(t, "from inside", string(b))
		require.Equal(t, "from inside", inside[file](t, ctx, top, "v", "read", "/opt/ro/back").Content)
	})
	check(t, "read-only", 10*time.Second, func(t *testing.T, ctx context.Context) {
		for _, path := range []string{"/opt/ro/new", "/data-ro/new", "/sealed/new"} {
			require.Equal(t, syscall.EROFS.Error(), inside[file](t, ctx, top, "v", "write", path, "x").Errno, path)
		}
		for _, path := range []string{"/usr/new", "/etc/app/config.yaml"} {
			require.NotEmpty(t, inside[file](t, ctx, top, "v", "write", path, "x").Errno, path)
		}
	})
	check(t, "tmpfs", 10*time.Second, func(t *testing.T, ctx context.Context) {
		require.Empty(t, inside[file](t, ctx, top, "v", "write", "/scratch/small", "x").Error)
		require.Equal(t, syscall.ENOSPC.Error(), inside[file](t, ctx, top, "v", "write", "-zeros", fmt.Sprint(2<<20), "/scratch/big", "x").Errno)
		require.NotEmpty(t, inside[file](t, ctx, top, "w", "read", "/scratch/small").Error, "it is the node's own")
		mounts := inside[file](t, ctx, top, "v", "read", "/proc/self/mounts")
		require.Regexp(t, `(?m)^tmpfs /scratch tmpfs \S*noexec`, mounts.Content, "as Docker's, unless it is asked for")
		require.Regexp(t, `(?m)^tmpfs /run/layer tmpfs `, mounts.Content)
		require.NotRegexp(t, `(?m)^tmpfs /run/layer tmpfs \S*noexec`, mounts.Content)
		require.Empty(t, inside[file](t, ctx, top, "v", "write", "/dev/shm/shared", "x").Error)
		_, err := top.Kill(ctx, "v")
		require.NoError(t, err)
		require.NoError(t, top.Start(ctx, "v"))
		require.NoError(t, top.AwaitReady(ctx, "v"))
		for _, path := range []string{"/scratch/small", "/dev/shm/shared"} {
			require.Equal(t, syscall.ENOENT.Error(), inside[file](t, ctx, top, "v", "read", path).Errno, "%s is new with each start", path)
		}
	})
	check(t, "volumes", 20*time.Second, func(t *testing.T, ctx context.Context) {
		require.Empty(t, inside[file](t, ctx, top, "v", "write", "/var/lib/data/log", "one ").Error)
		require.Equal(t, "one ", inside[file](t, ctx, top, "w", "read", "/d/log").Content, "shared by name")
		for _, in := range []string{"/run/layer", "/sealed"} {
			require.Equal(t, "one ", inside[file](t, ctx, top, "v", "read", in+"/data/log").Content, "a tmpfs does not hide what is mounted in it")
		}
		require.NotEmpty(t, inside[file](t, ctx, top, "w", "read", "/o/log").Error)
		_, err := top.Kill(ctx, "v")
		require.NoError(t, err)
		require.NoError(t, top.Start(ctx, "v"))
		require.NoError(t, top.AwaitReady(ctx, "v"))
		require.Equal(t, "one two ", inside[file](t, ctx, top, "v", "write", "/var/lib/data/log", "two ").Content, "over a kill")
		require.NoError(t, top.Restart(ctx, "v", nil))
		require.NoError(t, top.AwaitReady(ctx, "v"))
		require.Equal(t, "one two three ", inside[file](t, ctx, top, "v", "write", "/var/lib/data/log", "three ").Content, "over a restart")
		require.Equal(t, "from inside", inside[file](t, ctx, top, "v", "read", "/srv/shared/back").Content)
	})
	check(t, "down and up again", 20*time.Second, func(t *testing.T, ctx context.Context) {
		log := top.info(t, "v").Log
		top.down(t, ctx)
		first, err := os.ReadFile(log)
		require.NoError(t, err)
		up(t, ctx)
		require.Equal(t, "one two three ", inside[file](t, ctx, top, "v", "read", "/var/lib/data/log").Content)
		require.NotEmpty(t, inside[file](t, ctx, top, "v", "read", "/scratch/small").Error, "a tmpfs is new each time")
		require.Equal(t, log, top.info(t, "v").Log)
		poll(t, ctx, patience, "the log goes on after what was there", func() error {
			if l := top.log(t, "v"); len(l) <= len(first) || l[:len(first)] != string(first) {
				return fmt.Errorf("%d bytes after %d", len(l), len(first))
			}
			return nil
		})
		top.down(t, ctx)
	})
	check(t, "other volumes", 20*time.Second, func(t *testing.T, ctx context.Context) {
		var err error
		top, err = s.tryUp(t, ctx, service(), cluster.Options{Dir: dir})
		require.NoError(t, err)
		require.NotEmpty(t, inside[file](t, ctx, top, "v", "read", "/var/lib/data/log").Error)
		top.down(t, ctx)
	})
	k, ok := s.driver.(cluster.VolumeKeeper)
	if !ok {
		return // they went with their directory
	}
	check(t, "removed volumes", 30*time.Second, func(t *testing.T, ctx context.Context) {
		here, err := os.Getwd()
		require.NoError(t, err)
		rel, err := filepath.Rel(here, volumes)
		require.NoError(t, err)
		require.NoError(t, k.RemoveVolumes(ctx, rel), "the directory may be written either way")
		up(t, ctx)
		require.NotEmpty(t, inside[file](t, ctx, top, "v", "read", "/var/lib/data/log").Error)
		top.down(t, ctx)
	})
}
