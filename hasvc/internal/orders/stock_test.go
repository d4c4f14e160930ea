package orders

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

// quiet is an inventory at which nothing changes, until its replica stops an hour later; the second time there is no such SKU.
type quiet struct {
	inventoryv1.InventoryClient
	grpc.ClientStream
	opened int
}

func (q *quiet) Watch(context.Context, *inventoryv1.WatchRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[inventoryv1.Stock], error) {
	q.opened++
	return q, nil
}

func (*quiet) Header() (metadata.MD, error) { return metadata.MD{}, nil }

func (q *quiet) Recv() (*inventoryv1.Stock, error) {
	if q.opened > 1 {
		return nil, status.Error(codes.InvalidArgument, "no such SKU")
	}
	time.Sleep(time.Hour)
	return nil, status.Error(codes.Unavailable, "it stops")
}

// listener is the caller's end.
type listener struct {
	grpc.ServerStreamingServer[ordersv1.Stock]
	ctx context.Context
}

func (l listener) Context() context.Context   { return l.ctx }
func (listener) SendHeader(metadata.MD) error { return nil }

// A stream on which nothing changed for long is resumed as any other.
func TestWatchQuietStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{}
		err := (&Service{Inventory: q}).WatchStock(&ordersv1.WatchStockRequest{Sku: "a", AfterRevision: 1}, listener{ctx: t.Context()})
		assert.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
		assert.Equal(t, 2, q.opened)
	})
}
