package main

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
)

func TestPageIsCurrent(t *testing.T) {
	written, err := os.ReadFile("../../docs/drivers.md")
	require.NoError(t, err)
	assert.Equal(t, page(faults.Table, columns()), string(written), "out of date: run go generate ./ci/drivers")
}

func TestReasonsAreFootnotes(t *testing.T) {
	got := page([]faults.Kind{
		{Name: "drop", Layer: "packets", Needs: []cluster.Capability{cluster.PacketRules}},
		{Name: "delay", Layer: "packets", Needs: []cluster.Capability{cluster.PacketRules, cluster.PacketDelay}},
		{Name: "scale", Layer: "node"},
		{Name: "clock", Layer: "node", Unsupported: "later"},
	}, []column{
		{name: "a", carries: cluster.Capabilities{cluster.PacketRules: nil, cluster.PacketDelay: nil, cluster.CPULimit: nil, cluster.MemoryLimit: nil}},
		{name: "b", carries: cluster.Capabilities{cluster.PacketRules: errors.New("not on this machine"), cluster.CPULimit: nil}},
		{name: "c", later: "not yet"},
	})
	assert.Contains(t, got, "\n| fault | layer | needs | a | b | c |\n|---|---|---|---|---|---|\n"+
		"| `drop` | packets | packet rules | yes | yes | no[^1] |\n"+
		"| `delay` | packets | packet rules, packet delays | yes | no[^2] | no[^1] |\n"+
		"| `scale` | node |  | yes | yes | no[^1] |\n"+
		"| `clock` | node |  | no[^3] | no[^3] | no[^1] |\n")
	assert.Contains(t, got, "\n| cpu limit | yes | yes | no[^1] |\n| memory limit | yes | no[^4] | no[^1] |\n")
	assert.Contains(t, got, "\n[^1]: not yet\n[^2]: the b driver has no packet delays\n[^3]: the format knows this fault; no driver can execute it yet\n[^4]: the b driver has no memory limit\n")
}
