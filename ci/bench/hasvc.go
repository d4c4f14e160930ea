package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/topology"
)

const (
	requests = "scenarios/topologies/requests.yaml"

	callers     = 16 // each with one request in hand at a time
	warmFor     = time.Second
	measuredFor = 4 * time.Second
)

// whole is the environment in which every mechanism of the reference service is at work, and none refuses anything.
var whole = map[string]string{
	"HASVC_LIMIT": "token", "HASVC_LIMIT_RATE": "1e6", "HASVC_LIMIT_BURST": "1000000",
	"HASVC_SHED": "on", "HASVC_SHED_LIMIT": "500", "HASVC_WORKERS": "1000",
	"HASVC_TRACES": "/tmp/spans.jsonl", "HASVC_BALANCER": "least_request", "HASVC_EDGE_BALANCER": "least_connections",
}

// without are its mechanisms, and what switches each off.
var without = []struct {
	mechanism string
	env       map[string]string
}{
	{"spans", map[string]string{"HASVC_TRACES": ""}},
	{"trace ids in calls", map[string]string{topology.DefectVariable: "trace-broken"}},
	{"logs", map[string]string{"HASVC_LOG_LEVEL": "error"}},
	{"metrics", map[string]string{topology.DefectVariable: "metrics-missing"}},
	{"breakers", map[string]string{topology.DefectVariable: "breaker-off"}},
	{"rate limits", map[string]string{"HASVC_LIMIT": "off"}},
	{"load shedding", map[string]string{"HASVC_SHED": "off"}},
	{"a bound on workers", map[string]string{"HASVC_WORKERS": "0"}},
	{"deadlines", map[string]string{topology.DefectVariable: "no-deadline"}},
	{"panic recovery", map[string]string{topology.DefectVariable: "no-recover"}},
	{"balancing by load", map[string]string{"HASVC_BALANCER": "round_robin", "HASVC_EDGE_BALANCER": "round_robin"}},
	{"idempotency keys", map[string]string{topology.DefectVariable: "no-idempotency"}},
	{"the wait for the store's commit", map[string]string{topology.DefectVariable: "ack-early"}},
	{"inventory", map[string]string{"HASVC_INVENTORY": "off"}},
}

// carried is what the reference service did in a while.
type carried struct {
	rate     float64       // orders per second
	p50, p99 time.Duration // of an order
	cpu      time.Duration // of all replicas of hasvc, per order
}

// ofHasvc measures orders through all hops of the reference service, and what each mechanism costs: all of them on, and each
// switched off, in every one of n turns. Processor time per order is the figure to go by: rates are the machine's too.
func ofHasvc(ctx context.Context, n int) error {
	all := make([][]carried, len(without)+1)
	if _, err := orders(ctx, whole); err != nil { // the first start finds cold caches
		return err
	}
	for turn := range n {
		for k := range all {
			i := (k + turn*len(all)/n) % len(all) // a machine that gets faster or slower must not always favour the same ones
			env := maps.Clone(whole)
			if i > 0 {
				maps.Copy(env, without[i-1].env)
			}
			c, err := orders(ctx, env)
			if err != nil {
				return fmt.Errorf("with %v: %w", env, err)
			}
			all[i] = append(all[i], c)
		}
	}
	on := middle(all[0])
	fmt.Printf("hasvc, orders through all hops, all mechanisms on, %d callers, median of %d: %.0f/s, p50 %.1f ms, p99 %.1f ms, %.2f ms of a processor each\n",
		callers, n, on.rate, ms(on.p50), ms(on.p99), ms(on.cpu))
	for i, m := range without {
		off := middle(all[i+1])
		fmt.Printf("hasvc without %s: %.2f ms of a processor each (all on: %.2f ms, so it costs %+.2f ms), %.0f/s (ratio %.2f), p99 %.1f ms\n",
			m.mechanism, ms(off.cpu), ms(on.cpu), ms(on.cpu-off.cpu), off.rate, off.rate/on.rate, ms(off.p99))
	}
	return nil
}

