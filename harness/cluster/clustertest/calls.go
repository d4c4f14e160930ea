package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// calls checks that calls on observed links are read, those with a node that came later among them, and that a Reply answers
// requests in the place of a node.
func (s *suite) calls(t *testing.T) {
	check(t, "calls", 60*time.Second, func(t *testing.T, ctx context.Context) {
		web := s.service("web", "serve")
		web.Scaled, web.Replicas, web.Ready = true, 1, &plan.Condition{HTTP: "http://:8080/healthz"}
		other := s.service("b", "serve")
		other.Ready = web.Ready
		var mu sync.Mutex
		var calls []cluster.Call
		var read []cluster.Observed
		ends := []cluster.Link{{From: cluster.Client, To: "web"}}
		began := time.Now()
		top := s.up(t, ctx, &cluster.Spec{Name: "calls", Services: []cluster.Service{web, other}}, cluster.Options{
			Observed: ends, Replied: ends, Calls: func(b cluster.CallBatch) {
				mu.Lock()
				defer mu.Unlock()
				if b.Err != nil {
					t.Errorf("the last calls: %v", b.Err)
				}
				calls, read = append(calls, b.Calls...), append(read, b.Read...)
			},
		})
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return top.Dial(ctx, cluster.Client, network, addr)
		}}}
		get := func(node string) int {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+":8080/stats?a=b", nil)
			require.NoError(t, err)
			req.Header.Set("X-Request-ID", "of "+node)
			resp, err := client.Do(req)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			return resp.StatusCode
		}
		for range 10 {
			require.Equal(t, 200, get("web-1"))
			require.Equal(t, 200, get("b"))
		}
		id, undo := top.counted(t, ctx, cluster.Rule{Reply: &cluster.Reply{HTTP: &cluster.HTTPReply{Status: 503}, Path: "^/stats$", Every: 3}},
			cluster.Link{From: cluster.Client, To: "web-1"})
		for i := range 30 {
			require.Equal(t, map[bool]int{true: 503, false: 200}[i%3 == 2], get("web-1"), "request %d", i)
		}
		require.EqualValues(t, 10, top.acted(t, ctx, id))
		undo()
		for range 10 {
			require.Equal(t, 200, get("web-1"), "healed")
		}
		probed(t, ctx, top, "web-1")
		require.NoError(t, top.Scale(ctx, "web", 2))
		require.Equal(t, 200, get("web-2"))
		client.CloseIdleConnections()
		top.down(t, ctx)

		mu.Lock()
		defer mu.Unlock()
		got := map[string]int{}
		for _, c := range calls {
			require.Equal(t, "GET /stats http/1.1 8080 of "+c.Link.To, fmt.Sprint(c.Method, " ", c.Path, " ", c.Proto, " ", c.Port, " ", c.RequestID))
			require.True(t, began.Before(c.Begin) && !c.End.Before(c.Begin) && c.End.Before(time.Now()), "its times are this machine's")
			got[fmt.Sprint(c.Link, " ", c.Status, " ", c.Injected)]++
		}
		require.Equal(t, map[string]int{"client -> web-1 200 false": 40, "client -> web-1 503 true": 10, "client -> web-2 200 false": 1}, got)
		require.Equal(t, []cluster.Observed{
			{Link: cluster.Link{From: cluster.Client, To: "web-1"}, Calls: 50}, {Link: cluster.Link{From: cluster.Client, To: "web-2"}, Calls: 1},
		}, read)
	})
}

// probed sends what is no HTTP to a listener in a node: a probe, by which no call is missed.
func probed(t *testing.T, ctx context.Context, top *topology, node string) {
	l, err := top.Listen(ctx, node)
	require.NoError(t, err)
	k := top.dial(t, ctx, cluster.Client, l.Addr().String())
	_, err = k.Write(make([]byte, 5000))
	require.NoError(t, err)
	c, err := l.Accept()
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 5000))
	require.NoError(t, errors.Join(err, c.Close(), k.Close(), l.Close()))
}
