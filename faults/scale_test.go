package faults

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// replicas is a cluster of one service.
type replicas struct {
	cluster.Cluster // nil: whatever else a fault asks for panics
	planned, now    int
}

func (r *replicas) Spec() *cluster.Spec {
	return &cluster.Spec{Services: []cluster.Service{{Name: "web", Replicas: r.planned, Scaled: true}}}
}

func (r *replicas) Nodes() (ns []cluster.NodeInfo) {
	for i := range r.now {
		ns = append(ns, cluster.NodeInfo{Name: fmt.Sprintf("web-%d", i+1), Service: "web"})
	}
	return ns
}

func (r *replicas) Scale(_ context.Context, _ string, n int) error {
	r.now = n
	return nil
}

func scaled(t *testing.T, c *replicas, to int) (e *Effect, undo func(context.Context) error, err error) {
	t.Helper()
	undo = func(context.Context) error { return nil }
	e, err = params(t, "scale", fmt.Sprintf(`{"service":"web","replicas":%d}`, to)).Inject(t.Context(), &Env{Cluster: c,
		Undo: func(_ string, step func(context.Context) error) { undo = step }})
	return e, undo, err
}

func TestAScaledServiceIsNotScaledByAnother(t *testing.T) {
	c := &replicas{planned: 2, now: 2}
	e, undo, err := scaled(t, c, 4)
	require.NoError(t, err)
	_, nothing, err := scaled(t, c, 6)
	require.ErrorContains(t, err, "web has 4 replicas and its topology 2: another fault has changed it")
	require.NoError(t, nothing(t.Context()))
	assert.Equal(t, 4, c.now)
	_, err = e.Bitten(t.Context())
	require.NoError(t, err)
	require.NoError(t, undo(t.Context()))
	_, err = e.Gone(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, c.now)
}

// Two that begin at once both find what was planned: the one whose number does not last is not proved.
func TestAScaleThatDidNotLastIsUnproved(t *testing.T) {
	c := &replicas{planned: 2, now: 2}
	e, _, err := scaled(t, c, 4)
	require.NoError(t, err)
	_, err = e.Prove(t.Context())
	require.NoError(t, err)
	c.now = 6
	_, err = e.Bitten(t.Context())
	require.ErrorIs(t, err, ErrNotYet)
}
