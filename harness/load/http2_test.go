package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/cluster/replicas/replicastest"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

func web2(perSecond float64) plan.Load {
	l := web(perSecond)
	l.HTTP2 = true
	return l
}

func TestHTTP2OneConnectionToEachReplica(t *testing.T) {
	for _, keep := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			top := replicastest.New(t)
			top.Service("api", 3, func(string) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					if err != nil || r.ProtoMajor != 2 || r.Host != "api:8080" || r.Header.Get(requestID) == "" {
						w.WriteHeader(http.StatusBadRequest)
					}
					_, _ = fmt.Fprintf(w, "%s %s", r.Method, b)
				})
			})
			l := web2(100)
			l.KeepAlive = keep
			l.Requests = []plan.Request{{ID: "make", Method: "POST", Path: "/o", Body: json.RawMessage(`{"n":"{{.N}}"}`), Expect: plan.Expect{Matches: `^POST \{"n":"\d+"\}$`}}}
			reqs, _ := run(t, top, l, 3*time.Second-1, nil)
			require.Len(t, reqs, 300)
			synctest.Wait()
			used := map[string]int{}
			for _, r := range reqs {
				require.True(t, r.OK, r.Error)
				require.Equal(t, record.Answered, r.Outcome)
				require.NotZero(t, r.BytesIn)
				used[r.Node]++
			}
			for _, n := range top.Nodes() {
				want := 1
				if !keep {
					want = 100
				}
				assert.Equal(t, want, top.Node(n.Name).Dials(), "keepalive %v", keep)
				assert.Equal(t, 100, used[n.Name], "in turn")
				assert.Zero(t, top.Node(n.Name).Open(), "no connection outlives the load")
			}
		})
	}
}

func TestHTTP2IdleConnectionsAreKeptFor(t *testing.T) {
	for _, c := range []struct {
		idle  time.Duration
		dials int
	}{{0, 1}, {1001 * time.Millisecond, 1}, {999 * time.Millisecond, 5}} {
		synctest.Test(t, func(t *testing.T) {
			top := replicastest.New(t)
			top.Service("api", 1, answer(200, "ok"))
			l := web2(1)
			l.Idle = plan.Duration(c.idle)
			reqs, _ := run(t, top, l, 5*time.Second-1, nil)
			require.Len(t, reqs, 5)
			for _, r := range reqs {
				require.True(t, r.OK, r.Error)
			}
			assert.Equal(t, c.dials, top.Node("api-1").Dials(), "idle for %v", c.idle)
		})
	}
}

// A server takes 250 streams of a connection at a time.
func TestHTTP2MoreRequestsThanAConnectionTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(500 * time.Millisecond) })
		})
		reqs, _ := run(t, top, web2(1200), time.Second-1, nil)
		require.Len(t, reqs, 1200)
		for _, r := range reqs {
			require.True(t, r.OK, r.Error)
			require.Less(t, r.Latency(), 600*time.Millisecond)
		}
		assert.Equal(t, 3, top.Node("api-1").Dials())
	})
}

func TestHTTP2RefusedDroppedAndSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		})
		node := top.Node("api-1")
		node.Set(replicastest.Refusing)
		reqs, _ := run(t, top, web2(10), 3*time.Second-1, func(*Generator) {
			time.Sleep(time.Second - 1)
			node.Set(replicastest.Dropping)
			time.Sleep(time.Second)
			node.Set(replicastest.Serving)
		})
		require.Len(t, reqs, 30)
		for n, r := range reqs {
			require.False(t, r.OK)
			require.Equal(t, "api-1", r.Node)
			switch {
			case n < 10:
				require.Equal(t, record.Refused, r.Outcome)
				require.Equal(t, "connecting to api-1: dial tcp: connection refused", r.Error)
			case n == 10:
				require.Equal(t, record.Refused, r.Outcome)
				require.Equal(t, "no connection within 1s", r.Error)
				require.Equal(t, time.Second, r.Latency())
			default: // those that waited for its connection make another one
				require.Equal(t, record.Deadline, r.Outcome)
				require.Equal(t, "no answer within 1s", r.Error)
				require.Equal(t, time.Second, r.Latency())
			}
		}
	})
}

func TestHTTP2ABrokenConnectionIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		var served atomic.Int64
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				served.Add(1)
				time.Sleep(250 * time.Millisecond)
				if r.URL.Path == "/20" {
					top.Node("api-1").Cut()
				}
			})
		})
		l := web2(10)
		l.Requests[0].Headers = map[string]string{"Idempotency-Key": "{{.ID}}"}
		reqs, _ := run(t, top, l, 4*time.Second-1, nil)
		require.Len(t, reqs, 40)
		assert.EqualValues(t, 40, served.Load(), "each request was sent once")
		for n, r := range reqs {
			if n < 20 || n > 22 {
				require.True(t, r.OK, "request %d, after its connection broke, goes on another: %s", n, r.Error)
				continue
			}
			require.Equal(t, record.Reset, r.Outcome, "request %d was on it", n)
			require.Contains(t, r.Error, "connection lost before the answer")
		}
	})
}

