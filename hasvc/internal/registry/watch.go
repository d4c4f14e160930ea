package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/health"
)

// Watcher follows the replicas of one service.
type Watcher struct {
	Etcd    *clientv3.Client
	Service string
	Pulse   *health.Pulse
	Defects defect.Set
	Log     *zap.Logger
	// Update is called with the addresses, sorted, whenever they change; with none only as long as none was ever known:
	// last known endpoints are better than no endpoints, and a dead one is found out by connecting to it.
	Update func(addrs []string)

	last []string
	told bool // Update was called
}

const (
	listTimeout = time.Second
	resyncWait  = 100 * time.Millisecond
	// When a watch has been quiet for so long, the list is read again.
	quiet = time.Second
)

// Run reads the list and follows it, again and again, until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.follow(ctx); err != nil && ctx.Err() == nil {
			w.lost(err)
		}
		if w.Defects.Has(defect.WatchStuck) && w.last != nil {
			w.stuck(ctx)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(resyncWait/2 + rand.N(resyncWait)):
		}
		w.Pulse.Beat()
	}
}

// lost deals with a registry that is away, or a watch that ended: the endpoints known last stay.
func (w *Watcher) lost(err error) {
	w.Log.Warn("lost the registry; keeping the endpoints known last", zap.String("service", w.Service), zap.Strings("endpoints", w.last), zap.Error(err))
	if !w.told || w.Defects.Has(defect.NoEndpointCache) {
		w.update(nil) // requests fail at once, instead of waiting for endpoints until their deadline
	}
}

// stuck is the defect watch-stuck: whatever was known stays, for ever, and looks alive.
func (w *Watcher) stuck(ctx context.Context) {
	t := time.NewTicker(quiet)
	defer t.Stop()
	for {
		w.Pulse.Beat()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// errEnded: the watch is over, by compaction, loss of the leader or loss of the connection, and the list must be read again.
var errEnded = errors.New("the watch ended")

// follow reads the whole list and applies changes from there, until something is lost.
func (w *Watcher) follow(ctx context.Context) error {
	list, revision, err := w.list(ctx)
	if err != nil {
		return err
	}
	w.publish(list)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Watch itself waits until some member has answered, and would wait here for as long as the registry is away.
	late := time.AfterFunc(listTimeout, cancel)
	// Without a leader the member ends the watch: otherwise one that is cut off from the others stays silent for ever.
	changes := w.Etcd.Watch(clientv3.WithRequireLeader(ctx), prefix+w.Service+"/", clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	if !late.Stop() {
		return fmt.Errorf("watching the registry: no answer in %s", listTimeout)
	}
	t := time.NewTicker(quiet)
	defer t.Stop()
	for {
		w.Pulse.Beat()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c, ok := <-changes:
			if !ok {
				return errEnded
			}
			if err := c.Err(); err != nil { // compacted, or no leader
				return fmt.Errorf("%w: %w", errEnded, err)
			}
			w.apply(list, c.Events)
			w.publish(list)
		case <-t.C:
			if w.Defects.Has(defect.WatchStuck) {
				continue
			}
			// A watch over a connection that a packet filter swallows says nothing, so silence is checked.
			now, _, err := w.list(ctx)
			if err != nil {
				return err
			}
			if !maps.Equal(now, list) {
				w.publish(now)
				return errEnded
			}
		}
	}
}

// list returns the addresses by key and the revision at which they were read.
func (w *Watcher) list(ctx context.Context) (map[string]string, int64, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), listTimeout)
	defer cancel()
	resp, err := w.Etcd.Get(ctx, prefix+w.Service+"/", clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("reading the registry: %w", err)
	}
	list := map[string]string{}
	for _, kv := range resp.Kvs {
		w.set(list, string(kv.Key), kv.Value)
	}
	return list, resp.Header.Revision, nil
}

func (w *Watcher) apply(list map[string]string, events []*clientv3.Event) {
	for _, e := range events {
		if e.Type == clientv3.EventTypeDelete {
			delete(list, string(e.Kv.Key))
		} else {
			w.set(list, string(e.Kv.Key), e.Kv.Value)
		}
	}
}

func (w *Watcher) set(list map[string]string, key string, value []byte) {
	e, err := decode(value)
	if err != nil {
		w.Log.Error("ignoring an entry of the registry", zap.String("key", key), zap.Error(err))
		return
	}
	list[key] = e.Addr
}

func (w *Watcher) publish(list map[string]string) {
	addrs := slices.Compact(slices.Sorted(maps.Values(list)))
	if w.told && (slices.Equal(addrs, w.last) || (len(addrs) == 0 && !w.Defects.Has(defect.NoEndpointCache))) {
		return
	}
	w.update(addrs)
}

func (w *Watcher) update(addrs []string) {
	w.last, w.told = addrs, true
	w.Log.Info("endpoints", zap.String("service", w.Service), zap.Strings("endpoints", addrs))
	w.Update(addrs)
}
