package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/topology"
)

const reference = "scenarios/topologies/reference.yaml"

// times are those of a topology that went up and down.
type times struct{ up, down time.Duration }

// upDown is P1 and P2: the reference topology to all ready, and down with the audit, on each driver, beside Compose.
func upDown(ctx context.Context, n int) error {
	spec, err := topology.Load(ctx, reference, topology.Option{})
	if err != nil {
		return err
	}
	if _, err := new(build.Builder).Build(ctx, spec, nil, filepath.Dir(reference), func(string) {}); err != nil {
		return err
	}
	nodes := len(cluster.Planned(spec))
	name, peer, err := compose(ctx, n, nodes)
	if err != nil {
		fmt.Printf("P1, P2 peer: skipped: %v\n", err)
	}
	for _, d := range harness.Drivers {
		driver := d.New()
		if err := driver.Capabilities().Missing(cluster.PacketRules); err != nil {
			fmt.Printf("P1, P2 %s: skipped: %v\n", d.Name, err)
			continue
		}
		var all []times
		for i := range n + 1 {
			took, err := once(ctx, driver, spec)
			if err != nil {
				return fmt.Errorf("%s: %w", d.Name, err)
			}
			if i > 0 { // the first start makes what later ones find: images
				all = append(all, took)
			}
		}
		up, down := medians(all)
		beside := func(own, other time.Duration) string {
			if other == 0 {
				return ""
			}
			return fmt.Sprintf(" (%s: %.0f ms, ratio %.2f)", name, ms(other), float64(own)/float64(other))
		}
		peerUp, peerDown := medians(peer)
		fmt.Printf("P1 %s, reference topology of %d nodes to all ready, median of %d: %.0f ms%s\n", d.Name, nodes, n, ms(up), beside(up, peerUp))
		fmt.Printf("P2 %s, the same taken down, audit included, median of %d: %.0f ms%s\n", d.Name, n, ms(down), beside(down, peerDown))
	}
	return nil
}

// once starts a topology and takes it down.
func once(ctx context.Context, d cluster.Driver, spec *cluster.Spec) (took times, err error) {
	dir, err := os.MkdirTemp("", "gauntlet-bench-")
	if err != nil {
		return took, err
	}
	defer os.RemoveAll(dir)
	volumes := filepath.Join(dir, "volumes")
	if k, ok := d.(cluster.VolumeKeeper); ok {
		defer func() { err = errors.Join(err, k.RemoveVolumes(context.WithoutCancel(ctx), volumes)) }()
	}
	begin := time.Now()
	c, err := d.Up(ctx, spec, cluster.Options{Dir: dir, Volumes: volumes, Observe: func(cluster.Event) {}})
	if err != nil {
		return took, err
	}
	took.up = time.Since(begin)
	begin = time.Now()
	if err := takeDown(ctx, c); err != nil {
		return took, err
	}
	took.down = time.Since(begin)
	return took, nil
}

// takeDown takes a topology down; that something is left is an error too.
func takeDown(ctx context.Context, c cluster.Cluster) error {
	left, err := c.Down(context.WithoutCancel(ctx))
	if len(left) > 0 {
		err = errors.Join(err, &cluster.LeftError{Left: left})
	}
	return err
}

// compose is the peer of P1 and P2: the same file, its images made beforehand, up until every container is healthy, and
// down with its volumes. Its error says why it cannot be measured.
func compose(ctx context.Context, n, nodes int) (name string, all []times, err error) {
	argv := []string{"docker", "compose"}
	if exec.CommandContext(ctx, "docker", "compose", "version").Run() != nil {
		argv = []string{"docker-compose"} // Compose 1
		if _, err := exec.LookPath(argv[0]); err != nil {
			return "", nil, errors.New("neither docker compose nor docker-compose is installed")
		}
	}
	name = strings.Join(argv, " ")
	api, err := client.New(client.FromEnv)
	if err != nil {
		return name, nil, err
	}
	defer api.Close()
	if _, err := api.Ping(ctx, client.PingOptions{}); err != nil {
		return name, nil, fmt.Errorf("no engine answers: %w", err)
	}
	if err := command(ctx, "go", "run", "./ci/images"); err != nil {
		return name, nil, err
	}
	project := fmt.Sprint("gauntlet-bench-", os.Getpid())
	argv = append(argv, "-p", project, "-f", reference)
	down := append(slices.Clip(argv), "down", "--volumes")
	for range n {
		begin := time.Now()
		err := command(ctx, append(slices.Clip(argv), "up", "-d", "--no-build")...)
		if err == nil {
			// What --wait does, which Compose 1 has not.
			err = awaitHealthy(ctx, api, project, nodes)
		}
		up := time.Since(begin)
		begin = time.Now()
		err = errors.Join(err, command(context.WithoutCancel(ctx), down...))
		if err != nil {
			return name, nil, err
		}
		all = append(all, times{up, time.Since(begin)})
	}
	return name, all, nil
}

// awaitHealthy waits until a project has so many containers and all are healthy.
func awaitHealthy(ctx context.Context, api client.APIClient, project string, nodes int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	of := client.Filters{}.Add("label", "com.docker.compose.project="+project)
	try := time.NewTicker(20 * time.Millisecond)
	defer try.Stop()
	for {
		found, err := api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: of})
		if err != nil {
			return fmt.Errorf("list the containers of %s: %w", project, err)
		}
		healthy := 0
		for _, c := range found.Items {
			if strings.Contains(c.Status, "(healthy)") {
				healthy++
			}
		}
		if healthy == nodes {
			return nil
		}
		select {
		case <-try.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d containers are healthy: %w", healthy, nodes, ctx.Err())
		}
	}
}

// command runs a program to its end; its error has what it said.
func command(ctx context.Context, argv ...string) error {
	var said bytes.Buffer
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, said.String())
	}
	return nil
}

// medians are those of both times; zero of none.
func medians(all []times) (up, down time.Duration) {
	if len(all) == 0 {
		return 0, 0
	}
	var ups, downs []time.Duration
	for _, t := range all {
		ups, downs = append(ups, t.up), append(downs, t.down)
	}
	slices.Sort(ups)
	slices.Sort(downs)
	return ups[len(ups)/2], downs[len(downs)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
