package faults

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// doors is a cluster of one service whose nodes are servers on this machine.
type doors struct {
	cluster.Cluster // nil: whatever else a fault asks for panics
	at              map[string]string
	from            sync.Map
}

func (d *doors) Spec() *cluster.Spec {
	return &cluster.Spec{Services: []cluster.Service{{Name: "edge", Expose: []int{8080}}}}
}

func (d *doors) Nodes() (ns []cluster.NodeInfo) {
	for n := range d.at {
		ns = append(ns, cluster.NodeInfo{Name: n, Service: "edge"})
	}
	return ns
}

func (d *doors) Dial(ctx context.Context, from, network, addr string) (net.Conn, error) {
	d.from.Store(from, true)
	node, ok := strings.CutSuffix(addr, ":8080")
	if !ok || d.at[node] == "" {
		return nil, errors.New("nothing is at " + addr)
	}
	var n net.Dialer
	return n.DialContext(ctx, network, d.at[node])
}

// server counts its connections.
type server struct {
	addr              string
	open, peak, total atomic.Int64
}

func serve(t *testing.T, s *http.Server) *server {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	v := &server{addr: ln.Addr().String()}
	s.ConnState = func(_ net.Conn, st http.ConnState) {
		switch st {
		case http.StateNew:
			v.total.Add(1)
			v.peak.Store(max(v.peak.Load(), v.open.Add(1)))
		case http.StateClosed, http.StateHijacked:
			v.open.Add(-1)
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return v
}

func (s *server) emptied(t *testing.T) {
	require.Eventually(t, func() bool { return s.open.Load() == 0 }, 5*time.Second, time.Millisecond, "the server sees every connection end")
}

func crowdOf(t *testing.T, c cluster.Cluster, kind, params string) (*Effect, func()) {
	t.Helper()
	k, ok := ByName(kind)
	require.True(t, ok)
	p := k.New()
	require.NoError(t, json.Unmarshal([]byte(params), p))
	require.NoError(t, p.Validate())
	var undo []func(context.Context) error
	e, err := p.Inject(t.Context(), &Env{Cluster: c,
		Resolve: func(_ context.Context, g plan.Target) ([]string, error) {
			require.Equal(t, "edge", g.Any)
			var all []string
			for _, n := range c.Nodes() {
				all = append(all, n.Name)
			}
			return all, nil
		},
		Undo: func(_ string, s func(context.Context) error) { undo = append(undo, s) }})
	require.NoError(t, err)
	return e, func() {
		for _, s := range undo {
			require.NoError(t, s(context.Background()))
		}
	}
}

// within polls a proof for a time of the real clock.
func within(t *testing.T, d time.Duration, prove func(context.Context) (string, error)) (said string, err error) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if said, err = prove(t.Context()); !errors.Is(err, ErrNotYet) {
			return said, err
		}
	}
	return said, err
}

func TestAFloodIsOpenAtOnceAndGoes(t *testing.T) {
	a, b := serve(t, &http.Server{}), serve(t, &http.Server{})
	d := &doors{at: map[string]string{"edge-1": a.addr, "edge-2": b.addr}}
	e, undo := crowdOf(t, d, "connections", `{"to":"edge","count":40,"per-second":2000}`)
	defer undo()
	said, err := within(t, 5*time.Second, e.Prove)
	require.NoError(t, err)
	assert.Contains(t, said, "of 40 connections were open at once")
	require.Eventually(t, func() bool { return a.open.Load() == 20 && b.open.Load() == 20 }, 5*time.Second, time.Millisecond, "the nodes in turn")
	time.Sleep(50 * time.Millisecond)
	said, err = e.Bitten(t.Context())
	require.NoError(t, err)
	assert.Contains(t, said, "40 were made, and 0 of these ended early")
	undo()
	said, err = e.Gone(t.Context())
	require.NoError(t, err)
	assert.Contains(t, said, "all 40 connections")
	a.emptied(t)
	b.emptied(t)
	assert.EqualValues(t, 20, a.peak.Load(), "never more than were asked for")
	d.from.Range(func(from, _ any) bool { return assert.Equal(t, cluster.Client, from) })
}

func TestAFloodBeginsWhenItsNumberIsReached(t *testing.T) {
	a := serve(t, &http.Server{})
	begin := time.Now()
	e, undo := crowdOf(t, &doors{at: map[string]string{"edge": a.addr}}, "connections", `{"to":"edge","count":20,"per-second":100}`)
	defer undo()
	_, err := within(t, 5*time.Second, e.Prove)
	require.NoError(t, err)
	reached := time.Now()
	require.NotNil(t, e.Since)
	assert.GreaterOrEqual(t, e.Since().Sub(begin), 150*time.Millisecond, "18 of them, one in 10ms")
	assert.False(t, e.Since().After(reached))
	time.Sleep(50 * time.Millisecond)
	_, err = e.Prove(t.Context())
	require.NoError(t, err)
	assert.False(t, e.Since().After(reached), "it is reached once")
}

func TestAFloodThatHoldsGoesOnMakingConnections(t *testing.T) {
	a := serve(t, &http.Server{})
	e, undo := crowdOf(t, &doors{at: map[string]string{"edge": a.addr}}, "connections", `{"to":"edge","count":10,"per-second":1000,"hold":"40ms"}`)
	defer undo()
	_, err := within(t, 5*time.Second, e.Prove)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return a.total.Load() > 30 }, 5*time.Second, time.Millisecond)
	assert.LessOrEqual(t, a.peak.Load(), int64(12), "bounded, but for what the server has not seen end yet")
	undo()
	a.emptied(t)
}

