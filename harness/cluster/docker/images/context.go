package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// outside is the name, in the tar, of a Dockerfile that is not in its context.
const outside = ".gauntlet.Dockerfile"

// buildContext is the directory that a Dockerfile is built from.
//
// It is walked here because moby/go-archive, which could, logs a file that cannot be read and leaves it out.
type buildContext struct {
	dir        string
	dockerfile string // its name in the tar
	external   string // its path on this machine, when it is not in dir
	ignored    *patternmatcher.PatternMatcher
}

func newBuildContext(b cluster.Build) (*buildContext, error) {
	dir, err := filepath.Abs(b.Context)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, fmt.Errorf("%s is no directory", dir)
	}
	path := b.Dockerfile
	if path == "" {
		path = "Dockerfile"
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	c := &buildContext{dir: dir}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		c.dockerfile = filepath.ToSlash(rel)
	} else {
		c.dockerfile, c.external = outside, path
	}
	patterns, err := ignorePatterns(path+".dockerignore", filepath.Join(dir, ".dockerignore"))
	if err != nil {
		return nil, err
	}
	if c.ignored, err = patternmatcher.New(patterns); err != nil {
		return nil, fmt.Errorf("reading .dockerignore: %w", err)
	}
	return c, nil
}

// ignorePatterns reads the first of these files that there is.
func ignorePatterns(files ...string) ([]string, error) {
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		patterns, err := ignorefile.ReadAll(f)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		return patterns, nil
	}
	return nil, nil
}

// write writes the tar of the context. Times and owners are left out, as the builder's cache leaves them out of account.
func (c *buildContext) write(ctx context.Context, w io.Writer) error {
	t := tar.NewWriter(w)
	if c.external != "" {
		st, err := os.Stat(c.external)
		if err != nil {
			return err
		}
		if err := addToContext(t, outside, c.external, st); err != nil {
			return err
		}
	}
	matches := map[string]patternmatcher.MatchInfo{} // of the directories, which what is in them goes by
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if path == c.dir {
			return nil
		}
		rel, err := filepath.Rel(c.dir, path)
		if err != nil {
			return err
		}
		ignored, match, err := c.ignored.MatchesUsingParentResults(rel, matches[filepath.Dir(rel)])
		if err != nil {
			return err
		}
		if d.IsDir() {
			matches[rel] = match
		}
		// The builder reads this one itself, ignored or not.
		if name := filepath.ToSlash(rel); ignored && name != c.dockerfile {
			if d.IsDir() && !c.ignored.Exclusions() && !strings.HasPrefix(c.dockerfile, name+"/") {
				return fs.SkipDir
			}
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		return addToContext(t, filepath.ToSlash(rel), path, st)
	})
	if err != nil {
		return err
	}
	return t.Close()
}

func addToContext(t *tar.Writer, name, path string, st fs.FileInfo) error {
	link := ""
	if st.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	if st.Mode()&fs.ModeSocket != 0 {
		return nil // no tar holds one; docker build leaves it out as well
	}
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	*h = tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Devmajor: h.Devmajor, Devminor: h.Devminor, ModTime: epoch}
	if st.IsDir() {
		h.Name += "/"
	}
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !st.Mode().IsRegular() {
		return nil
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(t, in)
	if err == nil && n != st.Size() {
		err = fmt.Errorf("%s was changed while it was read", path)
	}
	return err
}
