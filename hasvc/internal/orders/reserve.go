package orders

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

// reserve takes the stock of an order that is about to be made, and says what the order begins with. The order's id makes it
// harmless to do that again; an order that is not stored after all finds its stock reserved when it is asked for again.
func (s *Service) reserve(ctx context.Context, req *ordersv1.CreateOrderRequest) (string, error) {
	if s.Inventory == nil {
		return store.Accepted, nil
	}
	within, cancel := s.Fallback.within(ctx)
	defer cancel()
	got, err := s.Inventory.Reserve(within, &inventoryv1.ReserveRequest{
		OrderId: store.OrderID(req.GetIdempotencyKey()), Sku: req.GetSku(), Quantity: req.GetQuantity(),
	})
	if err != nil {
		if s.Fallback.pending(ctx, err) {
			return store.Pending, nil
		}
		return "", behind(ctx, "inventory", err)
	}
	s.Fallback.remember(stock(got))
	return store.Accepted, nil
}

// behind hands on the status of a service behind this one, and says that it is that service's.
func behind(ctx context.Context, service string, err error) error {
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unavailable:
		rpc.DoNotRetry(ctx) // another replica of this service has the same one behind it
		return status.Errorf(codes.Unavailable, "%s is away: %s", service, st.Message())
	case codes.DeadlineExceeded:
		rpc.Waited(ctx)
	}
	return st.Err()
}
