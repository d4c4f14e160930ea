// Images builds the images that a topology names, so that it also comes up as a plain Compose file, without Gauntlet and
// without a registry: for each service with a program of x-gauntlet, an image of that program under the service's image name.
//
//	go run ./ci/images [FILE]
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	composecli "github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/moby/client"

	"github.com/hasvc/gauntlet/harness/build"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/images"
	"github.com/hasvc/gauntlet/harness/topology"
)

const reference = "scenarios/topologies/reference.yaml"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	file := reference
	if len(os.Args) > 1 {
		file = os.Args[1]
	}
	if err := run(ctx, file, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, file string, stdout, stderr io.Writer) error {
	spec, err := topology.Load(ctx, file, topology.Option{})
	if err != nil {
		return err
	}
	names, err := imageNames(ctx, file)
	if err != nil {
		return err
	}
	var builder build.Builder
	programs, err := builder.Build(ctx, spec, nil, ".", func(what string) { fmt.Fprintln(stderr, what) })
	if err != nil {
		return err
	}
	api, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer api.Close()
	store := images.New(api)
	done := map[string]bool{}
	for _, s := range spec.Services {
		name := names[s.Name]
		if s.Argv0 == "" || name == "" || done[name] {
			continue
		}
		done[name] = true
		id, err := store.With(probes(s, programs)).Program(ctx, s.Argv0)
		if err != nil {
			return err
		}
		if _, err := api.ImageTag(ctx, client.ImageTagOptions{Source: id, Target: name}); err != nil {
			return fmt.Errorf("naming an image %s: %w", name, err)
		}
		fmt.Fprintln(stdout, name, id)
	}
	return nil
}

// imageNames are those that the file gives the services, which a cluster.Spec forgets where x-gauntlet wins.
func imageNames(ctx context.Context, file string) (map[string]string, error) {
	options, err := composecli.NewProjectOptions([]string{file}, composecli.WithOsEnv, composecli.WithDotEnv)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	names := map[string]string{}
	for name, s := range project.Services {
		names[name] = s.Image
	}
	return names, nil
}

// probes is the program of the service's healthcheck, where it is one of the topology's: an image has no other.
func probes(s cluster.Service, programs map[string]string) map[string]string {
	if s.Health == nil || len(s.Health.Argv) == 0 {
		return nil
	}
	name := s.Health.Argv[0]
	if path, ok := programs[name]; ok {
		return map[string]string{name: path}
	}
	return nil
}
