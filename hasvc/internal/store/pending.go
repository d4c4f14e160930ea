package store

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/client/v3"

	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

// PendingOrder is an order that waits, and whose request it was: the lines about it are of that request to the end.
type PendingOrder struct {
	Order
	TraceID, RequestID string // empty: they were not stored with it
}

// A pending order has a second key, written with it and deleted when it is settled: finding those that wait must not mean
// to read all orders there are.
func pendingKey(id string) string { return pendingPrefix + id }

// markPending is what is written with a new order. The ids of ctx have no spaces.
func markPending(ctx context.Context, o Order) []clientv3.Op {
	if o.Status != Pending {
		return nil
	}
	return []clientv3.Op{clientv3.OpPut(pendingKey(o.ID), trace.ID(ctx)+" "+trace.RequestID(ctx))}
}

// PendingOrders returns some of the orders that wait, at most 128 (what etcd allows in a transaction), those that have waited for
// longest first.
func (s *Store) PendingOrders(ctx context.Context, most int64) ([]PendingOrder, error) {
	var out []PendingOrder
	err := s.read(ctx, false, func(ctx context.Context, opts ...clientv3.OpOption) error {
		out = nil
		resp, err := s.etcd.Get(ctx, pendingPrefix, append(opts, clientv3.WithPrefix(), clientv3.WithLimit(most),
			clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))...)
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 0 {
			return nil
		}
		// One by one they would take as many round trips, for which an attempt has no time where the store is slow.
		var gets []clientv3.Op
		for _, kv := range resp.Kvs {
			gets = append(gets, clientv3.OpGet(orderPrefix+string(kv.Key[len(pendingPrefix):])))
		}
		found, err := s.etcd.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return err
		}
		for i, o := range found.Responses {
			for _, kv := range o.GetResponseRange().Kvs {
				rec, err := decodeOrder(kv.Value)
				if err != nil {
					return err
				}
				traceID, requestID, _ := strings.Cut(string(resp.Kvs[i].Value), " ")
				out = append(out, PendingOrder{Order: rec, TraceID: traceID, RequestID: requestID})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the pending orders: %w", err)
	}
	return out, nil
}

// SettleOrder ends the waiting of a pending order with a status. ErrNotFound: it does not wait any more.
func (s *Store) SettleOrder(ctx context.Context, o Order, status string) error {
	o.Status = status
	put, _, err := putOrder(o)
	if err != nil {
		return err
	}
	err = s.try(led(ctx), func(ctx context.Context) error {
		resp, err := s.etcd.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(pendingKey(o.ID)), ">", 0)).
			Then(put, clientv3.OpDelete(pendingKey(o.ID))).
			Commit()
		if err == nil && !resp.Succeeded {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("settling order %q: %w", o.ID, err)
	}
	return nil
}