// A stream that the server breaks off costs its request, and none of those beside it.
func TestHTTP2AnAnswerIsBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(250 * time.Millisecond)
				if r.URL.Path == "/20" {
					_, _ = io.WriteString(w, "a part")
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			})
		})
		reqs, _ := run(t, top, web2(10), 4*time.Second-1, nil)
		require.Len(t, reqs, 40)
		for n, r := range reqs {
			want := record.Answered
			if n == 20 {
				want = record.Reset
				require.NotEmpty(t, r.Error)
				require.EqualValues(t, len("a part"), r.BytesIn)
			}
			require.Equal(t, want, r.Outcome, "request %d: %s", n, r.Error)
		}
		assert.Equal(t, 1, top.Node("api-1").Dials())
	})
}

// "Connection: close" makes net/http's server send a GOAWAY: what it has taken it finishes, and what is on its way is sent again.
func TestHTTP2ServerThatGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		var mu sync.Mutex
		served := map[string]int{}
		top.Service("api", 2, func(string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				served[r.URL.Path]++
				if len(served)%50 == 0 {
					w.Header().Set("Connection", "close")
				}
				mu.Unlock()
				time.Sleep(30 * time.Millisecond)
			})
		})
		reqs, _ := run(t, top, web2(1000), 2*time.Second-1, nil)
		require.Len(t, reqs, 2000)
		for _, r := range reqs {
			require.True(t, r.OK, "%s %s", r.Outcome, r.Error)
		}
		assert.Len(t, served, 2000)
		for path, n := range served {
			require.Equal(t, 1, n, path)
		}
		assert.Greater(t, top.Node("api-1").Dials()+top.Node("api-2").Dials(), 20)
	})
}

// A dial whose packets are dropped takes as long as it may. Who waits for it, or makes another one, has the time that is left of its own.
func TestHTTP2ADroppedDialCostsNobodyMoreThanItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, answer(200, "ok"))
		node := top.Node("api-1")
		node.Set(replicastest.Dropping)
		reqs, _ := run(t, top, web2(20), 5*time.Second-1, func(*Generator) {
			time.Sleep(3 * time.Second)
			node.Set(replicastest.Serving)
		})
		require.Len(t, reqs, 100)
		for n, r := range reqs {
			require.LessOrEqual(t, r.Latency(), time.Second, "request %d", n)
			switch {
			case r.Done < 3*time.Second:
				require.Equal(t, record.Refused, r.Outcome)
				require.Equal(t, "no connection within 1s", r.Error)
				require.Equal(t, time.Second, r.Latency())
			case r.Due > 3*time.Second: // what was being dialled then goes on for a second at most
				require.True(t, r.OK, "%d: %s", n, r.Error)
			}
		}
	})
}

// While a dial hangs, the connection that was full takes what it has places for again.
func TestHTTP2ADroppedDialBesideAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(500 * time.Millisecond) })
		})
		l := web2(0)
		l.Timeout = plan.Duration(2 * time.Second)
		l.Stages = []plan.Stage{{For: plan.Duration(500 * time.Millisecond), From: 600, To: 600}, {From: 100, To: 100}}
		reqs, _ := run(t, top, l, 2*time.Second-1, func(*Generator) {
			time.Sleep(100 * time.Millisecond)
			top.Node("api-1").Set(replicastest.Dropping)
		})
		require.Len(t, reqs, 450)
		for n, r := range reqs {
			require.True(t, r.OK, "%d: %s", n, r.Error)
			require.Less(t, r.Latency(), 700*time.Millisecond, "%d", n) // 50 wait until the first 50 are done
		}
		assert.Equal(t, 2, top.Node("api-1").Dials())
	})
}

// dialling is a topology that dials as it is told.
type dialling struct {
	*turningAway
	dials atomic.Int64
	dial  func(ctx context.Context, n int64) error // before the n-th connection
}

func (s *dialling) Dial(ctx context.Context, from, network, address string) (net.Conn, error) {
	if err := s.dial(ctx, s.dials.Add(1)); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return s.turningAway.Dial(ctx, from, network, address)
}

// A request that is sent again has what is left of its time, also for a connection.
func TestHTTP2TurnedAwayAndTheNextDialIsSlow(t *testing.T) {
	sleep := func(ctx context.Context, d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, keep := range []bool{true, false} {
		for _, second := range []time.Duration{399 * time.Millisecond, 900 * time.Millisecond, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				top := &dialling{turningAway: &turningAway{Topology: replicastest.New(t), t: t, goAway: true}}
				top.dial = func(ctx context.Context, n int64) error {
					return sleep(ctx, map[int64]time.Duration{1: 600 * time.Millisecond, 2: second}[n])
				}
				top.Service("api", 1, answer(200, ""))
				top.first.Store(1)
				mem := newMemory()
				l := web2(1)
				l.KeepAlive = keep
				g, err := New(l, Env{Cluster: top, Record: mem, Ready: top.Ready})
				require.NoError(t, err)
				g.alarm = plainAlarm
				require.NoError(t, g.Run(withTimeout(t, time.Second-1)))
				require.Len(t, mem.reqs, 1)
				r := mem.reqs[0]
				if second < 400*time.Millisecond {
					require.True(t, r.OK, r.Error)
					return
				}
				assert.Equal(t, time.Second, r.Latency(), "keepalive %v, the second after %v", keep, second)
				assert.Equal(t, record.Refused, r.Outcome)
				assert.Equal(t, "no connection within 1s", r.Error)
				assert.Equal(t, "api-1", r.Node)
				assert.EqualValues(t, 1, top.seen.Load())
			})
		}
	}
}