// middle is the median of each figure by itself.
func middle(all []carried) carried {
	of := func(f func(carried) time.Duration) time.Duration {
		var out []time.Duration
		for _, c := range all {
			out = append(out, f(c))
		}
		slices.Sort(out)
		return out[len(out)/2]
	}
	rates := make([]float64, len(all))
	for i, c := range all {
		rates[i] = c.rate
	}
	slices.Sort(rates)
	return carried{
		rate: rates[len(rates)/2],
		p50:  of(func(c carried) time.Duration { return c.p50 }),
		p99:  of(func(c carried) time.Duration { return c.p99 }),
		cpu:  of(func(c carried) time.Duration { return c.cpu }),
	}
}

// orders starts the topology with hasvc in this environment, has it take orders for a while, and takes it down.
func orders(ctx context.Context, env map[string]string) (out carried, err error) {
	spec, err := topology.Load(ctx, requests, topology.Option{})
	if err != nil {
		return out, err
	}
	for i := range spec.Services {
		if s := &spec.Services[i]; topology.RunsHasvc(*s) {
			maps.Copy(s.Env, env)
		}
	}
	if _, err := new(build.Builder).Build(ctx, spec, nil, filepath.Dir(requests), func(string) {}); err != nil {
		return out, err
	}
	dir, err := os.MkdirTemp("", "gauntlet-bench-")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	c, err := harness.Drivers[0].New().Up(ctx, spec, cluster.Options{Dir: dir, Volumes: filepath.Join(dir, "volumes"), Observe: func(cluster.Event) {}})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, takeDown(ctx, c)) }()
	transport := &http.Transport{
		MaxIdleConnsPerHost: callers,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.Dial(ctx, cluster.Client, network, "edge:8080")
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	var made atomic.Int64
	if _, err := order(ctx, client, &made, warmFor); err != nil {
		return out, err
	}
	before, err := hasvcCPU(ctx, c, spec)
	if err != nil {
		return out, err
	}
	begin := time.Now()
	took, err := order(ctx, client, &made, measuredFor)
	if err != nil {
		return out, err
	}
	lasted := time.Since(begin)
	after, err := hasvcCPU(ctx, c, spec)
	if err != nil {
		return out, err
	}
	slices.Sort(took)
	return carried{
		rate: float64(len(took)) / lasted.Seconds(), p50: took[len(took)/2], p99: took[len(took)*99/100],
		cpu: (after - before) / time.Duration(len(took)),
	}, nil
}

// order has callers make orders for a while, numbered on from made, and returns how long each took. One that is not taken is an error.
func order(ctx context.Context, client *http.Client, made *atomic.Int64, lasts time.Duration) ([]time.Duration, error) {
	each := make([][]time.Duration, callers)
	begin := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for i := range each {
		g.Go(func() error {
			for time.Since(begin) < lasts {
				n := made.Add(1)
				body := fmt.Sprintf(`{"sku":"sku-%d","quantity":1}`, n%50)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://edge:8080/orders", strings.NewReader(body))
				if err != nil {
					return err
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Idempotency-Key", fmt.Sprint("bench-", n))
				sent := time.Now()
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				var said bytes.Buffer
				_, err = io.Copy(&said, resp.Body)
				resp.Body.Close()
				if err != nil {
					return err
				}
				if resp.StatusCode != http.StatusCreated {
					return fmt.Errorf("order %d: %s: %s", n, resp.Status, said.String())
				}
				each[i] = append(each[i], time.Since(sent))
			}
			return nil
		})
	}
	err := g.Wait()
	return slices.Concat(each...), err
}

// hasvcCPU is the processor time that all replicas of the reference service took so far.
func hasvcCPU(ctx context.Context, c cluster.Cluster, spec *cluster.Spec) (sum time.Duration, err error) {
	uses, err := c.(cluster.Usager).Usage(ctx)
	if err != nil {
		return 0, err
	}
	for _, n := range c.Nodes() {
		i := slices.IndexFunc(spec.Services, func(s cluster.Service) bool { return s.Name == n.Service })
		if topology.RunsHasvc(spec.Services[i]) {
			sum += uses[n.Name].CPU
		}
	}
	return sum, nil
}
