package recovery

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

func TestGuard(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	g := New(config.Config{}, prometheus.NewRegistry(), zap.New(core))
	ctx := trace.With(t.Context(), "t1")
	reply, err := g.Unary(ctx, "in", nil, func(context.Context, any) (any, error) { panic("boo") })
	require.ErrorIs(t, err, ErrPanicked)
	assert.Nil(t, reply)
	assert.EqualValues(t, 1, testutil.ToFloat64(g.panics))
	require.Equal(t, 1, logs.Len())
	fields := logs.All()[0].ContextMap()
	assert.Equal(t, "t1", fields["traceId"])
	assert.Equal(t, "boo", fields["panic"])
	assert.Contains(t, fields["stack"], "TestGuard")

	other := errors.New("other")
	reply, err = g.Unary(ctx, "in", nil, func(_ context.Context, req any) (any, error) { return req, other })
	require.ErrorIs(t, err, other)
	assert.Equal(t, "in", reply)
	assert.PanicsWithError(t, http.ErrAbortHandler.Error(), func() { _ = g.Run(ctx, func() error { panic(http.ErrAbortHandler) }) })
	assert.EqualValues(t, 1, testutil.ToFloat64(g.panics))
}

func TestNoRecover(t *testing.T) {
	g := New(config.Config{Defects: defect.Set{defect.NoRecover: true}}, prometheus.NewRegistry(), zap.NewNop())
	assert.Panics(t, func() {
		_, _ = g.Unary(t.Context(), nil, nil, func(context.Context, any) (any, error) { panic("boo") })
	})
}

func TestPoison(t *testing.T) {
	assert.NotPanics(t, func() { Poison(config.Config{}, "") })
	assert.NotPanics(t, func() { Poison(config.Config{Poison: "x"}, "y") })
	assert.Panics(t, func() { Poison(config.Config{Poison: "x"}, "x") })
}
