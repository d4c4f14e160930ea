package store

import (
	"context"

	"go.etcd.io/etcd/client/v3"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/rpc"
)

// commit runs a write and returns when the store has committed it, which is the only moment at which it may be
// acknowledged.
func (s *Store) commit(ctx context.Context, write func(ctx context.Context) error) error {
	if s.defects.Has(defect.AckEarly) {
		s.ackEarly(ctx, write)
		return nil
	}
	return s.try(led(ctx), write)
}

// led marks a request as one that needs a leader. A member without one would keep it for 7 s; so it refuses at once.
func led(ctx context.Context) context.Context { return clientv3.WithRequireLeader(ctx) }

// read runs a read: linearizable, that is confirmed by a quorum, unless the caller settles for what one member knows.
func (s *Store) read(ctx context.Context, serializable bool, get func(ctx context.Context, opts ...clientv3.OpOption) error) error {
	if s.defects.Has(defect.StaleRead) {
		// The defect believes each member in its turn, also one that is cut off from the others.
		ctx, serializable = rpc.Anywhere(ctx), true
	}
	if serializable {
		return s.try(ctx, func(ctx context.Context) error { return get(ctx, clientv3.WithSerializable()) })
	}
	return s.try(led(ctx), func(ctx context.Context) error { return get(ctx) })
}

// ackEarly is the defect: the write goes out on its own, once, and nobody hears when it is lost.
func (s *Store) ackEarly(ctx context.Context, write func(ctx context.Context) error) {
	s.early.Go(func() {
		_ = s.once(led(context.WithoutCancel(ctx)), write)
	})
}
