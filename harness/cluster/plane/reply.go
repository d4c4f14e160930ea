package plane

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane/httpwire"
)

// reply is a Reply that holds: it chooses among the requests of its links.
type reply struct {
	what         cluster.Reply
	method, path *regexp.Regexp // nil: any
	answer       *httpwire.Answer

	over atomic.Bool // it holds no more

	mu     sync.Mutex
	number uint64 // of the next request that matches
	given  map[AddrLink]uint64
	asked  map[AddrLink]uint64
}

func newReply(what cluster.Reply) (*reply, error) {
	r := &reply{what: what, given: map[AddrLink]uint64{}, asked: map[AddrLink]uint64{}}
	var errs []error
	var err error
	if what.Method != "" {
		if r.method, err = regexp.Compile(what.Method); err != nil {
			errs = append(errs, fmt.Errorf("method: %w", err))
		}
	}
	if what.Path != "" {
		if r.path, err = regexp.Compile(what.Path); err != nil {
			errs = append(errs, fmt.Errorf("path: %w", err))
		}
	}
	ways := 0
	for _, set := range []bool{what.Share != 0, what.First != 0, what.Every != 0} {
		if set {
			ways++
		}
	}
	if ways != 1 || !(what.Share >= 0 && what.Share <= 1) || what.First < 0 || what.Every < 0 {
		errs = append(errs, errors.New("one of share (above 0 and at most 1), first and every is set"))
	}
	switch h, g := what.HTTP, what.GRPC; {
	case (h == nil) == (g == nil):
		errs = append(errs, errors.New("one of http and grpc is set"))
	case h != nil && (h.Status < 400 || h.Status > 599):
		errs = append(errs, fmt.Errorf("status %d is no error: 400 to 599", h.Status))
	case h != nil && len(h.Body) > httpwire.MaxBody:
		errs = append(errs, fmt.Errorf("a body of %d bytes is over the limit of %d", len(h.Body), httpwire.MaxBody))
	case h != nil && strings.ContainsFunc(h.RetryAfter, func(c rune) bool { return c < ' ' || c > '~' }):
		errs = append(errs, fmt.Errorf("retry-after %q is no value of a header", h.RetryAfter))
	case h != nil:
		r.answer = &httpwire.Answer{Status: h.Status, Body: h.Body, RetryAfter: h.RetryAfter}
	case g.Code < 1 || g.Code > 16:
		errs = append(errs, fmt.Errorf("code %d is no error of gRPC: 1 to 16", g.Code))
	default:
		r.answer = &httpwire.Answer{Code: g.Code, Message: g.Message}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("plane: reply: %w", err)
	}
	return r, nil
}

// strikes draws whether a request is answered here, and returns the answer, or nil. Requests that match are numbered over all links:
// which one is struck is a function of the seed and its number.
func (r *reply) strikes(l AddrLink, q httpwire.Request) *httpwire.Answer {
	if r.method != nil && !r.method.MatchString(q.Method) || r.path != nil && !r.path.MatchString(q.Path) || r.what.GRPC != nil && q.Proto != "grpc" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.number
	r.number++
	r.asked[l]++
	var struck bool
	switch {
	case r.what.First > 0:
		struck = n < uint64(r.what.First)
	case r.what.Every > 0:
		struck = (n+1)%uint64(r.what.Every) == 0
	default:
		struck = unit(mix(r.what.Seed, n)) < r.what.Share
	}
	if !struck {
		return nil
	}
	answer := *r.answer
	answer.Over = r.over.Load
	answer.Given = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.given[l]++
	}
	return &answer
}

func (r *reply) on(l AddrLink) (given, asked uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given[l], r.asked[l]
}
