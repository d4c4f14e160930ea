package trace

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

const w3c = "4bf92f3577b34da6a3ce929d0e0e4736"

func TestIdentify(t *testing.T) {
	assert.Equal(t, w3c, identify("00-"+w3c+"-00f067aa0ba902b7-01", "own"))
	assert.Equal(t, w3c, identify("cc-"+w3c+"-00f067aa0ba902b7-01-later-version", "own"))
	for _, bad := range []string{"", "00-" + w3c, "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-XYZ-00f067aa0ba902b7-01"} {
		assert.Equal(t, "own", identify(bad, "own"), bad)
	}
	for _, bad := range []string{"", "a b", "a\"b", string(make([]byte, maxID+1))} {
		assert.Len(t, identify("", bad), 32, "%q", bad)
	}
	assert.NotEqual(t, identify("", ""), identify("", ""))
}

// hops passes a request on from one service to the next, n times.
func hops(t *testing.T, n int, header http.Header, defects defect.Set) (ctx context.Context) {
	t.Helper()
	tracer, err := New("", "x", "x", defects)
	require.NoError(t, err)
	for range n {
		ctx = tracer.ids.Extract(t.Context(), propagation.HeaderCarrier(header))
		ctx, _ = tracer.provider.Tracer("test").Start(ctx, "hop")
		header = http.Header{}
		tracer.ids.Inject(ctx, propagation.HeaderCarrier(header))
	}
	return ctx
}

// Whatever a client calls its trace and its request, every hop does.
func TestIDsTravel(t *testing.T) {
	for _, test := range []struct{ traceparent, trace, request, want string }{
		{"", "own", "r1", "own"},
		{"", w3c, "r1", w3c},
		{"00-" + w3c + "-00f067aa0ba902b7-01", "other", "r1", w3c},
	} {
		in := http.Header{}
		in.Set("traceparent", test.traceparent)
		in.Set(Header, test.trace)
		in.Set(RequestHeader, test.request)
		ctx := hops(t, 3, in, nil)
		assert.Equal(t, test.want, ID(ctx))
		assert.Equal(t, test.request, RequestID(ctx))
		assert.Equal(t, otelID(test.want), trace.SpanContextFromContext(ctx).TraceID(), "spans are of the same trace")
	}
	ctx := hops(t, 3, http.Header{RequestHeader: {"not clean"}}, nil)
	assert.Len(t, ID(ctx), 32)
	assert.Len(t, RequestID(ctx), 32)
}

func TestTraceBroken(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		in := http.Header{Header: {"own"}, RequestHeader: {"r1"}}
		in.Set(Header, "own")
		in.Set(RequestHeader, "r1")
		ctx := hops(t, 2, in, defect.Set{defect.TraceBroken: wrong})
		assert.Equal(t, wrong, ID(ctx) != "own")
		assert.Equal(t, wrong, trace.SpanContextFromContext(ctx).TraceID() != otelID("own"))
		assert.Equal(t, "r1", RequestID(ctx), "the request is still the same")
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "own")
	f.Fuzz(func(t *testing.T, traceparent, id string) {
		got := identify(traceparent, id)
		require.NotEmpty(t, got)
		require.LessOrEqual(t, len(got), maxID)
		for _, c := range got {
			require.False(t, notWord(c), "%q", got)
		}
	})
}
