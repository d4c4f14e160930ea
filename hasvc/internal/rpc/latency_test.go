package rpc

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// The trace is an exemplar of the native histogram, and no label.
func TestExemplars(t *testing.T) {
	reg := prometheus.NewRegistry()
	served := NewServed(reg)
	_, err := served.Unary(trace.With(t.Context(), "t1"), nil, &grpc.UnaryServerInfo{FullMethod: "/x/Y"}, func(context.Context, any) (any, error) {
		return nil, status.Error(codes.NotFound, "")
	})
	require.Error(t, err)
	a := attempts{service: "x", metrics: NewMetrics(reg)}
	err = a.unary(trace.With(t.Context(), "t1"), "/x/Y", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return status.Error(codes.NotFound, "")
	})
	require.Error(t, err)
	families, err := reg.Gather()
	require.NoError(t, err)
	found := 0
	for _, f := range families {
		if f.GetName() != "hasvc_rpc_server_seconds" && f.GetName() != "hasvc_rpc_client_seconds" {
			continue
		}
		found++
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			assert.Equal(t, "NotFound", labels["code"])
			assert.Equal(t, "/x/Y", labels["method"])
			assert.NotContains(t, labels, "trace_id")
			require.NotEmpty(t, m.GetHistogram().GetExemplars())
			assert.Equal(t, "t1", m.GetHistogram().GetExemplars()[0].GetLabel()[0].GetValue())
		}
	}
	assert.Equal(t, 2, found)
}
