// Package images makes the images that the Docker driver runs: of executables of this machine, FROM scratch, and of
// Dockerfiles. It speaks to the engine only, so no registry is needed.
//
// An image of executables is a tar that this package writes and the engine loads (docker load). The same files make the same
// bytes, hence the same reference, so the engine is asked first and sent only what it has not:
//
//	gauntlet-program:HASH   executables; HASH is of the image's configuration, which names its layers by their content
//	gauntlet-build:HASH     of a Dockerfile; HASH is of its context and settings
package images

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
)

// Label is on every image that this package makes, with the value 1.
const Label = "dev.gauntlet.image"

// The repositories of what this package makes.
const (
	programRepo = "gauntlet-program"
	buildRepo   = "gauntlet-build"
)

// Store makes images in one engine. Its methods may be called from several goroutines.
type Store struct {
	api client.APIClient
	bin map[string]string
	mu  *sync.Mutex // one image at a time: the next one finds the layers of the one before
}

// New returns the store of an engine.
func New(api client.APIClient) *Store { return &Store{api: api, mu: new(sync.Mutex)} }

// With returns a store of the same engine whose images of executables also hold these programs, each at
// /usr/local/bin/NAME: what cluster.Options.Bin asks for. An image of a Dockerfile or a registry is left as it is.
func (s *Store) With(bin map[string]string) *Store {
	return &Store{api: s.api, bin: bin, mu: s.mu}
}

// Self returns the id of an image with the running executable, as it was started, under each of the paths.
func (s *Store) Self(ctx context.Context, paths ...string) (string, error) {
	// Not os.Executable: that file may have been replaced by another build. Not /proc/self: its loader is to read it too.
	id, err := s.executables(ctx, fmt.Sprintf("/proc/%d/exe", os.Getpid()), paths)
	if err != nil {
		return "", fmt.Errorf("an image of this program itself: %w", err)
	}
	return id, nil
}

// Program returns the id of an image whose entrypoint is an executable of this machine, at /usr/local/bin/NAME, with the
// libraries that it is linked with. The rest is what most programs expect: see base. It has no shell.
//
// A script, or an executable for another system or architecture than the engine's, is an error.
func (s *Store) Program(ctx context.Context, executable string) (string, error) {
	id, err := s.executables(ctx, executable, []string{binPath(filepath.Base(executable))})
	if err != nil {
		return "", fmt.Errorf("an image of %s: %w", executable, err)
	}
	return id, nil
}

func binPath(name string) string { return "/usr/local/bin/" + name }

func (s *Store) executables(ctx context.Context, executable string, paths []string) (string, error) {
	engine, err := s.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", err
	}
	bottom, err := base()
	if err != nil {
		return "", err
	}
	layers := []*layer{bottom}
	have := placed{}
	add := func(executable string, paths []string) error {
		p, err := lookAt(ctx, executable, engine.Arch)
		if err != nil {
			return err
		}
		files := p.files(paths)
		if err := have.add(files); err != nil {
			return err
		}
		l, err := newLayer(files)
		layers = append(layers, l)
		return err
	}
	// The shared programs first: layers are found again only on top of the same ones.
	for _, name := range slices.Sorted(maps.Keys(s.bin)) {
		if path := binPath(name); !slices.Contains(paths, path) {
			if err := add(s.bin[name], []string{path}); err != nil {
				return "", fmt.Errorf("%s: %w", s.bin[name], err)
			}
		}
	}
	if err := add(executable, paths); err != nil {
		return "", err
	}
	img, err := newImage(engine.Arch, paths[0], layers)
	if err != nil {
		return "", err
	}
	return s.have(ctx, img)
}

// have asks for an image and loads it when the engine has it not.
func (s *Store) have(ctx context.Context, img *image) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := s.find(ctx, img)
	if err != nil || id != "" {
		return id, err
	}
	if err := s.load(ctx, img); err != nil {
		return "", fmt.Errorf("loading it into the engine: %w", err)
	}
	id, err = s.find(ctx, img)
	if err == nil && id == "" {
		err = fmt.Errorf("the engine loaded it and does not have it as %s", img.ref)
	}
	return id, err
}

// find returns the id of an image that the engine has, and "" of one that it has not. The id is the engine's: with containerd's
// image store it is of the manifest, not of the configuration.
func (s *Store) find(ctx context.Context, img *image) (string, error) {
	got, err := s.api.ImageInspect(ctx, img.ref)
	if cerrdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !slices.Equal(got.RootFS.Layers, img.diffIDs()) {
		return "", nil // somebody gave the name to another image
	}
	return got.ID, nil
}

func (s *Store) load(ctx context.Context, img *image) error {
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		buffered := bufio.NewWriterSize(w, 1<<20)
		err := img.write(buffered)
		w.CloseWithError(errors.Join(err, buffered.Flush()))
	}()
	defer func() {
		_ = r.Close() // ends the writer where the engine did not read all
		<-written
	}()
	res, err := s.api.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer res.Close()
	return messages(res, func(jsonstream.Message) {})
}

// Defaults are what an image says of how its programs run, where nobody says otherwise.
type Defaults struct {
	StopSignal string   // empty: none
	Volumes    []string // where it wants volumes, in order
}

// Defaults returns those of an image.
func (s *Store) Defaults(ctx context.Context, id string) (Defaults, error) {
	got, err := s.api.ImageInspect(ctx, id)
	if err != nil {
		return Defaults{}, fmt.Errorf("looking at the image %s: %w", id, err)
	}
	if got.Config == nil {
		return Defaults{}, nil
	}
	return Defaults{StopSignal: got.Config.StopSignal, Volumes: slices.Sorted(maps.Keys(got.Config.Volumes))}, nil
}

// messages reads what the engine says of an operation until its end. An error in it is returned: the engine had
// answered 200 before it met it.
func messages(r io.Reader, each func(jsonstream.Message)) error {
	for d := json.NewDecoder(r); ; {
		var m jsonstream.Message
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the engine's answer: %w", err)
		case m.Error != nil:
			return m.Error
		}
		each(m)
	}
}

// short is enough of a hash for a tag.
func short(d digest.Digest) string { return d.Encoded()[:32] }

// Clean removes the images that this package made and no container uses, and returns their names. One that has a name of
// somebody else's as well only loses ours.
func (s *Store) Clean(ctx context.Context) (removed []string, err error) {
	list, err := s.api.ImageList(ctx, client.ImageListOptions{Filters: make(client.Filters).Add("label", Label+"=1")})
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	var errs []error
	for _, i := range list.Items {
		names := slices.DeleteFunc(slices.Clone(i.RepoTags), func(tag string) bool {
			repo, _, _ := strings.Cut(tag, ":")
			return repo != programRepo && repo != buildRepo
		})
		if !slices.ContainsFunc(i.RepoTags, func(tag string) bool { return tag != "<none>:<none>" }) {
			names = []string{i.ID} // a build that ended before it had its name
		}
		for _, name := range names {
			_, err := s.api.ImageRemove(ctx, name, client.ImageRemoveOptions{PruneChildren: true})
			switch {
			case err == nil:
				removed = append(removed, name)
			case !cerrdefs.IsConflict(err) && !cerrdefs.IsNotFound(err): // in use; gone meanwhile
				errs = append(errs, fmt.Errorf("removing the image %s: %w", name, err))
			}
		}
	}
	return removed, errors.Join(errs...)
}
