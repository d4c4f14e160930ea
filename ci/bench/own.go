package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/topology"
)

// What thousand.yaml has the harness send, for its peer to send the same.
const (
	thousand      = "ci/bench/thousand.yaml"
	thousandTo    = "examples/gotest/compose.yaml"
	thousandRate  = 1000
	thousandLasts = 10 * time.Second
)

// ownShare is P12: what the harness itself (this process and the plane) takes of a core while it sends 1,000 requests a second, and beside it
// what vegeta takes to send the same from here, without a record, a metric or a verdict.
func ownShare(ctx context.Context, _ int) error {
	dir, err := os.MkdirTemp("", "gauntlet-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, err := filepath.Abs(thousand)
	if err != nil {
		return err
	}
	s, err := harness.Load(ctx, file)
	if err != nil {
		return err
	}
	before := usage()
	r, err := s.Run(ctx, harness.Options{Dir: filepath.Join(dir, "run")})
	if err != nil {
		return err
	}
	after := usage()
	var took time.Duration
	if n := len(r.Run.Events); n > 0 {
		took = r.Run.Events[n-1].T
	}
	if !slices.ContainsFunc(r.Run.Events, func(e record.Event) bool { return e.Kind == record.LoadSummary }) {
		return fmt.Errorf("the run sent nothing: %s", r.Verdict)
	}
	cpu := cpuOf(after) - cpuOf(before)
	theirs, err := vegetaAlone(ctx, filepath.Join(dir, "peer"))
	if err != nil {
		return fmt.Errorf("the peer: %w", err)
	}
	own, peer := cpu.Seconds()/took.Seconds(), theirs.Seconds()/thousandLasts.Seconds()
	fmt.Printf("P12 the harness's own CPU over a run at %d requests a second, of one core: %.1f %% (%v of %v, judging included; the plane's is not in it; peer: vegeta alone %.1f %%, ratio %.2f)\n",
		thousandRate, 100*own, cpu.Round(time.Millisecond), took.Round(time.Millisecond), 100*peer, own/peer)
	fmt.Printf("P12 the harness's peak memory: %.0f MB\n", float64(after.Maxrss)/1024)
	return nil
}

// vegetaAlone is the processor time of this process while vegeta sends what thousand.yaml has the harness send.
func vegetaAlone(ctx context.Context, dir string) (cpu time.Duration, err error) {
	spec, err := topology.Load(ctx, thousandTo, topology.Option{})
	if err != nil {
		return 0, err
	}
	if _, err := new(build.Builder).Build(ctx, spec, nil, filepath.Dir(thousandTo), func(string) {}); err != nil {
		return 0, err
	}
	c, err := harness.Drivers[0].New().Up(ctx, spec, cluster.Options{Dir: dir, Observe: func(cluster.Event) {}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, takeDown(ctx, c)) }()
	transport := &http.Transport{
		MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.Dial(ctx, cluster.Client, network, "api:8080")
		},
	}
	defer transport.CloseIdleConnections()
	attacker := vegeta.NewAttacker(vegeta.Client(&http.Client{Transport: transport, Timeout: time.Second}))
	target := vegeta.NewStaticTargeter(vegeta.Target{Method: http.MethodGet, URL: "http://api:8080/"})
	before := usage()
	n, bad := 0, 0
	for r := range attacker.Attack(target, vegeta.Rate{Freq: thousandRate, Per: time.Second}, thousandLasts, "") {
		n++
		if r.Code != http.StatusOK {
			bad++
		}
	}
	cpu = cpuOf(usage()) - cpuOf(before)
	// It ends a few requests before its time.
	if want := int(thousandRate * thousandLasts.Seconds()); n < want*99/100 || bad > 0 {
		return 0, fmt.Errorf("it sent %d requests of %d, %d of which were not answered well", n, want, bad)
	}
	return cpu, nil
}

func usage() (r syscall.Rusage) {
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return r
}

func cpuOf(r syscall.Rusage) time.Duration {
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
