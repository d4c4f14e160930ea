package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Errors that Plain puts into the chain, to be matched with errors.Is.
var (
	ErrEngineGone  = errors.New("the container engine does not answer any more")
	ErrNoContainer = errors.New("no such container: it was removed")
	ErrNotRunning  = errors.New("the container is not running")
	ErrNoImage     = errors.New("the engine has no such image")
	// ErrNoProgram is the error of a program that could not be started: not there, not executable, of another machine.
	ErrNoProgram = errors.New("the program cannot be started")
)

// plainError says a daemon's error in plain words. It is what was wrong, then what the daemon said.
type plainError struct {
	is    error // a sentinel; nil: none
	words string
	err   error
}

func (e *plainError) Error() string {
	text := strings.ReplaceAll(e.err.Error(), "Error response from daemon: ", "")
	if e.words == "" {
		return e.is.Error() + ": " + text
	}
	return e.words + ": " + text
}

func (e *plainError) Unwrap() []error {
	if e.is == nil {
		return []error{e.err}
	}
	return []error{e.is, e.err}
}

// meaning is what a daemon's words mean.
type meaning struct {
	said  string // part of the daemon's error, in lower case
	is    error
	words string
}

// meanings, the particular before the general. The engine has codes for few of these; its words are stable since 17.
var meanings = []meaning{
	{"is already in use by container", nil, "a container of this name exists: remove it (gauntlet clean, or docker rm -f)"},
	{"no space left on device", nil, "the engine's disk is full: make room (docker system df, docker system prune)"},
	{"no such image", ErrNoImage, ""},
	{"pool overlaps", nil, "another network has these addresses: remove networks that are not used (docker network prune)"},
	{"non-overlapping ipv4 address pool", nil, "the engine has no addresses left for networks: remove some (docker network prune)"},
	{"has active endpoints", nil, "a container is on the network; if there is none (docker network inspect), the engine counts one that is gone: start the engine again"},
	{"port is already allocated", nil, "a port is taken by another container"},
	{"address already in use", nil, "an address or port is taken by another container"},
	{"exec format error", ErrNoProgram, "the program is for another kind of machine, or is no executable: build it for the engine's (GOOS=linux, its GOARCH)"},
	{"executable file not found", ErrNoProgram, "the program is not in the image: give its path, or put it on the PATH"},
	{"bind source path does not exist", nil, "a bind mount's source is not on the engine's machine: make it, or correct volumes in the Compose file"},
	{"unable to find user", nil, "the image has no such user: write it as a number, or use one of its /etc/passwd"},
	{"unable to find group", nil, "the image has no such group: write it as a number, or use one of its /etc/group"},
	{"container rootfs is marked read-only", nil, "files cannot be copied into a container with a read-only root"},
	{"removal of container", nil, "the container is being removed already"},
	{"is not running", ErrNotRunning, ""},
	{"cannot join network of a non running container", ErrNotRunning, "the container that owns the network is not running: start it first"},
	{"is paused", nil, "the container is paused: resume it first"},
	{"no such container", ErrNoContainer, ""},
	{"no such exec", ErrNoContainer, ""},
	// The client throws the daemon's words away when it was to attach.
	{"unable to upgrade to tcp, received 404", ErrNoContainer, ""},
	{"unable to upgrade to tcp, received 409", ErrNotRunning, ""},
	{"minimum memory limit", nil, "the memory limit is too small for this engine"},
}

// startMeanings hold only for the error of a start: elsewhere the words may be about any file.
var startMeanings = []meaning{
	{"no such file or directory", ErrNoProgram, "the program, or the loader and libraries that it needs, is not in the image"},
	{"permission denied", ErrNoProgram, "the program may not be executed: set its mode (chmod +x), and mind the user that it runs as"},
	{"is a directory", ErrNoProgram, "the program is a directory"},
}

// Plain returns a daemon's error in plain words, with what to do. What it does not know it returns as it is.
func Plain(err error) error { return plainly(err, meanings) }

// plainStart is Plain for the error of starting a program.
func plainStart(err error) error {
	return plainly(err, append(meanings[:len(meanings):len(meanings)], startMeanings...))
}

func plainly(err error, all []meaning) error {
	var done *plainError
	if err == nil || errors.As(err, &done) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if gone(err) {
		return &plainError{is: ErrEngineGone, err: err}
	}
	text := strings.ToLower(err.Error())
	for _, m := range all {
		if strings.Contains(text, m.said) {
			return &plainError{is: m.is, words: m.words, err: err}
		}
	}
	return err
}

// gone reports whether an error is that of a connection and not of the daemon.
func gone(err error) bool {
	var op *net.OpError
	return client.IsErrConnectionFailed(err) || errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// notThere reports whether what was to be removed is not there any more.
func notThere(err error) bool { return errdefs.IsNotFound(err) }
