package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// Stream is the standard streams of a container or of a program run in it. It ends with the program, after everything
// that it wrote. Use either Copy or Output, from one goroutine.
type Stream struct {
	// Stdin is the program's standard input; nil: it has none. Close ends it and leaves the output.
	Stdin io.WriteCloser

	res  client.HijackedResponse
	left int64 // of the frame of standard output that is being read
}

// Attach attaches to the container's standard streams. Called before each Start it misses nothing; the streams of a
// container that has ended and is started again are new ones.
func (c *Container) Attach(ctx context.Context) (*Stream, error) {
	res, err := hijack(ctx, func() (client.HijackedResponse, error) {
		res, err := c.e.api.ContainerAttach(ctx, c.id, client.ContainerAttachOptions{Stream: true, Stdin: c.stdin, Stdout: true, Stderr: true})
		return res.HijackedResponse, err
	})
	if err != nil {
		return nil, c.did("attach to", err)
	}
	return newStream(res, c.stdin), nil
}

// hijack opens a connection that is taken over from HTTP, and returns when ctx ends: moby's client minds it only while it dials. The
// goroutine ends with the engine's answer, and closes a connection that nobody waits for any more.
func hijack(ctx context.Context, open func() (client.HijackedResponse, error)) (client.HijackedResponse, error) {
	type result struct {
		res client.HijackedResponse
		err error
	}
	opened := make(chan result)
	go func() {
		res, err := open()
		select {
		case opened <- result{res, err}:
		case <-ctx.Done():
			if err == nil {
				res.Close()
			}
		}
	}()
	select {
	case r := <-opened:
		return r.res, r.err
	case <-ctx.Done():
		return client.HijackedResponse{}, ctx.Err()
	}
}

func newStream(res client.HijackedResponse, stdin bool) *Stream {
	s := &Stream{res: res}
	if stdin {
		s.Stdin = input{&s.res}
	}
	return s
}

// input is the writing half of a stream.
type input struct{ res *client.HijackedResponse }

func (i input) Write(b []byte) (int, error) { return i.res.Conn.Write(b) }
func (i input) Close() error                { return i.res.CloseWrite() }

// Close ends the connection. What the program writes from now on goes nowhere, and its standard input has ended.
func (s *Stream) Close() error {
	if err := s.res.Conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the stream of a container: %w", err)
	}
	return nil
}

// Copy copies the program's output until it ends; nil discards. When a writer fails the rest of its stream is discarded,
// so that the program is not held up, and the error is returned at the end. io.ErrUnexpectedEOF when the stream was cut.
func (s *Stream) Copy(stdout, stderr io.Writer) error {
	sinks := map[stdcopy.StdType]*sink{stdcopy.Stdout: {w: stdout}, stdcopy.Stderr: {w: stderr}}
	for {
		kind, size, err := s.frame()
		if errors.Is(err, io.EOF) {
			return errors.Join(sinks[stdcopy.Stdout].err, sinks[stdcopy.Stderr].err)
		}
		if err == nil {
			err = copyFrame(sinks[kind], s.res.Reader, size)
		}
		if err != nil {
			return errors.Join(sinks[stdcopy.Stdout].err, sinks[stdcopy.Stderr].err, err)
		}
	}
}

// copyFrame copies one frame; its error is that of the source.
func copyFrame(to *sink, from io.Reader, size int64) error {
	n, err := io.CopyN(to, from, size)
	if n < size && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// sink is a writer that never fails: the first error is kept, and what comes after is discarded.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (int, error) {
	if s.w != nil && s.err == nil {
		_, s.err = s.w.Write(b)
	}
	return len(b), nil
}

// Output returns the program's standard output as a reader; what it writes to standard error goes to stderr on the way.
func (s *Stream) Output(stderr io.Writer) io.Reader { return &output{s, &sink{w: stderr}} }

type output struct {
	s      *Stream
	stderr *sink
}

func (o *output) Read(b []byte) (int, error) {
	for o.s.left == 0 {
		kind, size, err := o.s.frame()
		if err != nil {
			return 0, err
		}
		if kind == stdcopy.Stdout {
			o.s.left = size
		} else if err := copyFrame(o.stderr, o.s.res.Reader, size); err != nil {
			return 0, err
		}
	}
	n, err := o.s.res.Reader.Read(b[:min(int64(len(b)), o.s.left)])
	o.s.left -= int64(n)
	if errors.Is(err, io.EOF) && o.s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// frame reads the head of the next piece of output: io.EOF at the end, between two. (stdcopy.StdCopy takes a stream that
// was cut within a frame for one that ended.)
func (s *Stream) frame() (stdcopy.StdType, int64, error) {
	var h [8]byte // kind, three zeros, size
	if _, err := io.ReadFull(s.res.Reader, h[:]); err != nil {
		return 0, 0, err
	}
	kind := stdcopy.StdType(h[0])
	size := int64(binary.BigEndian.Uint32(h[4:]))
	switch kind {
	case stdcopy.Stdout, stdcopy.Stderr:
		return kind, size, nil
	case stdcopy.Systemerr:
		text, err := io.ReadAll(io.LimitReader(s.res.Reader, size))
		return 0, 0, errors.Join(fmt.Errorf("the engine broke the stream off: %s", text), err)
	}
	return 0, 0, fmt.Errorf("the engine's stream has a frame of kind %d", kind)
}
