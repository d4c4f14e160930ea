package engine

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// TestAnImagesOwnHealthcheckDecidesNothing: where the file has none, or switches it off, there is none.
func TestAnImagesOwnHealthcheckDecidesNothing(t *testing.T) {
	var c container.Config
	Spec{}.config(&c)
	require.Equal(t, []string{"NONE"}, c.Healthcheck.Test)
	Spec{Health: &cluster.Healthcheck{Argv: []string{"probe"}, Interval: time.Second}}.config(&c)
	require.Equal(t, []string{"CMD", "probe"}, c.Healthcheck.Test)
	require.Equal(t, time.Second, c.Healthcheck.Interval)
}
