package rpc

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// conn stands for a connection; pickers only compare them.
type conn struct {
	balancer.SubConn
	addr string
}

func newPicker(policy string, n int) balancer.Picker {
	info := base.PickerBuildInfo{ReadySCs: map[balancer.SubConn]base.SubConnInfo{}}
	for i := range n {
		addr := fmt.Sprint("replica-", i)
		info.ReadySCs[&conn{addr: addr}] = base.SubConnInfo{Address: resolver.Address{Addr: addr}}
	}
	return (&pickers{choose: policies[policy], known: map[string]*endpoint{}}).Build(info)
}

// pick sends a request that ends with err at once, and says where it went.
func pick(ctx context.Context, t *testing.T, p balancer.Picker, answer func(addr string) balancer.DoneInfo) string {
	t.Helper()
	r, err := p.Pick(balancer.PickInfo{Ctx: ctx})
	require.NoError(t, err)
	c, ok := r.SubConn.(*conn)
	require.True(t, ok)
	r.Done(answer(c.addr))
	return c.addr
}

func good(string) balancer.DoneInfo { return balancer.DoneInfo{} }

func stopped(addr string) func(string) balancer.DoneInfo {
	return func(a string) balancer.DoneInfo {
		if a == addr {
			return balancer.DoneInfo{Err: status.Error(codes.DeadlineExceeded, "")}
		}
		return balancer.DoneInfo{}
	}
}

func TestPoliciesSpread(t *testing.T) {
	for policy := range policies {
		p := newPicker(policy, 3)
		got := map[string]int{}
		for range 3000 {
			got[pick(t.Context(), t, p, good)]++
		}
		assert.Len(t, got, 3, policy)
		for addr, n := range got {
			assert.InDelta(t, 1000, n, 200, "%s %s", policy, addr)
		}
	}
}

func TestLeastRequest(t *testing.T) {
	p := newPicker("least_request", 2)
	busy, err := p.Pick(balancer.PickInfo{Ctx: t.Context()})
	require.NoError(t, err)
	same := 0
	for range 1000 {
		r, err := p.Pick(balancer.PickInfo{Ctx: t.Context()})
		require.NoError(t, err)
		if r.SubConn == busy.SubConn {
			same++
		}
		r.Done(balancer.DoneInfo{})
	}
	assert.InDelta(t, 250, same, 100, "only when both draws fall on it")
}

// The second attempt of a request goes elsewhere.
func TestRetriesGoElsewhere(t *testing.T) {
	p := newPicker("random", 3)
	for range 100 {
		ctx := Attempts(t.Context())
		seen := map[string]bool{}
		for range 3 {
			seen[pick(ctx, t, p, good)] = true
		}
		assert.Len(t, seen, 3)
	}
}

// Health checks in step with requests must not take all the turns of one replica.
func TestHealthChecksTakeNoTurn(t *testing.T) {
	p := newPicker("round_robin", 3)
	got := map[string]int{}
	for range 100 {
		for range 2 {
			got[pick(t.Context(), t, p, good)]++
		}
		r, err := p.Pick(balancer.PickInfo{Ctx: t.Context(), FullMethodName: grpc_health_v1.Health_Check_FullMethodName})
		require.NoError(t, err)
		r.Done(balancer.DoneInfo{})
	}
	require.Len(t, got, 3)
	for addr, n := range got {
		assert.InDelta(t, 67, n, 1, addr)
	}
}

// A replica that stops gets a few requests more, then one for each span, and all its share when it answers again.
func TestOutlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPicker("round_robin", 3)
		const bad = "replica-1"
		count := func(d time.Duration, answer func(string) balancer.DoneInfo) int {
			n := 0
			for range int(d / (10 * time.Millisecond)) {
				if pick(t.Context(), t, p, answer) == bad {
					n++
				}
				time.Sleep(10 * time.Millisecond)
			}
			return n
		}
		assert.Equal(t, ejectAfter, count(400*time.Millisecond, stopped(bad)))
		assert.Equal(t, 2, count(2*time.Second, stopped(bad)), "tried again after 0.5 and 1 s more")
		assert.Zero(t, count(time.Second, stopped(bad)))
		time.Sleep(ejectMost)
		assert.InDelta(t, 100, count(3*time.Second, good), 3, "it is back")
	})
}

// A request that a replica has just failed is not the one that tries it again.
func TestRetryTriesNoOutlierAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPicker("round_robin", 3)
		const bad = "replica-1"
		for range 3 * ejectAfter {
			pick(t.Context(), t, p, stopped(bad))
		}
		time.Sleep(ejectFirst)
		ctx := Attempts(t.Context())
		require.Equal(t, bad, pick(ctx, t, p, stopped(bad)), "it is due")
		time.Sleep(2 * ejectFirst) // as long as that attempt has taken
		assert.NotEqual(t, bad, pick(ctx, t, p, stopped(bad)))
		assert.Equal(t, bad, pick(t.Context(), t, p, stopped(bad)), "it is due for another one")
	})
}

