// Package httpwire reads HTTP/1.1, HTTP/2 with prior knowledge, and gRPC off the two streams of bytes of a TCP
// connection. A Reader only looks on: it reports the calls that cross. A Proxy stands between client and server and
// answers chosen requests in the server's place.
//
// Both are pushed: they take bytes as they come and never wait for more. What they keep of a connection is bounded,
// whatever its ends send.
package httpwire

import (
	"strings"
	"sync"
	"time"
)

// Call is one request and what became of it. Times are those of the clock that the Reader was given.
type Call struct {
	Begin, End time.Duration // the head of the request was whole; the last byte of the answer came, or the call was cut off
	Proto      string        // http/1.1 | h2 | grpc
	Method     string
	Path       string // without the query
	RequestID  string // X-Request-ID
	TraceID    string // of traceparent, else X-Trace-ID
	Status     int    // 0: no answer
	GRPCStatus *int
	// Error says how it was cut off: reset, cancelled (by the client), refused (the server will not look at it), closed
	// (the connection ended, orderly), unread (the connection could not be read any more).
	Error string
}

// The ways in which a call is cut off.
const (
	Reset     = "reset"
	Cancelled = "cancelled"
	Refused   = "refused"
	Closed    = "closed"
	Unread    = "unread"
)

const (
	maxHead   = 64 << 10 // bytes of an HTTP/1.1 head
	maxBlock  = 256 << 10
	maxTable  = 256 << 10 // bytes of a table of HPACK
	maxOpen   = 10_000    // calls under way on one connection
	maxField  = 1 << 10   // bytes that are kept of a path or an id
	preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	leastCall = len("M / HTTP/1.0\r\n\r\n") // no request is shorter
)

// Reader reads both directions of one connection. Its methods may be called from two goroutines, one for each
// direction; the bytes of a request are to be handed over before the server can answer them.
type Reader struct {
	mu   sync.Mutex
	now  func() time.Duration
	emit func(Call)

	sent  int      // bytes of the client
	first []byte   // those that do not tell yet which protocol it is
	early []byte   // what the server sent before it was known: on HTTP/2 it may be the first to speak
	proto protocol // nil until it is known
	why   string   // it stopped reading: why
	ended bool
}

// protocol reads one of the two protocols. A method that returns a reason cannot go on.
type protocol interface {
	request(b []byte) (why string)
	response(b []byte) (why string)
	responseEnd()
	cut(how string) // reports what is under way as cut off
}

// NewReader returns the reader of a new connection. emit is called for each call when it ends, one at a time; it must
// not block.
func NewReader(now func() time.Duration, emit func(Call)) *Reader {
	return &Reader{now: now, emit: emit}
}

// Request takes bytes that the client sent.
func (r *Reader) Request(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent += len(b)
	if r.stopped() {
		return
	}
	if r.proto == nil {
		r.first = append(r.first, b[:min(len(b), len(preface)-len(r.first))]...)
		rest := b[min(len(b), len(r.first)-(r.sent-len(b))):]
		switch {
		case string(r.first) == preface:
			r.proto, b = newHTTP2(r), rest
		case strings.HasPrefix(preface, string(r.first)):
			return
		default:
			r.proto = newHTTP1(r)
			if why := r.proto.request(r.first); why != "" {
				r.stop(why)
				return
			}
			b = rest
		}
		r.first = nil
		if len(r.early) > 0 {
			if why := r.proto.response(r.early); why != "" {
				r.stop(why)
				return
			}
			r.early = nil
		}
	}
	if why := r.proto.request(b); why != "" {
		r.stop(why)
	}
}

// Response takes bytes that the server sent.
func (r *Reader) Response(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped() || len(b) == 0 {
		return
	}
	if r.proto == nil {
		if r.early = append(r.early, b...); !mayBeSettings(r.early) || len(r.early) > maxHead {
			r.stop("the server spoke before the client had asked for anything")
		}
		return
	}
	if why := r.proto.response(b); why != "" {
		r.stop(why)
	}
}

// ResponseEnd says that the server has ended its stream in an orderly way: some answers end so.
func (r *Reader) ResponseEnd() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped() && r.proto != nil {
		r.proto.responseEnd()
	}
}

// End says that the connection is over. Calls that are under way are reported as cut off in the way given.
func (r *Reader) End(how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped() && r.proto != nil {
		r.proto.cut(how)
	}
	r.ended, r.proto, r.first, r.early = true, nil, nil, nil
}

// Unreadable says why the connection could not be read to its end, or nothing: then every call on it was reported. A
// connection whose client sent less than the shortest request has none, whatever it is: a probe, say.
func (r *Reader) Unreadable() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent < leastCall {
		return ""
	}
	return r.why
}

func (r *Reader) stopped() bool { return r.why != "" || r.ended }

func (r *Reader) stop(why string) {
	if r.proto != nil {
		r.proto.cut(Unread)
	}
	r.why, r.proto, r.first, r.early = why, nil, nil, nil
}

// field bounds what is kept of a value, and does not keep alive what it is part of.
func field(s string) string { return strings.Clone(s[:min(len(s), maxField)]) }

// pathOf is the path of a request's target in each of its forms, without the query.
func pathOf(target string) string {
	if i := strings.Index(target, "://"); i >= 0 && !strings.HasPrefix(target, "/") {
		rest := target[i+3:]
		slash := strings.IndexAny(rest, "/?#")
		if slash < 0 {
			return "/"
		}
		target = rest[slash:]
	}
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	if target == "" {
		target = "/"
	}
	return field(target)
}

// note takes from a field of the request's header what a Call has of it. Names are in lower case.
func (c *Call) note(name, value string) {
	switch name {
	case "x-request-id":
		c.RequestID = field(value)
	case "x-trace-id":
		if c.TraceID == "" {
			c.TraceID = field(value)
		}
	case "traceparent": // version-trace-parent-flags
		if parts := strings.Split(value[:min(len(value), maxField)], "-"); len(parts) >= 4 && len(parts[1]) == 32 {
			c.TraceID = strings.Clone(parts[1])
		}
	}
}
