package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/docker/images"
)

// planeTool is the environment variable that makes the plane's test binary one of its tools: see bench_test.go there.
const planeTool = "GAUNTLET_PLANE_TOOL"

// program is a tool with its arguments.
type program struct {
	argv []string
	env  map[string]string
}

// benchTool is one of tools.
func benchTool(args ...string) program {
	return program{argv: append([]string{"gauntlet-bench"}, args...)}
}

// planeToolOf is one of the plane's benchmarks, in its own words.
func planeToolOf(words string) program {
	return program{argv: []string{"plane-tool"}, env: map[string]string{planeTool: words}}
}

// pair is two places that reach each other. What is measured runs there: from the harness it would be the client's
// session that is measured.
type pair struct {
	far string // how the near one calls the far one
	// start starts a program at one of them; wait returns when it ended.
	start func(ctx context.Context, near bool, p program, out io.Writer) (wait func() error, err error)
}

// inDocker is P3, P4 and P5 between two nodes on Docker, beside two containers on a bridge of their own.
func inDocker(ctx context.Context, _ int) error {
	if err := docker.New().Capabilities().Missing(cluster.PacketRules); err != nil {
		fmt.Printf("P3, P4, P5 docker: skipped: %v\n", err)
		return nil
	}
	dir, err := os.MkdirTemp("", "gauntlet-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tool := filepath.Join(dir, "plane-tool")
	if err := command(ctx, "go", "test", "-c", "-o", tool, "./harness/cluster/plane"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bin := map[string]string{"plane-tool": tool, "gauntlet-bench": self}
	var bare measured
	if err := onBridge(ctx, tool, bin, func(p pair) (err error) {
		bare, err = p.measure(ctx)
		return err
	}); err != nil {
		return fmt.Errorf("two containers on a bridge: %w", err)
	}
	return onStar(ctx, dir, tool, bin, func(c cluster.Cluster, p pair) error {
		star, err := p.measure(ctx)
		if err != nil {
			return err
		}
		for i, streams := range floods {
			fmt.Printf("P3 docker, idle link, streams: %d: %.2f GB/s (bridge without the star: %.2f GB/s, ratio %.2f)\n",
				streams, star.rates[i], bare.rates[i], star.rates[i]/bare.rates[i])
		}
		fmt.Printf("P4 docker, idle link, 256-byte round trip: p50 %.1f µs, p99 %.1f µs (bridge without the star: %.1f µs, %.1f µs, ratio %.2f at p50, %.2f at p99)\n",
			star.p50, star.p99, bare.p50, bare.p99, star.p50/bare.p50, star.p99/bare.p99)
		return p.delays(ctx, c)
	})
}

// onStar hands two nodes of a topology to f.
func onStar(ctx context.Context, dir, tool string, bin map[string]string, f func(cluster.Cluster, pair) error) (err error) {
	var services []cluster.Service
	for _, name := range []string{"near", "far"} {
		services = append(services, cluster.Service{Name: name, Replicas: 1, Argv0: tool, Env: idle.env, StopGrace: time.Second})
	}
	c, err := docker.New().Up(ctx, &cluster.Spec{Name: "bench", Services: services}, cluster.Options{
		Dir: dir, Volumes: filepath.Join(dir, "volumes"), Bin: bin, Observe: func(cluster.Event) {},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, takeDown(ctx, c)) }()
	return f(c, pair{far: "far", start: func(ctx context.Context, near bool, p program, out io.Writer) (func() error, error) {
		node := "far"
		if near {
			node = "near"
		}
		x, err := c.Exec(ctx, node, cluster.Process{Argv: p.argv, Env: p.env, Stdout: out, Stderr: os.Stderr})
		if err != nil {
			return nil, err
		}
		return func() error {
			exit, err := x.Wait()
			if err == nil && exit.Code != 0 {
				err = fmt.Errorf("%s in node %s: exit status %d", strings.Join(p.argv, " "), node, exit.Code)
			}
			return err
		}, nil
	}})
}

// onBridge hands two containers on a bridge to f.
func onBridge(ctx context.Context, tool string, bin map[string]string, f func(pair) error) (err error) {
	e, err := engine.Connect(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	run := e.NewRun("bench")
	defer func() {
		_, removeErr := run.Remove(context.WithoutCancel(ctx))
		err = errors.Join(err, removeErr)
	}()
	network, err := run.Network(ctx)
	if err != nil {
		return err
	}
	image, err := images.New(e.API()).With(bin).Program(ctx, tool)
	if err != nil {
		return err
	}
	var containers []*engine.Container
	var far string
	for i, name := range []string{"near", "far"} {
		addr, err := network.NodeAddr(i)
		if err != nil {
			return err
		}
		c, err := run.Create(ctx, engine.Spec{Name: name, Role: "bench", Image: image, Env: idle.env, Network: &network, Addr: addr})
		if err != nil {
			return err
		}
		if err := c.Start(ctx); err != nil {
			return err
		}
		containers, far = append(containers, c), addr.String()
	}
	return f(pair{far: far, start: func(ctx context.Context, near bool, p program, out io.Writer) (func() error, error) {
		c := containers[1]
		if near {
			c = containers[0]
		}
		x, err := c.Exec(ctx, engine.ExecSpec{Argv: p.argv, Env: p.env, Stdout: out, Stderr: os.Stderr})
		if err != nil {
			return nil, err
		}
		return func() error {
			code, err := x.Wait()
			if err == nil && code != 0 {
				err = fmt.Errorf("%s in container %s: exit status %d", strings.Join(p.argv, " "), c.Name(), code)
			}
			return err
		}, nil
	}})
}

// idle is what the places run while others are run beside it.
var idle = planeToolOf("echo 127.0.0.1:9999")

// floods are the numbers of streams of P3.
var floods = []int{1, 64}

// measured are the figures of a pair.
type measured struct {
	rates    []float64 // of floods, GB/s
	p50, p99 float64   // of round trips, microseconds
}

func (p pair) measure(ctx context.Context) (m measured, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the servers
	if _, _, err := p.serve(ctx, benchTool("sink", "0.0.0.0:9001")); err != nil {
		return m, err
	}
	if _, _, err := p.serve(ctx, planeToolOf("echo 0.0.0.0:9000")); err != nil {
		return m, err
	}
	for _, streams := range floods {
		got, err := p.numbers(ctx, 1, benchTool("flood", p.far+":9001", strconv.Itoa(streams)))
		if err != nil {
			return m, err
		}
		m.rates = append(m.rates, got[0]/1e9)
	}
	got, err := p.numbers(ctx, 2, planeToolOf("ping "+p.far+":9000 20000"))
	if err != nil {
		return m, err
	}
	m.p50, m.p99 = got[0]/1e3, got[1]/1e3
	return m, nil
}

// delays is P5: the delay given for the delay asked, on a link with traffic.
func (p pair) delays(ctx context.Context, c cluster.Cluster) error {
	const rate, seconds = 10_000, 2
	for _, asked := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond} {
		id, err := c.Apply(ctx, []cluster.Link{{From: "near", To: "far"}}, cluster.Rule{Delay: &cluster.Delay{Time: asked}})
		if err != nil {
			return err
		}
		out, wait, err := p.serve(ctx, planeToolOf(fmt.Sprintf("receive 0.0.0.0:7000 %d", rate*seconds)))
		if err != nil {
			return err
		}
		if _, err := p.numbers(ctx, 0, planeToolOf(fmt.Sprintf("send far:7000 %d %d", rate*seconds, rate))); err != nil {
			return err
		}
		line, err := out.ReadString('\n')
		if err != nil {
			return err
		}
		got, err := parseNumbers(line, 3)
		if err != nil {
			return err
		}
		if err := wait(); err != nil { // the next one takes its port
			return err
		}
		fmt.Printf("P5 docker, delay %v at %d packets/s: p50 %+.3f ms, p99 %+.3f ms, lost %.0f\n",
			asked, rate, got[1]/1e6-ms(asked), got[2]/1e6-ms(asked), rate*seconds-got[0])
		if err := c.Remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a program at the far place and returns when it says that it is ready.
func (p pair) serve(ctx context.Context, server program) (out *bufio.Reader, wait func() error, err error) {
	r, w := io.Pipe()
	wait, err = p.start(ctx, false, server, w)
	if err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() {
		err := wait()
		w.Close()
		ended <- err
	}()
	out = bufio.NewReader(r)
	if line, err := out.ReadString('\n'); err != nil || line != "ready\n" {
		return nil, nil, fmt.Errorf("%v said %q and not that it is ready", server.argv, line)
	}
	return out, func() error { return <-ended }, nil
}

// numbers runs a program at the near place to its end and returns the count numbers that it printed.
func (p pair) numbers(ctx context.Context, count int, client program) ([]float64, error) {
	var out strings.Builder
	wait, err := p.start(ctx, true, client, &out)
	if err != nil {
		return nil, err
	}
	if err := wait(); err != nil {
		return nil, err
	}
	return parseNumbers(out.String(), count)
}

func parseNumbers(line string, count int) (all []float64, err error) {
	words := strings.Fields(line)
	if len(words) != count {
		return nil, fmt.Errorf("it printed %q and not %d numbers", line, count)
	}
	for _, w := range words {
		n, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}
