package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// BuildError is a Dockerfile that could not be built.
type BuildError struct {
	Context string
	Output  string // the builder's, its end
	Err     error
}

func (e *BuildError) Error() string {
	s := fmt.Sprintf("building the image of %s: %v", e.Context, e.Err)
	if e.Output != "" {
		s += "\n" + e.Output
	}
	return s
}

func (e *BuildError) Unwrap() error { return e.Err }

// Build returns the id of the image that a Dockerfile makes. It is built by the engine, with its own cache, once for each content of
// the context: what the Dockerfile fetches from elsewhere is not looked at again until Clean. On failure the error is a *BuildError.
func (s *Store) Build(ctx context.Context, b cluster.Build) (string, error) {
	id, output, err := s.build(ctx, b)
	if err == nil {
		return id, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return "", &BuildError{Context: b.Context, Output: output, Err: err}
}

func (s *Store) build(ctx context.Context, b cluster.Build) (id, output string, err error) {
	c, err := newBuildContext(b)
	if err != nil {
		return "", "", err
	}
	d := digest.Canonical.Digester()
	if err := c.write(ctx, d.Hash()); err != nil {
		return "", "", err
	}
	content := d.Digest()
	settings, err := json.Marshal([]any{content, c.dockerfile, b.Target, b.Args}) // the keys of a map come sorted
	if err != nil {
		return "", "", fmt.Errorf("describing the build: %w", err)
	}
	ref := buildRepo + ":" + short(digest.FromBytes(settings))

	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.api.ImageInspect(ctx, ref)
	if err == nil {
		return have.ID, "", nil
	}
	if !cerrdefs.IsNotFound(err) {
		return "", "", err
	}
	id, output, sent, err := s.send(ctx, c, b)
	if err != nil {
		return "", output, err
	}
	if sent != content {
		return "", "", errors.New("its files were changed while it was built; run it again")
	}
	// Named only now, so that the name never stands for anything else.
	if _, err := s.api.ImageTag(ctx, client.ImageTagOptions{Source: id, Target: ref}); err != nil {
		return "", "", fmt.Errorf("naming it %s: %w", ref, err)
	}
	return id, "", nil
}

// send has the engine build a context, and returns the image, what the builder said, and what the context was.
func (s *Store) send(ctx context.Context, c *buildContext, b cluster.Build) (id, output string, sent digest.Digest, err error) {
	d := digest.Canonical.Digester()
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.CloseWithError(c.write(ctx, io.MultiWriter(w, d.Hash())))
	}()
	defer func() {
		_ = r.Close() // ends the writer where the engine did not read all
		<-written
	}()
	args := map[string]*string{}
	for k, v := range b.Args {
		args[k] = &v
	}
	res, err := s.api.ImageBuild(ctx, r, client.ImageBuildOptions{
		Context: r, Dockerfile: c.dockerfile, Target: b.Target, BuildArgs: args,
		Labels: map[string]string{Label: "1"},
		Remove: true, ForceRemove: true,
		// BuildKit wants a session with its client beside the request; the engine's first builder takes a tar and no more.
		Version: build.BuilderV1,
	})
	if err != nil {
		return "", "", "", err
	}
	defer res.Body.Close()
	var said strings.Builder
	err = messages(res.Body, func(m jsonstream.Message) {
		said.WriteString(m.Stream)
		if m.Aux != nil {
			var made struct{ ID string }
			if json.Unmarshal(*m.Aux, &made) == nil && made.ID != "" {
				id = made.ID // of the last stage in the end
			}
		}
	})
	if err != nil {
		return "", tail(said.String()), "", err
	}
	if id == "" {
		return "", tail(said.String()), "", errors.New("the builder does not say which image it made")
	}
	<-written // the engine may answer before it read the padding at the end
	return id, "", d.Digest(), nil
}

// maxOutput bounds what is kept of the builder's output: the end of it, where the errors are.
const maxOutput = 32 << 10

func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > maxOutput {
		s = "...\n" + s[len(s)-maxOutput:]
	}
	return s
}
