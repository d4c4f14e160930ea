package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// CreateOrder makes the order that belongs to an idempotency key. The order and the record of the key are written in one
// transaction that requires the key to be new, so the same key gives one order and the same answer, across attempts,
// replicas and crashes. With another body the error is ErrKeyReused.
func (s *Store) CreateOrder(ctx context.Context, idempotencyKey, sku string, quantity int64) (Order, error) {
	o := newOrder(sku, quantity)
	if s.local != nil {
		return s.local.createOrder(o), nil
	}
	result, early := o, s.defects.Has(defect.AckEarly) // written early: nobody waits for a result
	err := s.commit(ctx, func(ctx context.Context) error {
		if s.defects.Has(defect.NoIdempotency) {
			// The defect: each attempt makes an order of its own, also one whose answer got lost.
			next := newOrder(sku, quantity)
			put, _, err := putOrder(next)
			if err != nil {
				return err
			}
			if _, err = s.etcd.Do(ctx, put); err == nil && !early {
				result = next
			}
			return err
		}
		got, err := s.createOnce(ctx, idempotencyKey, o)
		if err == nil && !early {
			result = got
		}
		return err
	})
	if err != nil {
		return Order{}, fmt.Errorf("creating an order: %w", err)
	}
	return result, nil
}

func newOrder(sku string, quantity int64) Order {
	return Order{ID: newID(), SKU: sku, Quantity: quantity, Status: Accepted, CreatedAt: time.Now().UTC().Format(time.RFC3339Nano)}
}

func (s *Store) createOnce(ctx context.Context, idempotencyKey string, o Order) (Order, error) {
	put, body, err := putOrder(o)
	if err != nil {
		return Order{}, err
	}
	// The key is the client's text: its hash is short and has no separators.
	sum := sha256.Sum256([]byte(idempotencyKey))
	k := keyPrefix + hex.EncodeToString(sum[:])
	resp, err := s.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(k), "=", 0)).
		Then(clientv3.OpPut(k, string(body)), put).
		Else(clientv3.OpGet(k)).
		Commit()
	if err != nil {
		return Order{}, err
	}
	if resp.Succeeded {
		return o, nil
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return Order{}, fmt.Errorf("the store's record of the idempotency key is gone")
	}
	var first Order
	if err := json.Unmarshal(kvs[0].Value, &first); err != nil {
		return Order{}, fmt.Errorf("the store's record of the idempotency key: %w", err)
	}
	if first.SKU != o.SKU || first.Quantity != o.Quantity {
		return Order{}, ErrKeyReused
	}
	return first, nil
}
