package images

import (
	"context"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Have returns the id of an image that the engine has under this name, or can pull without logging in.
func (s *Store) Have(ctx context.Context, ref string) (string, error) {
	got, err := s.api.ImageInspect(ctx, ref)
	if err == nil {
		return got.ID, nil
	}
	if !cerrdefs.IsNotFound(err) {
		return "", fmt.Errorf("looking for the image %s: %w", ref, err)
	}
	if err := s.pull(ctx, ref); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("pulling the image %s: %w", ref, context.Cause(ctx))
		}
		return "", fmt.Errorf("the engine does not have the image %s and cannot pull it: %w\n"+
			"Have it there beforehand (docker pull, docker build -t, docker load), or give the service a program by x-gauntlet: {go: PACKAGE} or {exec: PROGRAM}, which needs no image", ref, err)
	}
	if got, err = s.api.ImageInspect(ctx, ref); err != nil {
		return "", fmt.Errorf("the image %s, after it was pulled: %w", ref, err)
	}
	return got.ID, nil
}

func (s *Store) pull(ctx context.Context, ref string) error {
	res, err := s.api.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	return res.Wait(ctx)
}
