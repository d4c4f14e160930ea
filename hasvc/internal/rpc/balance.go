package rpc

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
)

// The policies, by the words of HASVC_BALANCER.
var policies = map[string]func(n uint64, from []*endpoint) *endpoint{
	"round_robin":   roundRobin,
	"least_request": leastRequest,
	"random":        func(_ uint64, from []*endpoint) *endpoint { return from[rand.IntN(len(from))] },
}

// balancerName is the policy's name in a service config; blind is the defect no-outlier.
func balancerName(policy string, blind bool) string {
	if blind {
		return "hasvc_blind_" + policy
	}
	return "hasvc_" + policy
}

// gRPC reads its table of balancers without a lock, so they have to be there before anything dials: it asks for init.
func init() {
	for name, choose := range policies {
		for _, blind := range []bool{false, true} {
			balancer.Register(builder{name: balancerName(name, blind), choose: choose, blind: blind})
		}
	}
}

// builder makes a balancer for each connection, with a memory of the connection's endpoints.
type builder struct {
	name   string
	choose func(n uint64, from []*endpoint) *endpoint
	blind  bool
}

func (b builder) Name() string { return b.name }

func (b builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	pickers := &pickers{choose: b.choose, blind: b.blind, known: map[string]*endpoint{}}
	return flat{base.NewBalancerBuilder(b.name, pickers, base.Config{}).Build(cc, opts), pickers}
}

// flat hands the base balancer, which knows addresses only, those of the endpoints: etcd's resolver gives nothing else.
type flat struct {
	balancer.Balancer
	pickers *pickers
}

func (f flat) UpdateClientConnState(s balancer.ClientConnState) error {
	if len(s.ResolverState.Addresses) == 0 {
		for _, e := range s.ResolverState.Endpoints {
			s.ResolverState.Addresses = append(s.ResolverState.Addresses, e.Addresses...)
		}
	}
	defer f.pickers.forget(s.ResolverState.Addresses) // when no picker is made with them any more
	return f.Balancer.UpdateClientConnState(s)
}

// pickers makes a picker whenever the set of ready endpoints changes; what is known of an endpoint survives that.
type pickers struct {
	choose func(n uint64, from []*endpoint) *endpoint
	blind  bool
	mu     sync.Mutex
	known  map[string]*endpoint
}

func (p *pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pick := &picker{choose: p.choose, blind: p.blind}
	pick.n.Store(rand.Uint64N(1 << 32)) // gateways that start together must not walk in step
	for sc, i := range info.ReadySCs {
		e := p.known[i.Address.Addr]
		if e == nil || e.conn != sc {
			e = &endpoint{addr: i.Address.Addr, conn: sc}
			p.known[i.Address.Addr] = e
		}
		pick.ready = append(pick.ready, e)
	}
	return pick
}

// forget drops what is known of endpoints other than those that there are: replicas are replaced for as long as this process runs.
func (p *pickers) forget(there []resolver.Address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.known, func(addr string, _ *endpoint) bool {
		return !slices.ContainsFunc(there, func(a resolver.Address) bool { return a.Addr == addr })
	})
}

// endpoint is a replica with a connection that is ready.
type endpoint struct {
	addr     string
	conn     balancer.SubConn
	inFlight atomic.Int64
	outlier  outlier
}

type picker struct {
	choose func(n uint64, from []*endpoint) *endpoint
	blind  bool
	ready  []*endpoint
	n      atomic.Uint64
}

// Pick chooses among the endpoints that are no outliers and that this request has not tried yet; where that leaves none,
// among more. An outlier whose time has come gets the request, unless it is the one that this request has just waited for.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	now := time.Now()
	tried := triedOf(info.Ctx)
	check := info.FullMethodName == grpc_health_v1.Health_Check_FullMethodName
	from := make([]*endpoint, 0, len(p.ready))
	for _, e := range p.ready {
		if p.blind {
			break
		}
		switch ejected, due := e.outlier.state(now, !check && !tried.has(e.addr)); {
		case due:
			return e.take(tried, check), nil
		case !ejected:
			from = append(from, e)
		}
	}
	if len(from) < (len(p.ready)+1)/2 || info.Ctx.Value(anywhereKey{}) != nil {
		from = p.ready // when most replicas look bad, the trouble is elsewhere
	}
	if fresh := tried.without(from); len(fresh) > 0 {
		from = fresh
	}
	if check {
		// It takes no turn: with two requests between each two of them, one replica of three would get nothing else.
		return from[rand.IntN(len(from))].take(tried, check), nil
	}
	return p.choose(p.n.Add(1), from).take(tried, check), nil
}

// take sends a request to the endpoint, or a check of its health.
func (e *endpoint) take(t *tried, check bool) balancer.PickResult {
	t.add(e.addr)
	e.inFlight.Add(1)
	return balancer.PickResult{SubConn: e.conn, Done: func(d balancer.DoneInfo) {
		e.inFlight.Add(-1)
		e.outlier.saw(d, check, time.Now())
	}}
}

func roundRobin(n uint64, from []*endpoint) *endpoint { return from[n%uint64(len(from))] }

// leastRequest compares two at random (the power of two choices).
func leastRequest(_ uint64, from []*endpoint) *endpoint {
	a, b := from[rand.IntN(len(from))], from[rand.IntN(len(from))]
	if b.inFlight.Load() < a.inFlight.Load() {
		return b
	}
	return a
}

// tried is the endpoints that the attempts of one request went to. The nil value remembers nothing.
type tried struct {
	mu    sync.Mutex
	addrs map[string]bool
}

type (
	triedKey    struct{}
	anywhereKey struct{}
)

// Anywhere returns a context for requests that go to outliers as well.
func Anywhere(ctx context.Context) context.Context {
	return context.WithValue(ctx, anywhereKey{}, true)
}

// Attempts returns a context for the attempts of one request: each goes to an endpoint that the ones before did not, as
// long as there are such. The attempts of an attempt are the request's.
func Attempts(ctx context.Context) context.Context {
	if triedOf(ctx) != nil {
		return ctx
	}
	return context.WithValue(ctx, triedKey{}, &tried{addrs: map[string]bool{}})
}

func triedOf(ctx context.Context) *tried {
	t, _ := ctx.Value(triedKey{}).(*tried)
	return t
}

// without returns the endpoints that were not tried.
func (t *tried) without(from []*endpoint) []*endpoint {
	if t == nil {
		return from
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.addrs) == 0 {
		return from
	}
	var fresh []*endpoint
	for _, e := range from {
		if !t.addrs[e.addr] {
			fresh = append(fresh, e)
		}
	}
	return fresh
}

func (t *tried) has(addr string) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addrs[addr]
}

func (t *tried) add(addr string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addrs[addr] = true
}
