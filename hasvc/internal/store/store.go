package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// Keys in etcd.
const (
	orderPrefix    = "/hasvc/orders/by-id/"
	keyPrefix      = "/hasvc/orders/by-idempotency-key/"
	pendingPrefix  = "/hasvc/orders/pending/"
	registerPrefix = "/hasvc/registers/"
	stockPrefix    = "/hasvc/inventory/stock/"
	movePrefix     = "/hasvc/inventory/moves/"
	pingKey        = "/hasvc/ping" // never written
)

// Store is safe for concurrent use. Close it to wait for writes whose callers have left.
type Store struct {
	etcd    *clientv3.Client
	attempt time.Duration
	defects defect.Set
	local   *local // nil without the defect sticky-state
	early   sync.WaitGroup
	moves   moves
}

// New returns a store on an open client, which stays the caller's to close.
func New(etcd *clientv3.Client, cfg config.Config) *Store {
	s := &Store{etcd: etcd, attempt: cfg.StoreTry, defects: cfg.Defects}
	if cfg.Defects.Has(defect.StickyState) {
		s.local = newLocal()
	}
	return s
}

// Close waits for writes that are under way: moves of stock, and those of the defect ack-early.
func (s *Store) Close() {
	s.early.Wait()
	s.moves.running.Wait()
}

// Ping asks for what only a store with a quorum can answer: a linearizable read.
func (s *Store) Ping(ctx context.Context) error {
	err := s.try(led(ctx), func(ctx context.Context) error {
		_, err := s.etcd.Get(ctx, pingKey, clientv3.WithCountOnly())
		return err
	})
	if err != nil {
		return fmt.Errorf("asking the store for a linearizable read: %w", err)
	}
	return nil
}

func newID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
