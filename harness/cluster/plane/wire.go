package plane

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"syscall"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// kind is what an envelope carries.
type kind string

const (
	kindCall   kind = "call"   // harness to plane: ID, Name (the method), Body
	kindCancel kind = "cancel" // harness to plane: the caller of ID waits no longer
	kindReply  kind = "reply"  // plane to harness: ID, Body or Err
	kindNotify kind = "notify" // plane to harness: Name (the topic), Body
)

// envelope is a message of the protocol.
type envelope struct {
	Kind kind            `json:"k"`
	ID   uint64          `json:"id,omitempty"`
	Name string          `json:"n,omitempty"`
	Body json.RawMessage `json:"b,omitempty"`
	Err  *wireError      `json:"e,omitempty"`
}

// wireError is an error on the wire. What callers match with errors.Is and errors.As survives: the errno, whether it was a
// context or a deadline that ended the work, and that a rule is not known.
type wireError struct {
	Text     string                    `json:"t"`
	Errno    syscall.Errno             `json:"errno,omitempty"`
	Canceled bool                      `json:"canceled,omitempty"`
	Deadline bool                      `json:"deadline,omitempty"` // of a context
	Timeout  bool                      `json:"timeout,omitempty"`  // of input and output
	Rule     *cluster.UnknownRuleError `json:"rule,omitempty"`
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{
		Text:     err.Error(),
		Canceled: errors.Is(err, context.Canceled),
		Deadline: errors.Is(err, context.DeadlineExceeded),
		Timeout:  errors.Is(err, os.ErrDeadlineExceeded),
	}
	errors.As(err, &w.Errno)
	errors.As(err, &w.Rule)
	return w
}

// RemoteError is an error that a handler of the plane returned. errors.Is finds the errno, context.Canceled,
// context.DeadlineExceeded and os.ErrDeadlineExceeded in it, and errors.As a *cluster.UnknownRuleError, as on the other side.
type RemoteError struct {
	Method string
	wire   wireError
}

func (e *RemoteError) Error() string { return e.wire.Text }

// Unwrap returns what the error was made of, as far as it crossed the wire.
func (e *RemoteError) Unwrap() []error {
	var errs []error
	if e.wire.Errno != 0 {
		errs = append(errs, e.wire.Errno)
	}
	if e.wire.Canceled {
		errs = append(errs, context.Canceled)
	}
	if e.wire.Deadline {
		errs = append(errs, context.DeadlineExceeded)
	}
	if e.wire.Timeout {
		errs = append(errs, os.ErrDeadlineExceeded)
	}
	if e.wire.Rule != nil {
		errs = append(errs, e.wire.Rule)
	}
	return errs
}
