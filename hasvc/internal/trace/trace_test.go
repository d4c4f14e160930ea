package trace

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func request(traceparent, id string) *http.Request {
	r := &http.Request{Header: http.Header{}}
	r.Header.Set("Traceparent", traceparent)
	r.Header.Set(Header, id)
	return r
}

func TestFromRequest(t *testing.T) {
	const w3c = "4bf92f3577b34da6a3ce929d0e0e4736"
	assert.Equal(t, w3c, FromRequest(request("00-"+w3c+"-00f067aa0ba902b7-01", "own")))
	assert.Equal(t, w3c, FromRequest(request("cc-"+w3c+"-00f067aa0ba902b7-01-later-version", "own")))
	for _, bad := range []string{"", "00-" + w3c, "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-XYZ-00f067aa0ba902b7-01"} {
		assert.Equal(t, "own", FromRequest(request(bad, "own")), bad)
	}
	for _, bad := range []string{"", "a b", "a\"b", string(make([]byte, maxID+1))} {
		assert.Len(t, FromRequest(request("", bad)), 32, "%q", bad)
	}
	assert.NotEqual(t, FromRequest(request("", "")), FromRequest(request("", "")))
}

// The id goes through gRPC's metadata and comes out on the other side.
func TestOverGRPC(t *testing.T) {
	var sent metadata.MD
	err := UnaryClient(With(t.Context(), "x"), "", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		sent, _ = metadata.FromOutgoingContext(ctx)
		return nil
	})
	require.NoError(t, err)
	id := func(md metadata.MD) string {
		got, err := UnaryServer(metadata.NewIncomingContext(t.Context(), md), nil, nil, func(ctx context.Context, _ any) (any, error) { return ID(ctx), nil })
		require.NoError(t, err)
		s, ok := got.(string)
		require.True(t, ok)
		return s
	}
	assert.Equal(t, "x", id(sent))
	assert.Len(t, id(nil), 32)
	assert.Len(t, id(metadata.Pairs("x-trace-id", "not clean")), 32)
}

func FuzzFromRequest(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "own")
	f.Fuzz(func(t *testing.T, traceparent, id string) {
		got := FromRequest(request(traceparent, id))
		require.NotEmpty(t, got)
		require.LessOrEqual(t, len(got), maxID)
		for _, c := range got {
			require.False(t, notWord(c), "%q", got)
		}
	})
}