// A replica that fails all requests and says that it is well is left out as long as any other; checks do not try it again in the place
// of a request. That it says nothing counts.
func TestOutlierSaysItIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPicker("round_robin", 3)
		const bad = "replica-1"
		check := func(answer func(string) balancer.DoneInfo) string {
			r, err := p.Pick(balancer.PickInfo{Ctx: t.Context(), FullMethodName: grpc_health_v1.Health_Check_FullMethodName})
			require.NoError(t, err)
			addr := r.SubConn.(*conn).addr
			r.Done(answer(addr))
			return addr
		}
		requests := 0
		for range 240 {
			for range 5 {
				check(good)
			}
			if pick(t.Context(), t, p, stopped(bad)) == bad {
				requests++
			}
			time.Sleep(10 * time.Millisecond)
		}
		assert.Equal(t, ejectAfter+2, requests, "tried again after 0.5 and 1 s more")

		p = newPicker("round_robin", 3)
		for range 100 {
			check(stopped(bad))
		}
		for range 10 {
			assert.NotEqual(t, bad, pick(t.Context(), t, p, good), "it did not even say that it is well")
		}
	})
}

// When most replicas fail the fault is not theirs, and leaving them out would only move the load.
func TestOutliersAreFew(t *testing.T) {
	p := newPicker("round_robin", 3)
	all := func(string) balancer.DoneInfo { return balancer.DoneInfo{Err: status.Error(codes.Unavailable, "")} }
	for range 30 {
		pick(t.Context(), t, p, all)
	}
	got := map[string]int{}
	for range 30 {
		got[pick(t.Context(), t, p, all)]++
	}
	assert.Len(t, got, 3)
}

// A replica that says that its own dependency is away is none; nor is one whose callers went away.
func TestNoOutlier(t *testing.T) {
	for _, d := range []balancer.DoneInfo{
		{Err: status.Error(codes.Unavailable, ""), Trailer: metadata.Pairs(pushback, "-1")},
		{Err: status.Error(codes.Canceled, "")},
		{Err: status.Error(codes.NotFound, "")},
	} {
		var o outlier
		for range 10 {
			o.saw(d, false, time.Now())
		}
		ejected, _ := o.state(time.Now(), true)
		assert.False(t, ejected, "%v", d)
	}
}

// Nor does that readmit one that is.
func TestBehindAnOutlier(t *testing.T) {
	var o outlier
	now := time.Now()
	for range ejectAfter {
		o.saw(balancer.DoneInfo{Err: status.Error(codes.DeadlineExceeded, "")}, false, now)
	}
	o.saw(balancer.DoneInfo{Err: status.Error(codes.Unavailable, ""), Trailer: metadata.Pairs(pushback, "-1")}, false, now)
	ejected, _ := o.state(now, true)
	assert.True(t, ejected)
	o.saw(balancer.DoneInfo{Err: status.Error(codes.NotFound, "")}, false, now)
	ejected, _ = o.state(now, true)
	assert.False(t, ejected, "an answer is one, whatever it is")
}

// instant is a channel whose connections are ready as soon as they are wanted.
type instant struct{ balancer.ClientConn }

func (instant) UpdateState(balancer.State) {}

func (instant) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &instantConn{conn{addr: addrs[0].Addr}, opts.StateListener}, nil
}

type instantConn struct {
	conn
	listen func(balancer.SubConnState)
}

func (c *instantConn) Connect() {
	c.listen(balancer.SubConnState{ConnectivityState: connectivity.Ready})
}

func (c *instantConn) Shutdown() {
	c.listen(balancer.SubConnState{ConnectivityState: connectivity.Shutdown})
}

// What is known of a replica goes with it: others come in its place, again and again.
func TestReplacedReplicasAreForgotten(t *testing.T) {
	b := builder{name: balancerName("round_robin", false), choose: roundRobin}.Build(instant{}, balancer.BuildOptions{})
	stays := resolver.Endpoint{Addresses: []resolver.Address{{Addr: "stays"}}}
	var known map[string]*endpoint
	var first *endpoint
	for i := range 10 {
		next := resolver.Endpoint{Addresses: []resolver.Address{{Addr: fmt.Sprint("replica-", i)}}}
		require.NoError(t, b.UpdateClientConnState(balancer.ClientConnState{ResolverState: resolver.State{Endpoints: []resolver.Endpoint{stays, next}}}))
		if known = b.(flat).pickers.known; i == 0 {
			first = known["stays"]
		}
	}
	require.Len(t, known, 2)
	assert.Contains(t, known, "replica-9")
	assert.Same(t, first, known["stays"], "and no sooner")
	b.Close()
}
