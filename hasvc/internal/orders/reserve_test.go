package orders

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

func (i *inventory) Watch(ctx context.Context, r *inventoryv1.WatchRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[inventoryv1.Stock], error) {
	_, err := i.answer(ctx, r.GetSku())
	return nil, err
}

// called is the server's end of a call.
type called struct {
	grpc.ServerTransportStream
	trailer metadata.MD
}

func (c *called) SetTrailer(md metadata.MD) error {
	c.trailer = metadata.Join(c.trailer, md)
	return nil
}

// What is behind orders is not held against it: its callers' breakers would open, and with them all goes that needs no inventory.
func TestBehind(t *testing.T) {
	blamed, late := metadata.Pairs("grpc-retry-pushback-ms", "-1"), metadata.Pairs("hasvc-waited", "1")
	for _, test := range []struct {
		name    string
		inv     inventory
		left    bool // by the caller, before it is answered
		code    codes.Code
		trailer metadata.MD
	}{
		{name: "away", inv: inventory{err: status.Error(codes.Unavailable, "away")}, code: codes.Unavailable, trailer: blamed},
		{name: "hanging", inv: inventory{hang: true}, code: codes.DeadlineExceeded, trailer: late},
		{name: "refusing", inv: inventory{err: status.Error(codes.InvalidArgument, "bad")}, code: codes.InvalidArgument},
		{name: "left", inv: inventory{hang: true}, left: true, code: codes.Canceled},
	} {
		for kind, ask := range map[string]func(context.Context, *Service) error{
			"level": func(ctx context.Context, s *Service) error {
				_, err := s.GetStock(ctx, &ordersv1.GetStockRequest{Sku: "a"})
				return err
			},
			"stream": func(ctx context.Context, s *Service) error {
				return s.WatchStock(&ordersv1.WatchStockRequest{Sku: "a"}, listener{ctx: ctx})
			},
		} {
			t.Run(test.name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var c called
					ctx, cancel := context.WithTimeout(grpc.NewContextWithServerTransportStream(t.Context(), &c), time.Minute)
					defer cancel()
					if test.left {
						time.AfterFunc(time.Second, cancel)
					}
					err := ask(ctx, &Service{Inventory: &test.inv, Fallback: NewFallback(config.Config{}, prometheus.NewRegistry())})
					assert.Equal(t, test.code, status.Code(err), "%v", err)
					assert.Equal(t, test.trailer, c.trailer)
				})
			})
		}
	}
}
