package images

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// searchPath is the PATH of an image of executables.
const searchPath = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"

// epoch is the time of everything in an image: the same files make the same image.
var epoch = time.Unix(0, 0).UTC()

// image is one that can be loaded.
type image struct {
	ref    string // its name in the engine
	config []byte
	layers []*layer
}

func newImage(arch, entrypoint string, layers []*layer) (*image, error) {
	img := &image{layers: layers}
	c := ocispec.Image{
		Created:  &epoch,
		Platform: ocispec.Platform{Architecture: arch, OS: "linux"},
		Config: ocispec.ImageConfig{
			Env:        []string{"PATH=" + searchPath},
			Entrypoint: []string{entrypoint},
			WorkingDir: "/",
			Labels:     map[string]string{Label: "1"},
		},
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.digest)
	}
	var err error
	if img.config, err = json.Marshal(c); err != nil {
		return nil, fmt.Errorf("describing it: %w", err)
	}
	img.ref = programRepo + ":" + short(digest.FromBytes(img.config))
	return img, nil
}

func (i *image) diffIDs() []string {
	ids := make([]string, len(i.layers))
	for n, l := range i.layers {
		ids[n] = l.digest.String()
	}
	return ids
}

// write writes the image in the form of docker save, which every engine loads.
func (i *image) write(w io.Writer) error {
	type manifest struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	m := manifest{Config: digest.FromBytes(i.config).Encoded() + ".json", RepoTags: []string{i.ref}}
	t := tar.NewWriter(w)
	put := func(name string, size int64, content func(io.Writer) error) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, ModTime: epoch}); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		return content(t)
	}
	bytes := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	written := map[digest.Digest]bool{}
	for _, l := range i.layers {
		name := l.digest.Encoded() + ".tar"
		m.Layers = append(m.Layers, name)
		if written[l.digest] {
			continue // a program that is there under the same name twice
		}
		written[l.digest] = true
		if err := put(name, l.size, l.write); err != nil {
			return err
		}
	}
	if err := put(m.Config, int64(len(i.config)), bytes(i.config)); err != nil {
		return err
	}
	list, err := json.Marshal([]manifest{m})
	if err != nil {
		return fmt.Errorf("describing the archive: %w", err)
	}
	if err := put("manifest.json", int64(len(list)), bytes(list)); err != nil {
		return err
	}
	return t.Close()
}
