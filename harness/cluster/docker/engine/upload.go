package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/client"
)

// programDir is where programs are copied to: on the PATH of every image that says none, and first on most.
const programDir = "/usr/local/bin"

// upload copies what a Spec asks for into the container in one archive.
//
// The archive has no directories but Dirs: the engine makes those that are missing on the way to a file, and those
// that are there keep their modes.
func (c *Container) upload(ctx context.Context, s Spec) error {
	if len(s.Files)+len(s.Dirs)+len(s.Programs) == 0 {
		return nil
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() { // ends when the reader is closed, below
		err := writeArchive(w, s)
		w.CloseWithError(err)
		written <- err
	}()
	_, err := c.e.api.CopyToContainer(ctx, c.id, client.CopyToContainerOptions{DestinationPath: "/", Content: r})
	r.Close()
	if writeErr := <-written; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
		return writeErr // the cause: the engine only saw a cut archive
	}
	if err != nil {
		return fmt.Errorf("copy files into it: %w", err)
	}
	return nil
}

// writeArchive writes directories, files and programs as a tar.
func writeArchive(w io.Writer, s Spec) error {
	t := tar.NewWriter(w)
	for _, dir := range s.Dirs {
		h := header(dir, 0o755, 0)
		h.Typeflag, h.Uid, h.Gid = tar.TypeDir, s.UID, s.GID
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	for _, f := range s.Files {
		h := header(f.Target, int64(f.Mode&0o7777), int64(len(f.Content)))
		h.Uid, h.Gid = s.UID, s.GID
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("copy %s: %w", f.Target, err)
		}
		if _, err := t.Write(f.Content); err != nil {
			return fmt.Errorf("copy %s: %w", f.Target, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Programs)) {
		if err := writeProgram(t, name, s.Programs[name]); err != nil {
			return fmt.Errorf("copy the program %s: %w", name, err)
		}
	}
	return t.Close()
}

// writeProgram writes an executable of this machine.
func writeProgram(t *tar.Writer, name, executable string) error {
	f, err := os.Open(executable)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(header(path.Join(programDir, name), 0o755, info.Size())); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// header is that of a file of root.
func header(target string, mode, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path.Clean(target), "/"), Mode: mode, Size: size}
}
