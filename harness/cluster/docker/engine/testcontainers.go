package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// silence makes testcontainers quiet: its default logger writes a page about the engine to standard error.
var silence = sync.OnceFunc(func() { log.SetDefault(log.NewNoopLogger()) })

// newProvider returns testcontainers' maker of containers, on our own client.
//
// Its mapping of hosts and ports is never used: where /.dockerenv exists it takes the default gateway for the engine.
func (e *Engine) newProvider() (*testcontainers.DockerProvider, error) {
	silence()
	settings() // before testcontainers reads them by itself, and starts Ryuk
	// It adds every container to a network of its own making, which nobody removes, unless the one that it takes for
	// the default exists. "none" exists on every docker, "podman" on every Podman.
	bridge := "none"
	if e.kind == KindPodman {
		bridge = "podman"
	}
	var p *testcontainers.DockerProvider
	err := e.place.during(func() (err error) {
		p, err = testcontainers.NewDockerProvider(testcontainers.WithLogger(log.NewNoopLogger()), testcontainers.WithDefaultBridgeNetwork(bridge))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start testcontainers: %w", Plain(err))
	}
	// The engine's address is found once in a process and kept, also after a failure; ours is the one that was asked for.
	if err := p.Close(); err != nil {
		return nil, fmt.Errorf("start testcontainers: %w", err)
	}
	p.SetClient(modest{e.api})
	return p, nil
}

// modest is a client that does not do what testcontainers does unasked.
type modest struct{ client.APIClient }

// ImageInspect takes away what the user's settings of testcontainers put before the names of images: a registry, which
// makes no sense before an id.
func (m modest) ImageInspect(ctx context.Context, ref string, opt ...client.ImageInspectOption) (client.ImageInspectResult, error) {
	if i := strings.LastIndex(ref, "/sha256:"); i >= 0 {
		ref = ref[i+1:]
	}
	return m.APIClient.ImageInspect(ctx, ref, opt...)
}

// ImagePull fails: an image that is not there must not be looked for on the network. Not found is the one error that
// testcontainers does not try again. Ryuk, for who asked for it, is testcontainers' own affair.
func (m modest) ImagePull(ctx context.Context, ref string, opt client.ImagePullOptions) (client.ImagePullResponse, error) {
	if strings.Contains(ref, "testcontainers/ryuk:") {
		return m.APIClient.ImagePull(ctx, ref, opt)
	}
	return nil, errdefs.ErrNotFound.WithMessage("No such image: " + ref)
}

// ContainerCreate publishes nothing of ours: testcontainers publishes every port that an image exposes.
func (m modest) ContainerCreate(ctx context.Context, opt client.ContainerCreateOptions) (client.ContainerCreateResult, error) {
	if _, ours := opt.Config.Labels[LabelOurs]; ours {
		opt.HostConfig.PortBindings = nil
	}
	return m.APIClient.ContainerCreate(ctx, opt)
}

// Close does nothing: testcontainers closes the client after each call, and every call would dial anew.
func (modest) Close() error { return nil }
