package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// onLoopback is a topology of one node, which is a server on this machine.
type onLoopback struct {
	replicas.Topology
	addr string
}

func (l onLoopback) Nodes() []cluster.NodeInfo {
	return []cluster.NodeInfo{{Name: "api", Service: "api"}}
}

func (l onLoopback) Spec() *cluster.Spec {
	return &cluster.Spec{Services: []cluster.Service{{Name: "api", Expose: []int{80}}}}
}

func (l onLoopback) Dial(ctx context.Context, _, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, l.addr)
}

// figures of one measurement.
type figures struct {
	good float64       // share of requests that were answered well within their second
	late time.Duration // p99 of sent minus due
}

// sustained says whether a generator kept up: nothing was lost, and nothing piled up.
func (f figures) sustained() bool { return f.good > 0.9999 && f.late < 50*time.Millisecond }

// ours sends at a rate for a while, every request recorded in a run directory.
func ours(b *testing.B, addr string, rate int, d time.Duration) figures {
	w, err := record.Create(b.TempDir()+"/run", record.Meta{}, &plan.Plan{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	l := web(float64(rate))
	l.Requests[0].Path = "/" // as the peer, which has no templates
	return measure(b, l, onLoopback{addr: addr}, w, d)
}

func measure(b *testing.B, l plan.Load, top replicas.Topology, w Recorder, d time.Duration) figures {
	g, err := New(l, Env{Cluster: top, Record: w, RunID: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), d)
	defer cancel()
	if err := g.Run(ctx); err != nil {
		b.Fatal(err)
	}
	share, _ := g.Success(plan.Duration(time.Hour))
	return figures{share, g.Stats().LagP99}
}

// calling is ours with unary gRPC calls.
func calling(b *testing.B, top replicas.Topology, rate int, d time.Duration) figures {
	w, err := record.Create(b.TempDir()+"/run", record.Meta{}, &plan.Plan{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	return measure(b, grpcLoad(float64(rate), plan.Request{Call: testService + "EmptyCall"}), top, w, d)
}

// BenchmarkCalls prints the same for gRPC: calls a second, beside our own HTTP requests a second.
func BenchmarkCalls(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }))
	defer srv.Close()
	top, _ := grpcNodes(b, &testServer{}, 1, true)
	for b.Loop() {
		best := [2]int{}
		for rate := 2000; rate < 100_000; rate += rate / 10 {
			for range 2 {
				if calling(b, top, rate, time.Second).sustained() {
					best[0] = rate
					break
				}
			}
			for range 2 {
				if ours(b, srv.Listener.Addr().String(), rate, time.Second).sustained() {
					best[1] = rate
					break
				}
			}
			if max(best[0], best[1]) < rate {
				break
			}
		}
		f := calling(b, top, best[0]/2, 5*time.Second)
		fmt.Printf("P8 gRPC load, every call recorded: %d calls/s (peer: our HTTP load %d requests/s, ratio %.2f)\n", best[0], best[1], float64(best[0])/float64(best[1]))
		fmt.Printf("P9 gRPC load, lateness p99 at %d calls/s: %.3f ms\n", best[0]/2, f.late.Seconds()*1e3)
	}
}

// theirs is vegeta's own command: its attacker, its pacer, every result encoded as the command does.
func theirs(b *testing.B, addr string, rate int, d time.Duration) figures {
	target := vegeta.NewStaticTargeter(vegeta.Target{Method: "GET", URL: "http://" + addr + "/"})
	attacker := vegeta.NewAttacker(vegeta.Timeout(time.Second))
	encode := vegeta.NewEncoder(io.Discard)
	begin := time.Now()
	good := 0
	var lags []time.Duration
	for r := range attacker.Attack(target, vegeta.ConstantPacer{Freq: rate, Per: time.Second}, d, "bench") {
		if err := encode(r); err != nil {
			b.Fatal(err)
		}
		if r.Error == "" {
			good++
		}
		lags = append(lags, r.Timestamp.Sub(begin.Add(time.Duration(r.Seq+1)*time.Second/time.Duration(rate))))
	}
	slices.Sort(lags)
	return figures{float64(good) / float64(len(lags)), lags[len(lags)*99/100]}
}

// BenchmarkFigures prints P8 and P9: requests a second that are sustained with every request recorded, and the
// generator's lateness at half of that, beside vegeta's own attacker in the same process.
func BenchmarkFigures(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	for b.Loop() {
		// The rate rises by a tenth until neither keeps up; each has two tries at a rate.
		best := [2]int{}
		for rate := 2000; rate < 100_000; rate += rate / 10 {
			for i, send := range []func(*testing.B, string, int, time.Duration) figures{ours, theirs} {
				for range 2 {
					f := send(b, addr, rate, time.Second)
					srv.CloseClientConnections() // vegeta keeps its own for ever, until there is no descriptor left
					if f.sustained() {
						best[i] = rate
						break
					}
				}
			}
			if max(best[0], best[1]) < rate {
				break
			}
		}
		fmt.Printf("P8 load, every request recorded: %d requests/s (peer: vegeta %d requests/s, ratio %.2f)\n", best[0], best[1], float64(best[0])/float64(best[1]))
		half := best[1] / 2
		mine, peer := ours(b, addr, half, 5*time.Second), theirs(b, addr, half, 5*time.Second)
		fmt.Printf("P9 load, lateness p99 at %d requests/s: %.3f ms (peer: vegeta %.3f ms, ratio %.2f)\n",
			half, mine.late.Seconds()*1e3, peer.late.Seconds()*1e3, mine.late.Seconds()/peer.late.Seconds())
	}
}
