package engine

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// readiness probes the replicas of some services as a balancer does, from the plane, and records every change.
type readiness struct {
	c        cluster.Cluster
	w        *record.Writer
	services map[string]bool
	http     *http.Client

	mu    sync.Mutex
	state map[string]bool
}

// probeEvery is the interval of readiness probes.
const probeEvery = 100 * time.Millisecond

// probeTimeout bounds a readiness probe: Kubernetes' default. A replica that answers slowly, as one may that asks its own dependencies
// first, is ready.
const probeTimeout = time.Second

func newReadiness(c cluster.Cluster, w *record.Writer, services map[string]bool) *readiness {
	return &readiness{c: c, w: w, services: services, state: map[string]bool{}, http: planeClient(c)}
}

// poll probes until ctx ends. Replicas that appear while it runs are probed from the next turn on.
func (r *readiness) poll(ctx context.Context) {
	defer r.http.CloseIdleConnections()
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	var probing sync.WaitGroup
	defer probing.Wait()
	busy := map[string]bool{} // nodes whose last probe is still out; guarded by mu
	for {
		nodes := r.c.Nodes()
		r.forget(nodes)
		for _, n := range nodes {
			if !r.services[n.Service] {
				continue
			}
			r.mu.Lock()
			out := busy[n.Name]
			busy[n.Name] = true
			r.mu.Unlock()
			if out {
				continue
			}
			probing.Go(func() {
				err := r.probe(ctx, n)
				r.mu.Lock()
				busy[n.Name] = false
				r.mu.Unlock()
				if ctx.Err() == nil {
					r.note(n.Name, err)
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// forget drops nodes that are no longer there: one that comes back under the same name is not ready before it says so.
func (r *readiness) forget(nodes []cluster.NodeInfo) {
	there := map[string]bool{}
	for _, n := range nodes {
		there[n.Name] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, was := range r.state {
		if there[n] {
			continue
		}
		delete(r.state, n)
		if was {
			r.w.Ready(record.Readiness{T: r.w.Now(), Node: n, Error: "the node was removed"})
		}
	}
}

func (r *readiness) note(node string, err error) {
	r.mu.Lock()
	was, known := r.state[node]
	r.state[node] = err == nil
	r.mu.Unlock()
	if known && was == (err == nil) {
		return
	}
	change := record.Readiness{T: r.w.Now(), Node: node, Ready: err == nil}
	if err != nil {
		change.Error = err.Error()
	}
	r.w.Ready(change)
}

// probe asks the service's own ready condition where it is one that can be asked over the network; otherwise the
// driver knows.
func (r *readiness) probe(ctx context.Context, n cluster.NodeInfo) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	switch c := readyCondition(r.c.Spec(), n.Service); {
	case c != nil && c.HTTP != "":
		return getOK(ctx, r.http, c.HTTP, n.Name, firstPort(r.c.Spec(), n.Service, 80))
	case c != nil && c.TCP != "":
		return connects(ctx, r.c, c.TCP, n.Name)
	}
	s, err := r.c.Status(n.Name)
	if err != nil {
		return err
	}
	if s.State != cluster.StateRunning || !s.Ready {
		return fmt.Errorf("the node is %s", s.State)
	}
	return nil
}

func readyCondition(spec *cluster.Spec, service string) *plan.Condition {
	for i := range spec.Services {
		if spec.Services[i].Name == service {
			return spec.Services[i].Ready
		}
	}
	return nil
}

// getOK succeeds on any 2xx. A URL without a host is asked of node.
func getOK(ctx context.Context, client *http.Client, raw, node string, port int) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	host := u.Hostname()
	if host == "" {
		host = node
	}
	p := u.Port()
	if p == "" {
		p = strconv.Itoa(port)
	}
	u.Host = net.JoinHostPort(host, p)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s", u.Host, resp.Status)
	}
	return nil
}

// connects succeeds when a connection is accepted. An address without a host is that of node.
func connects(ctx context.Context, c cluster.Cluster, addr, node string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "" {
		host = node
	}
	conn, err := c.DialPlane(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// of returns the nodes of a service that are ready, sorted by name.
func (r *readiness) of(service string) []cluster.NodeInfo {
	var ready []cluster.NodeInfo
	nodes := r.c.Nodes()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range nodes {
		if n.Service == service && r.state[n.Name] {
			ready = append(ready, n)
		}
	}
	return ready
}
