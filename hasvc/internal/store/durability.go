package store

import (
	"context"

	"go.etcd.io/etcd/client/v3"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// commit runs a write and returns when the store has committed it, which is the only moment at which it may be
// acknowledged.
func (s *Store) commit(ctx context.Context, write func(ctx context.Context) error) error {
	if s.defects.Has(defect.AckEarly) {
		s.ackEarly(ctx, write)
		return nil
	}
	return s.try(ctx, write)
}

// readOptions of a read: linearizable, that is confirmed by a quorum, unless the caller settles for what one member knows.
func (s *Store) readOptions(serializable bool) []clientv3.OpOption {
	if serializable || s.defects.Has(defect.StaleRead) {
		return []clientv3.OpOption{clientv3.WithSerializable()}
	}
	return nil
}

// ackEarly is the defect: the write goes out on its own, once, and nobody hears when it is lost.
func (s *Store) ackEarly(ctx context.Context, write func(ctx context.Context) error) {
	s.early.Go(func() {
		_ = s.once(clientv3.WithRequireLeader(context.WithoutCancel(ctx)), write)
	})
}
