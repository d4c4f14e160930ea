package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
)

// Stock is the level of a SKU with the revision of the store at its last change.
type Stock struct {
	SKU      string
	Level    int64
	Revision int64
}

// stockRecord is what etcd holds.
type stockRecord struct {
	Level int64 `json:"level"`
}

const (
	stockLeast  = 1_000_000_000
	stockSpread = 1_000_000
)

// InitialStock is the level of a SKU that nobody has touched: plenty, and the same for every replica without being stored.
func InitialStock(sku string) int64 {
	h := fnv.New32a()
	h.Write([]byte(sku)) // never fails
	return stockLeast + int64(h.Sum32()%stockSpread)
}

// Level reads the stock of a SKU, confirmed by a quorum.
func (s *Store) Level(ctx context.Context, sku string) (Stock, error) {
	stock, _, err := s.level(ctx, sku)
	return stock, err
}

// level also returns the revision at which it was read: the changes after it are those that the answer does not have.
func (s *Store) level(ctx context.Context, sku string) (Stock, int64, error) {
	var stock Stock
	var now int64
	err := s.read(ctx, false, func(ctx context.Context, opts ...clientv3.OpOption) error {
		resp, err := s.etcd.Get(ctx, stockPrefix+sku, opts...)
		if err != nil {
			return err
		}
		now = resp.Header.Revision
		stock, err = decodeStock(sku, resp.Kvs)
		return err
	})
	if err != nil {
		return Stock{}, 0, fmt.Errorf("reading the stock of %q: %w", sku, err)
	}
	return stock, now, nil
}

func decodeStock(sku string, kvs []*mvccpb.KeyValue) (Stock, error) {
	if len(kvs) == 0 {
		return Stock{SKU: sku, Level: InitialStock(sku)}, nil
	}
	var rec stockRecord
	if err := json.Unmarshal(kvs[0].Value, &rec); err != nil {
		return Stock{}, fmt.Errorf("the store's record of the stock of %q: %w", sku, err)
	}
	return Stock{SKU: sku, Level: rec.Level, Revision: kvs[0].ModRevision}, nil
}

// WatchStock calls each with every change after a revision, in order and once, until ctx ends or the store cannot go on;
// after 0 it begins with the level as it is. Whoever names the last revision that it saw continues without a gap, at any
// replica: the store keeps the history.
func (s *Store) WatchStock(ctx context.Context, sku string, after int64, each func(Stock) error) error {
	for {
		if after == 0 {
			stock, now, err := s.level(ctx, sku)
			if err != nil {
				return err
			}
			stock.Revision, after = now, now // the level is that of the moment it was read
			if err := each(stock); err != nil {
				return err
			}
		}
		seen, err := s.followStock(ctx, sku, after, each)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
		if seen > after {
			after = seen
			continue
		}
		after = 0 // the store has forgotten what came next; the level as it is makes up for it
	}
}

// followStock returns the last revision that it handed on.
func (s *Store) followStock(ctx context.Context, sku string, after int64, each func(Stock) error) (int64, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the watch
	defer cancel()
	for c := range s.etcd.Watch(led(ctx), stockPrefix+sku, clientv3.WithRev(after+1)) {
		if err := c.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return after, rpctypes.ErrCompacted
			}
			return after, fmt.Errorf("%w: watching the stock of %q: %w", ErrAway, sku, err)
		}
		for _, e := range c.Events {
			stock, err := decodeStock(sku, []*mvccpb.KeyValue{e.Kv})
			if err != nil {
				return after, err
			}
			if err := each(stock); err != nil {
				return after, err
			}
			after = stock.Revision
		}
	}
	if ctx.Err() != nil {
		return after, context.Cause(ctx)
	}
	return after, fmt.Errorf("%w: the watch of the stock of %q ended", ErrAway, sku)
}