// racing is a cluster whose connections are undone while they are being given a deadline.
type racing struct {
	*doors
	undo chan func()
}

func (r *racing) Dial(ctx context.Context, from, network, addr string) (net.Conn, error) {
	c, err := r.doors.Dial(ctx, from, network, addr)
	return &raced{Conn: c, undo: r.undo, undone: make(chan struct{})}, err
}

type raced struct {
	net.Conn
	undo   chan func()
	undone chan struct{}
}

func (c *raced) SetDeadline(at time.Time) error {
	defer close(c.undone)
	return c.Conn.SetDeadline(at)
}

func (c *raced) SetReadDeadline(at time.Time) error {
	if at.After(time.Now()) {
		go (<-c.undo)()
		<-c.undone
	}
	return c.Conn.SetReadDeadline(at)
}

func TestAFloodThatHoldsEndsWithItsUndo(t *testing.T) {
	s := serve(t, &http.Server{})
	r := &racing{&doors{at: map[string]string{"edge": s.addr}}, make(chan func())}
	e, undo := crowdOf(t, r, "connections", `{"to":"edge","count":1,"hold":"10s"}`)
	done := make(chan struct{})
	r.undo <- func() { defer close(done); undo() }
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the undo waits for the hold")
	}
	_, err := e.Gone(t.Context())
	require.NoError(t, err)
	s.emptied(t)
}

// A server that turns the crowd away has no flood: nothing that rests on it may be judged.
func TestAFloodThatIsTurnedAwayIsNotProved(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	defer func() { ln.Close(); <-done }()
	e, undo := crowdOf(t, &doors{at: map[string]string{"edge": ln.Addr().String()}}, "connections", `{"to":"edge","count":200,"per-second":500}`)
	defer undo()
	_, err = within(t, 500*time.Millisecond, e.Prove)
	require.ErrorIs(t, err, ErrNotYet)
	assert.ErrorContains(t, err, "of 200 connections are open at once; the last trouble")
	_, err = e.Bitten(t.Context())
	require.ErrorIs(t, err, ErrNotYet)

	e, undo = crowdOf(t, &doors{at: map[string]string{"edge": ""}}, "connections", `{"to":"edge","count":5}`)
	defer undo()
	_, err = within(t, 100*time.Millisecond, e.Prove)
	assert.ErrorContains(t, err, "could not be made")
}

func TestSlowClientsAreSlow(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for mode, path := range map[string]string{"headers": "/", "body": "/", "reader": "/big"} {
		t.Run(mode, func(t *testing.T) {
			var served atomic.Int64
			s := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/big" {
					io.WriteString(w, big)
				} else {
					io.Copy(io.Discard, r.Body)
				}
				served.Add(1)
			})})
			e, undo := crowdOf(t, &doors{at: map[string]string{"edge": s.addr}}, "slow-clients",
				`{"to":"edge","connections":8,"mode":"`+mode+`","rate":200,"path":"`+path+`"}`)
			defer undo()
			_, err := within(t, 5*time.Second, e.Prove)
			require.NoError(t, err)
			time.Sleep(300 * time.Millisecond)
			said, err := e.Bitten(t.Context())
			require.NoError(t, err)
			assert.Contains(t, said, "8 were made, and 0 of these ended early")
			assert.Contains(t, said, "bytes went over them")
			assert.EqualValues(t, 8, s.open.Load())
			if mode != "reader" {
				assert.Zero(t, served.Load(), "no request is ever whole")
			}
			undo()
			_, err = e.Gone(t.Context())
			require.NoError(t, err)
			s.emptied(t)
		})
	}
}

// It may be ended between the decision to connect and the connection.
func TestACrowdThatIsEndedWhileItGathersIsGone(t *testing.T) {
	s := serve(t, &http.Server{})
	for range 20 {
		e, undo := crowdOf(t, &doors{at: map[string]string{"edge": s.addr}}, "connections", `{"to":"edge","count":100,"per-second":200}`)
		time.Sleep(7 * time.Millisecond)
		undo()
		_, err := e.Gone(t.Context())
		require.NoError(t, err)
	}
	s.emptied(t)
}

// A server with a deadline for headers sends them away; they come back, and it is in the record.
func TestSlowClientsComeBack(t *testing.T) {
	s := serve(t, &http.Server{ReadHeaderTimeout: 50 * time.Millisecond})
	e, undo := crowdOf(t, &doors{at: map[string]string{"edge": s.addr}}, "slow-clients", `{"to":"edge","connections":4,"rate":100}`)
	defer undo()
	_, err := within(t, 5*time.Second, e.Prove)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.total.Load() > 8 }, 5*time.Second, time.Millisecond)
	undo()
	s.emptied(t)
}

// Clients who find nothing to read are idle, not slow.
func TestAReaderNeedsSomethingToRead(t *testing.T) {
	s := serve(t, &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	e, undo := crowdOf(t, &doors{at: map[string]string{"edge": s.addr}}, "slow-clients", `{"to":"edge","connections":4,"mode":"reader","rate":2000}`)
	defer undo()
	_, err := within(t, 5*time.Second, e.Prove)
	require.NoError(t, err)
	time.Sleep(400 * time.Millisecond)
	_, err = e.Bitten(t.Context())
	require.ErrorIs(t, err, ErrNotYet)
	assert.ErrorContains(t, err, "were to go")
}
