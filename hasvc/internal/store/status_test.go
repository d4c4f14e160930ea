package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// answering is a call that is being answered.
type answering struct{ trailer metadata.MD }

func (*answering) Method() string               { return "/orders/x" }
func (*answering) SetHeader(metadata.MD) error  { return nil }
func (*answering) SendHeader(metadata.MD) error { return nil }
func (a *answering) SetTrailer(md metadata.MD) error {
	a.trailer = metadata.Join(a.trailer, md)
	return nil
}

// A store that is away is so for every replica; one that was only too slow for this request may be quicker for another.
func TestFail(t *testing.T) {
	for _, c := range []struct {
		err     error
		code    codes.Code
		trailer metadata.MD
	}{
		{ErrAway, codes.Unavailable, metadata.Pairs("grpc-retry-pushback-ms", "-1")},
		{fmt.Errorf("too late: %w", context.DeadlineExceeded), codes.DeadlineExceeded, metadata.Pairs("hasvc-waited", "1")},
		{ErrNotFound, codes.NotFound, nil},
	} {
		a := &answering{}
		err := Fail(grpc.NewContextWithServerTransportStream(t.Context(), a), c.err)
		assert.Equal(t, c.code, status.Code(err))
		assert.Equal(t, c.trailer, a.trailer, "%v", c.err)
	}
}
