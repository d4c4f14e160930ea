package agent

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// Reset ends the live TCP connections between the two nodes of each link, idle ones too, so that both ends see a
// reset, and returns how many it found. The session is that with the plane; pods returns the one with the pod at an
// address. (The plane does not hold the nodes' namespaces, so it is the pods that say which connections there are.)
func (s *Session) Reset(ctx context.Context, links []plane.AddrLink, pods func(netip.Addr) (*Session, error)) (int, error) {
	n, err := s.Router().ResetListed(ctx, links, func(ctx context.Context, links []plane.AddrLink) ([]plane.Socket, error) {
		return askPods(ctx, links, pods)
	})
	if err != nil {
		return n, fmt.Errorf("agent: resetting connections: %w", err)
	}
	return n, nil
}

// askPods asks all pods at once: a round of a reset takes as long as the slowest of them.
func askPods(ctx context.Context, links []plane.AddrLink, pods func(netip.Addr) (*Session, error)) ([]plane.Socket, error) {
	var mu sync.Mutex
	var all []plane.Socket
	asking, ctx := errgroup.WithContext(ctx)
	for addr, peers := range plane.PeersOf(links) {
		asking.Go(func() error {
			pod, err := pods(addr)
			if err != nil {
				return err
			}
			live, err := pod.LiveSockets(ctx, addr, peers)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, live...)
			return err
		})
	}
	err := asking.Wait()
	return all, err
}