// turningAway is a topology whose server says of the first streams of a run that it has not begun on them, and answers the others.
type turningAway struct {
	*replicastest.Topology
	t      *testing.T
	goAway bool          // by a GOAWAY, and not by REFUSED_STREAM
	code   http2.ErrCode // of the GOAWAY
	first  atomic.Int64  // how many
	seen   atomic.Int64
}

func (s *turningAway) Dial(context.Context, string, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		if err := s.serve(far); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.t.Error(err)
		}
	}()
	return near, nil
}

func (s *turningAway) serve(conn net.Conn) error {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return err
	}
	f := http2.NewFramer(conn, conn)
	// A pipe holds nothing: what is read must not wait for what is written.
	write := make(chan func() error, 100)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer close(write)
	writing.Go(func() {
		for w := range write {
			if w() != nil {
				_ = conn.Close()
			}
		}
	})
	write <- func() error { return f.WriteSettings() }
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return err
		}
		h, ok := frame.(*http2.HeadersFrame)
		if !ok {
			continue
		}
		id := h.StreamID
		switch n := s.seen.Add(1); {
		case n > s.first.Load():
			var block answerBlock
			_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
			write <- func() error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true})
			}
		case s.goAway:
			write <- func() error { return f.WriteGoAway(max(id, 2)-2, s.code, nil) }
		default:
			write <- func() error { return f.WriteRSTStream(id, http2.ErrCodeRefusedStream) }
		}
	}
}

type answerBlock []byte

func (b *answerBlock) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

func TestHTTP2TurnedAway(t *testing.T) {
	type by struct {
		goAway bool
		code   http2.ErrCode
	}
	for _, c := range []struct {
		first int64
		want  map[record.Ending]int
		seen  int64
	}{
		{0, map[record.Ending]int{record.Answered: 10}, 10},
		{1, map[record.Ending]int{record.Answered: 10}, 11},
		{2, map[record.Ending]int{record.Refused: 1, record.Answered: 9}, 11},
		{5, map[record.Ending]int{record.Refused: 2, record.Answered: 8}, 13},
	} {
		for _, by := range []by{{false, 0}, {true, http2.ErrCodeNo}, {true, http2.ErrCodeEnhanceYourCalm}} {
			for _, keep := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					top := &turningAway{Topology: replicastest.New(t), t: t, goAway: by.goAway, code: by.code}
					top.Service("api", 1, answer(200, ""))
					top.first.Store(c.first)
					mem := newMemory()
					l := web2(10)
					l.KeepAlive = keep
					l.Requests[0].Method, l.Requests[0].Body = "POST", json.RawMessage(`{}`)
					g, err := New(l, Env{Cluster: top, Record: mem, Ready: top.Ready})
					require.NoError(t, err)
					g.alarm = plainAlarm
					require.NoError(t, g.Run(withTimeout(t, time.Second-1)))
					got := map[record.Ending]int{}
					for _, r := range mem.reqs {
						got[r.Outcome]++
						if r.Outcome == record.Refused {
							require.NotEmpty(t, r.Error)
						}
					}
					assert.Equal(t, c.want, got, "%d turned away, %+v, keepalive %v", c.first, by, keep)
					assert.Equal(t, c.seen, top.seen.Load())
				})
			}
		}
	}
}

// A connection that is found closed has taken nothing, be the request its first or not.
func TestHTTP2FoundClosed(t *testing.T) {
	for _, before := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			top := replicastest.New(t)
			top.Service("api", 1, answer(200, ""))
			set, err := replicas.New(top, "api", 0, top.Ready)
			require.NoError(t, err)
			wire := newHTTP2(set, web2(1))
			defer wire.close()
			conn, err := wire.client(top.Node("api-1").Info).conn(t.Context(), true)
			require.NoError(t, err)
			get := func() error {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api/", nil)
				require.NoError(t, err)
				resp, err := conn.RoundTrip(r)
				if err == nil {
					require.NoError(t, resp.Body.Close())
				}
				return err
			}
			for range before {
				require.NoError(t, get())
				require.NoError(t, conn.Reserve())
			}
			top.Node("api-1").Cut()
			synctest.Wait()
			err = get()
			require.Error(t, err)
			require.True(t, notBegun(err), err)
		})
	}
}
