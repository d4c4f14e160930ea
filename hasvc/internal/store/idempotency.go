package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// CreateOrder makes the order that belongs to an idempotency key. The order and the record of the key are written in one
// transaction that requires the key to be new, so the same key gives one order and the same answer, across attempts,
// replicas and crashes. With another body the error is ErrKeyReused. The order begins with a status; made says that it was
// this call which made it.
func (s *Store) CreateOrder(ctx context.Context, idempotencyKey, sku string, quantity int64, status string) (_ Order, made bool, _ error) {
	o := newOrder(OrderID(idempotencyKey), sku, quantity, status)
	if s.local != nil {
		return s.local.createOrder(o), true, nil
	}
	result, early := o, s.defects.Has(defect.AckEarly) // written early: nobody waits for a result
	err := s.commit(ctx, func(ctx context.Context) error {
		if s.defects.Has(defect.NoIdempotency) {
			// The defect: each attempt makes an order of its own, also one whose answer got lost.
			next := newOrder(newID(), sku, quantity, status)
			put, _, err := putOrder(next)
			if err != nil {
				return err
			}
			if _, err = s.etcd.Txn(ctx).Then(append(markPending(ctx, next), put)...).Commit(); err == nil && !early {
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
		return Order{}, false, fmt.Errorf("creating an order: %w", err)
	}
	// An attempt of ours whose answer got lost is found as what was there before: it has our time.
	return result, result.CreatedAt == o.CreatedAt || result.ID != o.ID, nil
}

// OrderID is the id of the order that belongs to an idempotency key: what others do for the order before it is stored, they
// do for the same one when it is asked for again.
func OrderID(idempotencyKey string) string {
	sum := sha256.Sum256([]byte("order " + idempotencyKey))
	return hex.EncodeToString(sum[:12])
}

func newOrder(id, sku string, quantity int64, status string) Order {
	return Order{ID: id, SKU: sku, Quantity: quantity, Status: status, CreatedAt: time.Now().UTC().Format(time.RFC3339Nano)}
}

// AnsweredOrder returns what was answered to an idempotency key before. ErrNotFound: nothing was, as far as the member of the
// store knows that is asked, which may be behind; ErrKeyReused: it was used with another body.
func (s *Store) AnsweredOrder(ctx context.Context, idempotencyKey, sku string, quantity int64) (Order, error) {
	if s.local != nil || s.defects.Has(defect.NoIdempotency) {
		return Order{}, ErrNotFound
	}
	var first Order
	err := s.read(ctx, true, func(ctx context.Context, opts ...clientv3.OpOption) error {
		resp, err := s.etcd.Get(ctx, keyPath(idempotencyKey), opts...)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return ErrNotFound
		}
		first, err = firstOrder(resp.Kvs[0].Value, sku, quantity)
		return err
	})
	if err != nil {
		return Order{}, fmt.Errorf("looking for an order by its idempotency key: %w", err)
	}
	return first, nil
}

// keyPath is where the record of an idempotency key is. The key is the client's text: its hash is short and has no separators.
func keyPath(idempotencyKey string) string {
	sum := sha256.Sum256([]byte(idempotencyKey))
	return keyPrefix + hex.EncodeToString(sum[:])
}

// firstOrder is the order in the record of a key, if it is the one that is asked for again.
func firstOrder(record []byte, sku string, quantity int64) (Order, error) {
	first, err := decodeOrder(record)
	if err != nil {
		return Order{}, err
	}
	if first.SKU != sku || first.Quantity != quantity {
		return Order{}, ErrKeyReused
	}
	return first, nil
}

func (s *Store) createOnce(ctx context.Context, idempotencyKey string, o Order) (Order, error) {
	put, body, err := putOrder(o)
	if err != nil {
		return Order{}, err
	}
	k := keyPath(idempotencyKey)
	resp, err := s.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(k), "=", 0)).
		Then(append(markPending(ctx, o), clientv3.OpPut(k, string(body)), put)...).
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
	return firstOrder(kvs[0].Value, o.SKU, o.Quantity)
}
