package registry

import (
	"context"
	"sync"

	"google.golang.org/grpc/resolver"
)

// Scheme of a gRPC target that is looked up in the registry: "registry:///orders".
const Scheme = "registry"

// Resolver is a gRPC resolver on top of a Watcher. It serves one connection.
type Resolver struct {
	New func(service string, update func(addrs []string)) *Watcher
}

// Scheme implements resolver.Builder.
func (Resolver) Scheme() string { return Scheme }

// Build implements resolver.Builder: it starts to watch, and Close waits until that has ended.
func (r Resolver) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{cancel: cancel}
	watcher := r.New(target.Endpoint(), func(addrs []string) {
		state := resolver.State{}
		for _, a := range addrs {
			state.Addresses = append(state.Addresses, resolver.Address{Addr: a})
			state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
		}
		// An error asks for another resolution, which comes with the next change anyway.
		_ = cc.UpdateState(state)
	})
	w.done.Go(func() { watcher.Run(ctx) })
	return w, nil
}

type watching struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// ResolveNow does nothing: the watch is always up to date, or trying to be.
func (*watching) ResolveNow(resolver.ResolveNowOptions) {}

func (w *watching) Close() {
	w.cancel()
	w.done.Wait()
}
