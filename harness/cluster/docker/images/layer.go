package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// file is one entry of a layer: a regular file when from or data is set, a link when link is, else a directory.
type file struct {
	path string // in the image, absolute
	mode int64
	from string // the file of this machine that it is a copy of
	data []byte
	link string // what a symbolic link says
	hard string // the path of the file that this is another name of, which sorts before it
}

// layer is a list of files and what its tar comes to.
type layer struct {
	files  []file
	digest digest.Digest // of the tar
	size   int64
}

// digests are those of layers that were computed before, by their files: an executable is 60 MB, and reading it whole at
// each start costs 0.2 s. A file counts as the same while its path, size, time and inode are.
var digests sync.Map

// newLayer completes the directories above the files, sorts, and computes the digest.
func newLayer(files []file) (*layer, error) {
	l := &layer{}
	seen := map[string]bool{"/": true}
	for _, f := range files {
		seen[f.path] = true
	}
	for _, f := range files {
		l.files = append(l.files, f)
		for dir := path.Dir(f.path); !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			l.files = append(l.files, file{path: dir, mode: 0o755})
		}
	}
	slices.SortFunc(l.files, func(a, b file) int { return strings.Compare(a.path, b.path) })

	key, err := l.key()
	if err != nil {
		return nil, err
	}
	type sum struct {
		digest digest.Digest
		size   int64
	}
	if known, ok := digests.Load(key); ok {
		l.digest, l.size = known.(sum).digest, known.(sum).size
		return l, nil
	}
	d := digest.Canonical.Digester()
	n := &counter{w: d.Hash()}
	if err := l.write(n); err != nil {
		return nil, err
	}
	l.digest, l.size = d.Digest(), n.n
	digests.Store(key, sum{l.digest, l.size})
	return l, nil
}

// key is what the layer's bytes follow from, as far as can be told without reading the files.
func (l *layer) key() (digest.Digest, error) {
	d := digest.Canonical.Digester()
	for _, f := range l.files {
		fmt.Fprintf(d.Hash(), "%q %o %q %q %q %q", f.path, f.mode, f.from, f.data, f.link, f.hard)
		if f.from != "" {
			st, err := os.Stat(f.from)
			if err != nil {
				return "", err
			}
			sys, ok := st.Sys().(*syscall.Stat_t)
			if !ok {
				return "", fmt.Errorf("%s: this system does not say which file it is", f.from)
			}
			fmt.Fprintf(d.Hash(), " %d %d %d %d", st.Size(), st.ModTime().UnixNano(), sys.Dev, sys.Ino)
		}
		fmt.Fprintln(d.Hash())
	}
	return d.Digest(), nil
}

// write writes the layer's tar. It is the same each time, unless a file was changed; then the engine finds that the
// digest is wrong and refuses it.
func (l *layer) write(w io.Writer) error {
	t := tar.NewWriter(w)
	for _, f := range l.files {
		if err := f.write(t); err != nil {
			return err
		}
	}
	return t.Close()
}

func (f file) write(t *tar.Writer) error {
	h := &tar.Header{Name: strings.TrimPrefix(f.path, "/"), Mode: f.mode, ModTime: epoch}
	var content io.Reader
	switch {
	case f.hard != "":
		h.Typeflag, h.Linkname = tar.TypeLink, strings.TrimPrefix(f.hard, "/")
	case f.link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
	case f.from != "":
		in, err := os.Open(f.from)
		if err != nil {
			return err
		}
		defer in.Close()
		st, err := in.Stat()
		if err != nil {
			return err
		}
		h.Typeflag, h.Size, content = tar.TypeReg, st.Size(), in
	case f.data != nil:
		h.Typeflag, h.Size, content = tar.TypeReg, int64(len(f.data)), bytes.NewReader(f.data)
	default:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	}
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if content != nil {
		if n, err := io.Copy(t, content); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		} else if n != h.Size {
			return fmt.Errorf("%s was changed while it was read", f.from)
		}
	}
	return nil
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// placed says which file of this machine stands where in an image.
type placed map[string]string

// add notes the files of another layer. Two different libraries for one place cannot both be had: a later layer would
// silently hide the earlier's.
func (p placed) add(files []file) error {
	for _, f := range files {
		if f.from == "" {
			continue
		}
		if other, ok := p[f.path]; ok && other != f.from {
			return fmt.Errorf("it needs %s as %s, and another program of the same image needs %s there", f.from, f.path, other)
		}
		p[f.path] = f.from
	}
	return nil
}
