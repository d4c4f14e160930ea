package engine

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// TestAnImagesOwnHealthcheckDecidesNothing: the engine runs none.
func TestAnImagesOwnHealthcheckDecidesNothing(t *testing.T) {
	var c container.Config
	Spec{}.config(&c)
	require.Equal(t, []string{"NONE"}, c.Healthcheck.Test)
}

// TestStopTimeout: a grace of 0 is not the engine's 10 s, which holds where none is said.
func TestStopTimeout(t *testing.T) {
	var c container.Config
	Spec{}.config(&c)
	require.Nil(t, c.StopTimeout)
	for grace, want := range map[time.Duration]int{0: 0, 1500 * time.Millisecond: 2, time.Minute: 60} {
		Spec{StopGrace: &grace}.config(&c)
		require.Equal(t, want, *c.StopTimeout, grace)
	}
}

func TestTmpfs(t *testing.T) {
	var h container.HostConfig
	Spec{Mounts: []cluster.Mount{
		{Kind: "tmpfs", Target: "/plain"}, {Kind: "tmpfs", Target: "/all", Size: 1 << 20, ReadOnly: true, Exec: true},
		{Kind: "volume", Source: "v", Target: "/v", ReadOnly: true},
	}}.host(&h)
	require.Equal(t, map[string]string{"/plain": "mode=1777", "/all": "mode=1777,size=1048576,ro,exec"}, h.Tmpfs)
	require.Equal(t, []mount.Mount{{Type: "volume", Source: "v", Target: "/v", ReadOnly: true}}, h.Mounts)
}
