package store

import (
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/etcd/client/v3"
)

// Order as it is stored.
type Order struct {
	ID        string `json:"id"`
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	Status    string `json:"status"`
	CreatedAt string `json:"createdAt"` // RFC 3339
}

// What an order can be. A pending one becomes one of the others.
const (
	Accepted = "accepted" // it is stored, and so is what it takes from the stock
	Pending  = "pending"  // it is stored; inventory was away
	Rejected = "rejected" // it was pending, and there is not enough in stock
)

// GetOrder reads an order.
func (s *Store) GetOrder(ctx context.Context, id string) (Order, error) {
	if s.local != nil {
		return s.local.order(id)
	}
	var o Order
	err := s.read(ctx, false, func(ctx context.Context, opts ...clientv3.OpOption) error {
		resp, err := s.etcd.Get(ctx, orderPrefix+id, opts...)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return ErrNotFound
		}
		o, err = decodeOrder(resp.Kvs[0].Value)
		return err
	})
	if err != nil {
		return Order{}, fmt.Errorf("reading order %q: %w", id, err)
	}
	return o, nil
}

func decodeOrder(record []byte) (Order, error) {
	var o Order
	if err := json.Unmarshal(record, &o); err != nil {
		return Order{}, fmt.Errorf("the store's record of an order: %w", err)
	}
	return o, nil
}

func putOrder(o Order) (clientv3.Op, []byte, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return clientv3.Op{}, nil, err
	}
	return clientv3.OpPut(orderPrefix+o.ID, string(body)), body, nil
}
