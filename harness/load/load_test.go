package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hasvc/gauntlet/harness/cluster/replicas/replicastest"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// takesSession makes this executable, started again, a process that has its session preferred until its input ends.
const takesSession = "LOAD_TEST_TAKES_SESSION"

func TestMain(m *testing.M) {
	if os.Getenv(takesSession) != "" {
		release := keepPunctual(true)
		fmt.Println(os.Getpid())
		_, _ = io.Copy(io.Discard, os.Stdin)
		release()
		return
	}
	goleak.VerifyTestMain(m)
}

// memory is a Recorder that keeps everything.
type memory struct {
	start time.Time
	mu    sync.Mutex
	reqs  []record.Request
	evs   []record.Event
}

func newMemory() *memory { return &memory{start: time.Now()} }

func (m *memory) At(t time.Time) time.Duration { return t.Sub(m.start) }
func (m *memory) Request(_ string, r record.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reqs = append(m.reqs, r)
}
func (m *memory) Event(e record.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.evs = append(m.evs, e)
}

// run runs a load for d of (fake) time and returns what was recorded, by sequence number.
func run(t *testing.T, top *replicastest.Topology, l plan.Load, d time.Duration, during func(g *Generator)) ([]record.Request, record.GeneratorStats) {
	t.Helper()
	mem := newMemory()
	g, err := New(l, Env{Cluster: top, Record: mem, Round: 2, RunID: "run7", Ready: top.Ready})
	require.NoError(t, err)
	g.alarm = plainAlarm // a descriptor has no part in a test's clock
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var side sync.WaitGroup
	if during != nil {
		side.Go(func() { during(g) })
	}
	require.NoError(t, g.Run(ctx))
	side.Wait()
	require.Len(t, mem.evs, 1)
	var stats record.GeneratorStats
	require.Equal(t, record.LoadSummary, mem.evs[0].Kind)
	require.Equal(t, l.Name, mem.evs[0].ID)
	require.NoError(t, json.Unmarshal(mem.evs[0].Data, &stats))
	require.Equal(t, len(mem.reqs), stats.Requests)
	out := make([]record.Request, len(mem.reqs))
	for _, r := range mem.reqs {
		require.Zero(t, out[r.Seq].Due+out[r.Seq].Done, "request %d was recorded twice", r.Seq)
		require.Equal(t, 2, r.Round)
		require.GreaterOrEqual(t, r.Sent, r.Due)
		require.GreaterOrEqual(t, r.Done, r.Sent)
		out[r.Seq] = r
	}
	return out, stats
}

func constant(perSecond float64) []plan.Stage { return []plan.Stage{{From: perSecond, To: perSecond}} }

func web(perSecond float64) plan.Load {
	return plan.Load{
		Name: "web", To: "api", Stages: constant(perSecond), KeepAlive: true, Timeout: plan.Duration(time.Second),
		Requests: []plan.Request{{ID: "get", Path: "/{{.N}}"}},
	}
}

func answer(code int, text string) func(string) http.Handler {
	return func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		})
	}
}

// A server that stalls for a second must show in the latency of every request that was due in that second, not only of those it
// held: the load is open, and latency counts from the due time.
func TestNoCoordinatedOmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		start := time.Now()
		top.Service("api", 1, func(string) http.Handler {
			one := make(chan struct{}, 1) // as a server with one worker
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				one <- struct{}{}
				defer func() { <-one }()
				if since := time.Since(start); since >= time.Second && since < 2*time.Second {
					time.Sleep(2*time.Second - since)
				}
			})
		})
		l := web(100)
		l.Timeout = plan.Duration(3 * time.Second)
		reqs, stats := run(t, top, l, 3*time.Second-time.Millisecond, nil)
		require.Equal(t, 300, len(reqs))
		slow := 0
		for _, r := range reqs {
			require.True(t, r.OK, r.Error)
			want := time.Duration(0)
			if r.Due >= time.Second && r.Due < 2*time.Second {
				want = 2*time.Second - r.Due
			}
			require.Equal(t, want, r.Latency(), "request %d", r.Seq)
			if r.Latency() > 500*time.Millisecond {
				slow++
			}
		}
		assert.Equal(t, 50, slow)
		assert.Zero(t, stats.LagMax, "the clock of this test stands still while the generator works")
		assert.Zero(t, stats.Missed)
	})
}

func TestIdsAndTemplatesReachTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		var mu sync.Mutex
		got := map[string]string{}
		top.Service("api", 2, func(string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				got[r.Header.Get("Idempotency-Key")] = r.Method + " " + r.Host + " " + r.URL.String() + " " + string(b)
				assert.Empty(t, r.Header.Get("X-Vegeta-Seq"), "vegeta's own headers do not reach the service")
				w.WriteHeader(201)
				_, _ = io.WriteString(w, "made")
			})
		})
		l := web(50)
		l.Requests = []plan.Request{{ID: "make", Method: "POST", Path: "/o", Headers: map[string]string{"Idempotency-Key": "{{.ID}}"}, Body: json.RawMessage(`{"n":"{{.N}}"}`), Expect: plan.Expect{Status: []int{201}, Matches: "made"}}}
		reqs, _ := run(t, top, l, time.Second-1, nil)
		require.Equal(t, 50, len(reqs))
		require.Len(t, got, 50, "ids are unique")
		for n, r := range reqs {
			require.Equal(t, "make", r.Request)
			require.Equal(t, fmt.Sprintf("run7-web-2-%d", n), r.ID)
			require.Equal(t, fmt.Sprintf(`POST api:8080 /o {"n":"%d"}`, n), got[r.ID])
			require.EqualValues(t, len(fmt.Sprintf(`{"n":"%d"}`, n)), r.BytesOut)
			require.EqualValues(t, 4, r.BytesIn)
			require.Equal(t, 201, r.Code)
		}
	})
}

// Every hop knows a request by its id, so that what a client saw can be joined with what the servers logged.
func TestEveryRequestCarriesItsID(t *testing.T) {
	for name, own := range map[string]map[string]string{"none": nil, "its own": {"x-request-id": "mine-{{.N}}"}, "a fixed one": {"X-Request-ID": "mine"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				top := replicastest.New(t)
				var mu sync.Mutex
				got := map[string]string{}
				top.Service("api", 1, func(string) http.Handler {
					return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						mu.Lock()
						defer mu.Unlock()
						got[r.URL.Path] = strings.Join(r.Header.Values("X-Request-ID"), " and ")
					})
				})
				l := web(10)
				l.Requests[0].Headers = own
				reqs, _ := run(t, top, l, time.Second-1, nil)
				require.Len(t, got, 10)
				for n, r := range reqs {
					want := map[string]string{"none": r.ID, "its own": fmt.Sprintf("mine-%d", n), "a fixed one": "mine"}[name]
					require.Equal(t, want, got[fmt.Sprintf("/%d", n)])
				}
			})
		})
	}
}

// How a request ended is what a ledger of requests rests on: refused says that the service cannot have begun on it.
func TestEndings(t *testing.T) {
	for name, c := range map[string]struct {
		handle     func(top *replicastest.Topology, w http.ResponseWriter, r *http.Request)
		want       record.Ending
		retryAfter bool
	}{
		"good": {func(_ *replicastest.Topology, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }, record.Answered, false},
		"shed": {func(_ *replicastest.Topology, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
		}, record.Answered, true},
		"cut before the answer": {func(top *replicastest.Topology, _ http.ResponseWriter, _ *http.Request) { top.Node("api-1").Cut() }, record.Reset, false},
		"cut within the answer": {func(top *replicastest.Topology, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			top.Node("api-1").Cut()
		}, record.Reset, false},
		"no answer": {func(_ *replicastest.Topology, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, record.Deadline, false},
		"half an answer": {func(_ *replicastest.Topology, w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, record.Deadline, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				top := replicastest.New(t)
				top.Service("api", 1, func(string) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.handle(top, w, r) })
				})
				reqs, _ := run(t, top, web(2), time.Second-1, nil)
				require.Len(t, reqs, 2)
				for _, r := range reqs {
					require.Equal(t, c.want, r.Outcome, r.Error)
					require.Equal(t, c.retryAfter, r.RetryAfter)
					require.Equal(t, c.want == record.Answered, r.Code != 0)
				}
			})
		})
	}
}

func TestSwitchingProtocolsIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, func(string) http.Handler { return replicastest.Switching(t) })
		reqs, _ := run(t, top, web(2), time.Second-1, nil)
		require.Len(t, reqs, 2)
		for _, r := range reqs {
			require.Equal(t, http.StatusSwitchingProtocols, r.Code)
			require.Equal(t, record.Answered, r.Outcome)
			require.Equal(t, "status 101", r.Error)
			require.Zero(t, r.Latency())
		}
	})
}

func TestUnexpectedAnswersCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, answer(302, "away"))
		l := web(10)
		reqs, _ := run(t, top, l, time.Second-1, func(g *Generator) {
			time.Sleep(900*time.Millisecond + 1)
			synctest.Wait()
			share, n := g.Success(plan.Duration(time.Hour))
			assert.Zero(t, share)
			assert.Equal(t, 10, n)
		})
		require.Equal(t, 10, len(reqs))
		for _, r := range reqs {
			require.False(t, r.OK)
			require.Equal(t, "status 302", r.Error, "a redirect is an answer, and is not followed")
			require.Equal(t, 302, r.Code)
		}
	})
}

// A redirect is an answer, wherever it leads and whether that can be read or not.
func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, code := range []int{302, 308} {
			for _, to := range []string{"/elsewhere", "http://elsewhere/", "/%zz", ""} {
				synctest.Test(t, func(t *testing.T) {
					top := replicastest.New(t)
					var served atomic.Int64
					top.Service("api", 1, func(string) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
							served.Add(1)
							w.Header().Set("Location", to)
							w.WriteHeader(code)
							_, _ = io.WriteString(w, "away")
						})
					})
					l := web(2)
					l.HTTP2 = http2
					l.Requests[0].Expect = plan.Expect{Status: []int{code}, Matches: "^away$"}
					reqs, _ := run(t, top, l, time.Second-1, nil)
					require.Len(t, reqs, 2)
					for _, r := range reqs {
						require.True(t, r.OK, "%d to %q: %s", code, to, r.Error)
						require.Equal(t, code, r.Code)
						require.Equal(t, record.Answered, r.Outcome)
					}
					require.EqualValues(t, 2, served.Load())
				})
			}
		}
	}
}

func TestConnectionsAreKeptOrNot(t *testing.T) {
	for _, keep := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			top := replicastest.New(t)
			top.Service("api", 3, answer(200, "ok"))
			l := web(100)
			l.KeepAlive = keep
			reqs, _ := run(t, top, l, 2*time.Second-1, nil)
			require.Equal(t, 200, len(reqs))
			synctest.Wait() // until the servers have seen their connections end
			dials, used := 0, map[string]int{}
			for _, n := range top.Nodes() {
				dials += top.Node(n.Name).Dials()
				assert.Zero(t, top.Node(n.Name).Open(), "no connection outlives the load")
			}
			for _, r := range reqs {
				require.True(t, r.OK, r.Error)
				used[r.Node]++
			}
			want := 200
			if keep {
				want = lanes
			}
			assert.Equal(t, want, dials)
			for _, n := range top.Nodes() {
				assert.InDelta(t, 67, used[n.Name], 20, "the replicas share the load")
			}
		})
	}
}

// A client closes a connection itself that it has had no use for, and one that it uses again in time it keeps.
func TestIdleConnectionsAreKeptFor(t *testing.T) {
	const every = time.Second // of each client, at one request a second from each
	for _, c := range []struct {
		idle  time.Duration
		dials int
	}{{0, lanes}, {every + time.Millisecond, lanes}, {every - time.Millisecond, 5 * lanes}} {
		synctest.Test(t, func(t *testing.T) {
			top := replicastest.New(t)
			top.Service("api", 1, answer(200, "ok"))
			l := web(lanes)
			l.Idle = plan.Duration(c.idle)
			reqs, _ := run(t, top, l, 5*every-1, nil)
			require.Equal(t, 5*lanes, len(reqs))
			for _, r := range reqs {
				require.True(t, r.OK, r.Error)
			}
			synctest.Wait()
			n := top.Node(top.Nodes()[0].Name)
			assert.Equal(t, c.dials, n.Dials(), "idle for %v", c.idle)
			assert.Zero(t, n.Open())
		})
	}
}

func TestNewConnectionsGoToReadyReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 2, answer(200, "ok"))
		l := web(100)
		l.KeepAlive = false
		reqs, _ := run(t, top, l, 3*time.Second-1, func(*Generator) {
			time.Sleep(time.Second - 1)
			top.Node("api-1").SetReady(false)
			time.Sleep(time.Second)
			top.Node("api-2").SetReady(false)
		})
		nodes := make([]map[string]int, 3)
		for i := range nodes {
			nodes[i] = map[string]int{}
		}
		for _, r := range reqs {
			require.True(t, r.OK, r.Error)
			nodes[r.Due/time.Second][r.Node]++
		}
		assert.Equal(t, map[string]int{"api-1": 50, "api-2": 50}, nodes[0])
		assert.Equal(t, map[string]int{"api-2": 100}, nodes[1])
		assert.Equal(t, map[string]int{"api-1": 50, "api-2": 50}, nodes[2], "with none ready, any")
	})
}

func TestRefusedDroppedAndSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		hold := make(chan struct{})
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-hold:
				case <-r.Context().Done():
				}
			})
		})
		defer close(hold)
		node := top.Node("api-1")
		node.Set(replicastest.Refusing)
		l := web(10)
		l.KeepAlive = false
		reqs, _ := run(t, top, l, 3*time.Second-1, func(*Generator) {
			time.Sleep(time.Second - 1)
			node.Set(replicastest.Dropping)
			time.Sleep(time.Second)
			node.Set(replicastest.Serving)
		})
		require.Equal(t, 30, len(reqs))
		for _, r := range reqs {
			require.False(t, r.OK)
			require.Zero(t, r.Code)
			want := record.Refused
			if r.Due >= 2*time.Second {
				want = record.Deadline
			}
			require.Equal(t, want, r.Outcome)
			switch r.Due / time.Second {
			case 0:
				require.Equal(t, "connecting to api-1: dial tcp: connection refused", r.Error)
				require.Equal(t, "api-1", r.Node)
				require.Zero(t, r.Latency())
			case 1:
				require.Equal(t, "no connection within 1s", r.Error)
				require.Equal(t, time.Second, r.Latency())
			case 2:
				require.Equal(t, "no answer within 1s", r.Error)
				require.Equal(t, time.Second, r.Latency())
			}
		}
	})
}

// http.Transport sends a GET again when the kept connection breaks under it. A load must not: the answer was lost, and
// that is what is to be seen.
func TestABrokenConnectionIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		var served atomic.Int64
		breaking := func(string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if served.Add(1); r.URL.Path == "/20" {
					top.Node("api-1").Cut()
				}
			})
		}
		top.Service("api", 1, breaking)
		l := web(10)
		l.Requests[0].Headers = map[string]string{"Idempotency-Key": "{{.ID}}"}
		reqs, _ := run(t, top, l, 4*time.Second-1, nil)
		require.Equal(t, 40, len(reqs))
		assert.EqualValues(t, 40, served.Load(), "each request was sent once")
		for n, r := range reqs {
			if n == 20 {
				require.False(t, r.OK)
				require.ErrorContains(t, fmt.Errorf("%s", r.Error), "connection lost before the answer")
				require.Equal(t, record.Reset, r.Outcome)
				continue
			}
			require.Equal(t, record.Answered, r.Outcome)
			require.True(t, r.OK, "request %d, after its idle connection was closed, goes on another: %s", n, r.Error)
		}
	})
}

func TestStopDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(700 * time.Millisecond) })
		})
		reqs, stats := run(t, top, web(100), time.Second-1, nil)
		require.Equal(t, 100, len(reqs))
		for _, r := range reqs {
			require.True(t, r.OK, "an answer on its way is waited for: %s", r.Error)
		}
		assert.Zero(t, stats.Missed)
	})
}

func TestASlowLoadStopsAtOnce(t *testing.T) {
	for _, stages := range [][]plan.Stage{constant(0.01), {{For: plan.Duration(time.Hour)}, {From: 1, To: 1}}, {{}}} {
		synctest.Test(t, func(t *testing.T) {
			top := replicastest.New(t)
			top.Service("api", 1, answer(200, ""))
			l := web(1)
			l.Stages = stages
			begin := time.Now()
			run(t, top, l, 1500*time.Millisecond, nil)
			assert.Equal(t, 1500*time.Millisecond, time.Since(begin))
		})
	}
}

func TestPhaseIsThatOfTheDueTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, func(string) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(250 * time.Millisecond) })
		})
		mem := newMemory()
		phase := func() string { return fmt.Sprint(int(time.Since(mem.start) / time.Second)) }
		g, err := New(web(10), Env{Cluster: top, Record: mem, Phase: phase})
		require.NoError(t, err)
		g.alarm = plainAlarm
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second-1)
		defer cancel()
		require.NoError(t, g.Run(ctx))
		require.Equal(t, 30, len(mem.reqs))
		for _, r := range mem.reqs {
			require.Equal(t, fmt.Sprint(int(r.Due/time.Second)), r.Phase, "request %d", r.Seq)
		}
	})
}

func TestSuccessLooksBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, answer(200, ""))
		l := web(100)
		l.KeepAlive = false
		run(t, top, l, 3*time.Second-1, func(g *Generator) {
			_, n := g.Success(plan.Duration(time.Second))
			assert.Zero(t, n, "nothing has ended yet")
			time.Sleep(time.Second - 1)
			top.Node("api-1").Set(replicastest.Refusing)
			time.Sleep(time.Second)
			synctest.Wait()
			share, n := g.Success(plan.Duration(2 * time.Second))
			assert.InDelta(t, 0.5, share, 0.03)
			assert.InDelta(t, 200, n, 6)
			share, n = g.Success(plan.Duration(500 * time.Millisecond))
			assert.Zero(t, share)
			assert.InDelta(t, 50, n, 6)
		})
	})
}

// In a black hole a request ends long after it was due: of those of the last second none has.
func TestEndedLooksBackToWhatFailsByItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := replicastest.New(t)
		top.Service("api", 1, answer(200, ""))
		l := web(100)
		l.KeepAlive = false
		l.Timeout = plan.Duration(2 * time.Second)
		run(t, top, l, 5*time.Second-1, func(g *Generator) {
			time.Sleep(time.Second - 1)
			share, n := g.Ended(plan.Duration(time.Second))
			assert.InDelta(t, 1, share, 0)
			assert.InDelta(t, 100, n, 6)
			top.Node("api-1").Set(replicastest.Dropping)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			_, n = g.Success(plan.Duration(time.Second))
			assert.Zero(t, n)
			share, n = g.Ended(plan.Duration(time.Second))
			assert.Zero(t, share)
			assert.InDelta(t, 100, n, 6)
		})
	})
}

func TestBadLoads(t *testing.T) {
	top := replicastest.New(t)
	top.Service("api", 1, answer(200, ""))
	bad := func(change func(*plan.Load), want ...string) {
		t.Helper()
		l := web(1)
		change(&l)
		_, err := New(l, Env{Cluster: top, Record: newMemory()})
		for _, w := range append(want, "load web") {
			require.ErrorContains(t, err, w)
		}
	}
	bad(func(l *plan.Load) { l.To = "apy" }, `called "apy"`)
	bad(func(l *plan.Load) { l.Requests = nil }, "neither requests nor targets")
	bad(func(l *plan.Load) { l.Targets = "x" }, "both")
	bad(func(l *plan.Load) { l.Stages, l.Timeout, l.To = nil, -1, "nope" }, "rate or stages", "timeout", "nope")
}

// An alarm never rings for good before its time, and ends at once when it is told to.
func TestAlarms(t *testing.T) {
	for name, make := range map[string]func() *alarm{"plain": plainAlarm, "sharp": sharpAlarm} {
		t.Run(name, func(t *testing.T) {
			a := make()
			defer a.close()
			p := newPacer(t.Context(), &Schedule{hold: 2000}, a, func() string { return "" })
			for n := range uint64(100) {
				_, stop := p.Pace(0, n)
				require.False(t, stop)
				due, _ := p.sched.Due(n)
				require.GreaterOrEqual(t, time.Since(p.start), due)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			a.wait(ctx, time.Hour, nil)
		})
	}
}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
