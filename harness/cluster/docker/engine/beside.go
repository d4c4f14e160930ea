package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
)

// Output is what a program left.
type Output struct {
	Stdout, Stderr string
	Code           int // 128 + n after signal n
}

// Beside runs a program of an image once beside a container: it sees and may signal the container's processes, and has
// no network and no other rights. Nothing of it is left.
//
// The engine can signal process 1 of a container and no other, and an image need not have a kill.
func (r *Run) Beside(ctx context.Context, target, image string, argv []string) (out Output, err error) {
	c, err := r.Create(ctx, Spec{
		Name: "beside-" + strings.ToLower(rand.Text()[:8]), Role: "beside", Image: image, Entrypoint: argv,
		PIDOf: target, CapDrop: []string{"ALL"}, CapAdd: []string{"KILL", "SYS_PTRACE"},
	})
	if err != nil {
		return Output{}, err
	}
	defer func() { err = errors.Join(err, c.Discard(ctx)) }()
	stream, err := c.Attach(ctx)
	if err != nil {
		return Output{}, err
	}
	defer context.AfterFunc(ctx, func() { stream.Close() })()
	defer stream.Close()
	if err := c.Start(ctx); err != nil {
		return Output{}, err
	}
	var stdout, stderr bytes.Buffer
	err = stream.Copy(&stdout, &stderr)
	if ctx.Err() != nil {
		return Output{}, c.did("follow", ctx.Err())
	}
	if err != nil {
		return Output{}, c.did("follow", err)
	}
	code, err := c.Wait(ctx)
	return Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: code}, err
}
