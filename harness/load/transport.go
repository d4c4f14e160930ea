package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// errLost ends a request whose connection broke before the answer.
var errLost = errors.New("connection lost before the answer")

// transport sends the message of each sequence number that vegeta asks for. vegeta's own request is a placeholder: its Targeter is not told
// the sequence number, but the request has it in a header.
type transport struct {
	src     source
	timeout time.Duration
	host    string
	wire    wire

	mu    sync.Mutex
	calls map[uint64]*call // sent, not yet collected by done
}

// wire carries requests over connections that it owns.
type wire interface {
	// send sends a request once, and notes which connection it went on. It may do so again on another one if the server
	// certainly has not begun on it.
	send(r *http.Request, seq uint64, c *call) (*http.Response, error)
	// close ends what is still open, and waits for it.
	close()
}

// call is what is known of one request beside vegeta's result.
type call struct {
	conn       *replicas.Conn
	mark       int64 // what conn had sent before this request
	shared     bool  // conn carries others at the same time
	untaken    bool  // the server said that it has not begun on it
	stop       context.CancelFunc
	lost       error // why it was ended though an attempt was left
	node       string
	bytes      int // of the body, which may not have left
	got        uint64
	outcome    record.Ending
	retryAfter bool

	grpc  *int   // the status of a gRPC call, if the server made it
	said  string // with the status, or of an answer without one
	short string // why an answer that is otherwise good is not
}

// sender sends the requests of a load, each when vegeta asks for it.
type sender interface {
	http.RoundTripper
	// done returns what is known of a request that has ended, and forgets it.
	done(seq uint64) call
	// close ends what is still open, and waits for it.
	close()
}

func newTransport(src source, set *replicas.Set, l plan.Load) *transport {
	t := &transport{src: src, timeout: l.Timeout.D(), host: set.Host(), calls: map[uint64]*call{}}
	if l.HTTP2 {
		t.wire = newHTTP2(set, l)
	} else {
		t.wire = newHTTP1(set, l)
	}
	return t
}

func (t *transport) close() { t.wire.close() }

// RoundTrip is http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	seq, err := strconv.ParseUint(r.Header.Get("X-Vegeta-Seq"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("a request without a sequence number: %w", err)
	}
	c := &call{}
	t.mu.Lock()
	t.calls[seq] = c
	t.mu.Unlock()
	m, err := t.src.message(seq)
	if err != nil {
		c.outcome = record.Missed
		return nil, err
	}
	c.bytes = len(m.body)

	// The deadline stands here and not in http.Client.Timeout, which starts a goroutine for each request of a
	// transport that it does not know.
	ctx, cancel := context.WithTimeout(r.Context(), t.timeout)
	c.stop = cancel
	resp, err := t.wire.send(t.request(ctx, m), seq, c)
	if err != nil {
		cancel()
		if d := (*replicas.DialError)(nil); errors.As(err, &d) {
			c.node = d.Node
		}
		late := timeout(err)
		c.outcome = c.ending(late)
		if late {
			err = context.DeadlineExceeded
			if c.conn == nil {
				err = fmt.Errorf("no connection within %v", t.timeout)
			}
		}
		return nil, err
	}
	c.outcome = record.Answered
	c.retryAfter = resp.Header.Get("Retry-After") != ""
	resp.Header.Del("Location") // http.Client would follow it, and one that it cannot read it would take for no answer
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the bare connection, which ends with no deadline of the request; the answer is its head.
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	resp.Body = &body{resp.Body, c}
	return resp, nil
}

func timeout(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// ending tells a request that failed before anything of it was written, or that the server turned away, from one that the service may
// have begun on. The connection counts its bytes; httptrace's WroteHeaders comes before they have left http.Transport's buffer. On a
// shared connection those of the others count too, and a request that is out of time may still leave, which nobody waits for: in doubt
// the service has begun.
func (c *call) ending(late bool) record.Ending {
	if c.conn == nil || c.untaken {
		return record.Refused
	}
	if !c.shared {
		c.conn.Refuse() // http.Transport closes it, but may not have done so yet
	}
	switch {
	case c.shared && late:
		return record.Deadline
	case c.conn.Sent() == c.mark:
		return record.Refused
	case late:
		return record.Deadline
	}
	return record.Reset
}

func (t *transport) request(ctx context.Context, m *message) *http.Request {
	u := *m.url
	u.Scheme, u.Host = "http", t.host
	r := (&http.Request{Method: m.method, URL: &u, Host: t.host, Header: withID(m.header, m.id), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if h := m.header.Get("Host"); h != "" {
		r.Host = h
	}
	if len(m.body) > 0 {
		r.Body, r.GetBody = copyOf(m.body)
		r.ContentLength = int64(len(m.body))
	}
	return r
}

// requestID is the header by which a request is known at every hop it passes, and in their logs.
const requestID = "X-Request-Id"

// withID is the header with the request's id, unless the template says another one. Headers without a template are shared by all
// requests, so it is a copy.
func withID(h http.Header, id string) http.Header {
	out := make(http.Header, len(h)+1)
	for name, v := range h {
		if strings.EqualFold(name, requestID) {
			return h
		}
		out[name] = v
	}
	out[requestID] = []string{id}
	return out
}

// done returns what is known of a request that has ended, and forgets it.
func (t *transport) done(seq uint64) call {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.calls[seq]
	delete(t.calls, seq)
	if c == nil {
		return call{}
	}
	return *c
}

// body counts what is read of an answer and ends the request's deadline when it is closed.
type body struct {
	io.ReadCloser
	call *call
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.call.got += uint64(n)
	if err != nil && err != io.EOF {
		b.call.outcome = b.call.ending(timeout(err))
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.call.stop()
	return err
}

// reason says in a few words why a request failed. text is vegeta's, after what http.Client puts before it.
func reason(text string, timeout time.Duration) string {
	text = strings.TrimPrefix(text, fmt.Sprintf("Get %q: ", placeholder))
	if text == context.DeadlineExceeded.Error() {
		return fmt.Sprintf("no answer within %v", timeout)
	}
	return text
}

// placeholder is the URL that vegeta believes it attacks.
const placeholder = "http://load/"
