package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/images"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
)

// imageOf is the image of a service, made once.
type imageOf struct {
	once     sync.Once
	id       string
	defaults images.Defaults // none of an executable's
	err      error
}

// image returns the id of the image of a service's programs, and its defaults. An executable that Gauntlet has built or found wins over build and
// image, so that one file never runs two different programs.
func (c *carrier) image(ctx context.Context, s *cluster.Service) (string, images.Defaults, error) {
	c.mu.Lock()
	i := c.images[s.Name]
	if i == nil {
		i = &imageOf{}
		c.images[s.Name] = i
	}
	c.mu.Unlock()
	i.once.Do(func() {
		switch {
		case s.Argv0 != "":
			i.id, i.err = c.store.With(c.options.Bin).Program(ctx, s.Argv0)
		case s.Source.Build != nil:
			c.progress.line("service %s: the image of %s", s.Name, s.Source.Build.Context)
			i.id, i.err = c.store.Build(ctx, *s.Source.Build)
		case s.Source.Image != "":
			c.progress.line("service %s: the image %s", s.Name, s.Source.Image)
			i.id, i.err = c.store.Have(ctx, s.Source.Image)
		default:
			i.err = errors.New("it has neither a program nor an image")
		}
		if i.err != nil || s.Argv0 != "" {
			return
		}
		i.defaults, i.err = c.store.Defaults(ctx, i.id)
		if i.err != nil || i.defaults.StopSignal == "" || s.StopSignal != "" {
			return
		}
		if _, err := supervise.ParseSignal(i.defaults.StopSignal); err != nil {
			i.err = fmt.Errorf("the STOPSIGNAL of its image: %w: write the number that it means as stop_signal in the Compose file", err)
		}
	})
	if i.err != nil {
		return "", images.Defaults{}, fmt.Errorf("service %s: %w", s.Name, i.err)
	}
	return i.id, i.defaults, nil
}

// stopSignal is the signal by which the image of a service is stopped; empty: it names none.
func (c *carrier) stopSignal(s *cluster.Service) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.images[s.Name].defaults.StopSignal // every service has its image before the first node
}
