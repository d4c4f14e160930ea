// Package body reads the bodies of HTTP requests, within a size and a time.
package body

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

// Keep reads the body of a request, so that it can be read again by GetBody, and so that a client that sends slowly keeps
// nobody waiting but the one who calls this, at most until the request's time is over (zero: for as long as the server allows).
// The error is a *reply.Problem.
func Keep(w http.ResponseWriter, r *http.Request, most int64, until time.Time) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if !until.IsZero() {
		// Not every writer can, and none needs it taken back: net/http does so when the body is there.
		_ = http.NewResponseController(w).SetReadDeadline(until)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	var n net.Error
	switch {
	case errors.As(err, &large):
		return &reply.Problem{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("the body is larger than %d bytes", large.Limit)}
	case errors.As(err, &n) && n.Timeout():
		return &reply.Problem{Status: http.StatusRequestTimeout, Message: "the body did not arrive in time"}
	case err != nil:
		return &reply.Problem{Status: http.StatusBadRequest, Message: "the body could not be read: " + err.Error()}
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength = int64(len(body))
	return nil
}
