package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
)

// leaked is the lease of the defect lease-leak.
const leaked = time.Hour

// Registrar keeps one entry in the registry for as long as it runs.
type Registrar struct {
	Etcd    *clientv3.Client
	Entry   Entry
	Lease   time.Duration
	Pulse   *health.Pulse
	Defects defect.Set
	Log     *zap.Logger
	Metrics *Metrics
	// Registered, when not nil, is called after each registration: from the first on callers can find the replica.
	Registered func()

	lease      clientv3.LeaseID // with or without the entry
	granted    time.Duration    // what etcd gave: at least its election allows
	registered bool             // the entry is there
}

// Run registers once ready returns nil, renews the lease, and registers again when it was lost. It returns when ctx ends, with
// the entry still there: Deregister takes it back.
func (r *Registrar) Run(ctx context.Context, ready func(context.Context) error) {
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(r.step(ctx, ready), r.beat())
		r.Pulse.Beat()
	}
}

// beat is how often at least it goes round: a long lease is no reason to look stuck.
func (r *Registrar) beat() time.Duration { return r.Pulse.Most / 3 }

// step does what is due and says how long to wait for the next.
func (r *Registrar) step(ctx context.Context, ready func(context.Context) error) time.Duration {
	const soon = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), min(r.Lease/2, r.beat()))
	defer cancel()
	if !r.registered {
		if !r.Defects.Has(defect.RegisterEarly) {
			// A replica that cannot serve yet must not be found.
			if err := ready(ctx); err != nil {
				return soon
			}
		}
		if err := r.register(ctx); err != nil {
			r.Log.Warn("not registered yet", zap.Error(err))
			return soon
		}
		if r.Registered != nil {
			r.Registered()
		}
		r.Log.Info("registered", zap.String("addr", r.Entry.Addr), zap.Duration("lease", r.granted))
		return r.granted / 3
	}
	asked := time.Now()
	renewed, err := r.Etcd.KeepAliveOnce(ctx, r.lease)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		r.Log.Warn("the lease was lost; registering again")
		r.gone()
		return 0
	case err != nil:
		return soon // the store is away; it does not count leases down meanwhile
	}
	r.Metrics.leased(asked, renewed.TTL)
	return r.granted / 3
}

func (r *Registrar) register(ctx context.Context) error {
	// A write that got no answer may yet take effect. Under a lease that nobody renews any more the entry would be gone with it,
	// for good; under one that is gone it is refused.
	if err := r.revoke(ctx); err != nil {
		return fmt.Errorf("giving back the lease of the attempt before: %w", err)
	}
	ttl := r.Lease
	if r.Defects.Has(defect.LeaseLeak) {
		ttl = leaked
	}
	asked := time.Now()
	granted, err := r.Etcd.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return fmt.Errorf("asking etcd for a lease: %w", err)
	}
	// Not more often than asked, though a lease of 1 s is granted as 2 s.
	r.lease, r.granted = granted.ID, min(time.Duration(granted.TTL)*time.Second, r.Lease)
	value, err := r.Entry.encode()
	if err != nil {
		return err
	}
	if _, err := r.Etcd.Put(ctx, r.Entry.key(), value, clientv3.WithLease(granted.ID)); err != nil {
		return fmt.Errorf("writing the entry to the registry: %w", err)
	}
	r.registered = true
	r.Metrics.leased(asked, granted.TTL)
	return nil
}

// gone forgets the lease, and the entry with it.
func (r *Registrar) gone() {
	r.lease, r.registered = clientv3.NoLease, false
	r.Metrics.lost()
}

// revoke gives the lease back, if there is one, and so takes back what was or will be written under it.
func (r *Registrar) revoke(ctx context.Context) error {
	if r.lease == clientv3.NoLease {
		return nil
	}
	if _, err := r.Etcd.Revoke(ctx, r.lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	r.gone()
	return nil
}

// Deregister takes the entry back. Call it when Run has returned.
func (r *Registrar) Deregister(ctx context.Context) error {
	if r.Defects.Has(defect.LeaseLeak) {
		return nil
	}
	if err := r.revoke(clientv3.WithRequireLeader(ctx)); err != nil {
		return fmt.Errorf("leaving the registry (the lease will run out in %s): %w", r.granted, err)
	}
	return nil
}
