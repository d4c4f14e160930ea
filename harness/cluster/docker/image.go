package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// imageOf is the image of a service, made once.
type imageOf struct {
	once sync.Once
	id   string
	err  error
}

// image returns the image of a service's programs. An executable that Gauntlet has built or found wins over build and
// image, so that one file never runs two different programs.
func (c *carrier) image(ctx context.Context, s *cluster.Service) (string, error) {
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
	})
	if i.err != nil {
		return "", fmt.Errorf("service %s: %w", s.Name, i.err)
	}
	return i.id, nil
}
