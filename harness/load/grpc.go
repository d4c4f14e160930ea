package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// calls sends gRPC calls where transport sends HTTP requests: it too stands behind vegeta, whose worker waits until the call has
// ended. A stream is one request, and its latency goes to its end.
type calls struct {
	src       source
	set       *replicas.Set
	timeout   time.Duration
	keepAlive bool
	methods   map[string]*method // by the id of the template
	types     *dynamicpb.Types

	mu      sync.Mutex
	clients map[string]*client // by node
	sent    map[uint64]*call
	open    sync.WaitGroup // clients that serve one call
}

// method is what a template calls.
type method struct {
	path   string
	desc   protoreflect.MethodDescriptor
	shape  plan.Stream
	expect *expect
	last   atomic.Pointer[encoded]
}

// encoded is a message in both forms: most templates make the same one again and again.
type encoded struct{ json, wire []byte }

// client is a gRPC connection to one replica.
type client struct {
	*grpc.ClientConn
	pool *replicas.Pool
	node string
}

// httpForm is a call in the form of an HTTP request, whose templates have all that a call needs.
func httpForm(rs []plan.Request) []plan.Request {
	var out []plan.Request
	for _, r := range rs {
		out = append(out, plan.Request{ID: r.ID, Weight: r.Weight, Method: http.MethodPost, Path: "/" + r.Call, Headers: r.Metadata, Body: r.Message, Expect: r.Expect})
	}
	return out
}

// newCalls asks the service for its descriptors, unless there is a file of them, and tries to make each message.
func newCalls(l plan.Load, src *templates, set *replicas.Set) (_ *calls, err error) {
	t := &calls{src: src, set: set, timeout: l.Timeout.D(), keepAlive: l.KeepAlive, methods: map[string]*method{}, clients: map[string]*client{}, sent: map[uint64]*call{}}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	var names, services []string
	for _, r := range l.Requests {
		names = append(names, r.Call)
		service, _, _ := strings.Cut(r.Call, "/")
		services = append(services, service)
	}
	var files *protoregistry.Files
	if l.GRPC.Descriptors != "" {
		files, err = readDescriptors(l.GRPC.Descriptors)
	} else {
		files, err = t.reflect(services)
	}
	if err != nil {
		return nil, err
	}
	t.types = dynamicpb.NewTypes(files)
	found, err := describe(files, names)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, r := range l.Requests {
		m := &method{path: "/" + r.Call, desc: found[r.Call], expect: src.expects[i]}
		if r.Stream != nil {
			m.shape = *r.Stream
		}
		errs = append(errs, m.fits(src.kinds[i]))
		t.methods[src.kinds[i]] = m
		sample, err := src.sample(i)
		if err == nil {
			_, err = t.encode(m, sample.body)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("request %s: %w", src.kinds[i], err))
		}
	}
	return t, errors.Join(errs...)
}

// fits says whether the method is of the kind that the template asks for.
func (m *method) fits(id string) error {
	switch {
	case m.shape.Send > 1 && !m.desc.IsStreamingClient():
		return fmt.Errorf("request %s: %s takes one message, not %d", id, m.path[1:], m.shape.Send)
	case m.shape.Receive > 1 && !m.desc.IsStreamingServer():
		return fmt.Errorf("request %s: %s answers with one message, not %d", id, m.path[1:], m.shape.Receive)
	}
	return nil
}

func (t *calls) reflect(services []string) (*protoregistry.Files, error) {
	node, err := t.set.Next()
	if err != nil {
		return nil, err
	}
	c, err := t.connect(node)
	if err != nil {
		return nil, err
	}
	defer c.end()
	return reflected(context.Background(), c.ClientConn, services)
}

// connect makes a client of one replica. It dials when it is needed.
func (t *calls) connect(n cluster.NodeInfo) (*client, error) {
	pool := t.set.PoolTo(n, t.timeout)
	conn, err := grpc.NewClient("passthrough:///"+t.set.Address(n),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pool.Dial(ctx, "", "") }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(t.set.Host()), grpc.WithNoProxy(),
		// A load sends each request once. gRPC still moves one to another connection of which it knows that the server has not begun on it.
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		// An answer may be of any size, as with HTTP. Beyond gRPC's own 4 MiB the call would end here, as if its connection had broken.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithStatsHandler(watcher{}), grpc.WithIdleTimeout(0),
		// With gRPC's own back-off of a second a replica that comes back is not used for as long.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: t.timeout,
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 200 * time.Millisecond}}),
	)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("connecting to %s: %w", n.Name, err)
	}
	return &client{conn, pool, n.Name}, nil
}

func (c *client) end() {
	_ = c.Close() // it says whether it was closed before
	c.pool.Close()
}

// client is the connection for a call, and what to do when the call has ended.
func (t *calls) client() (*client, func(), error) {
	node, err := t.set.Next()
	if err != nil {
		return nil, nil, err
	}
	if !t.keepAlive {
		c, err := t.connect(node)
		if err != nil {
			return nil, nil, err
		}
		// The connection's own end is not part of the call's time.
		return c, func() { t.open.Go(c.end) }, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.clients[node.Name]
	if c == nil {
		if c, err = t.connect(node); err != nil {
			return nil, nil, err
		}
		t.clients[node.Name] = c
	}
	return c, func() {}, nil
}

func (t *calls) close() {
	t.open.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.clients {
		c.end()
	}
}

func (t *calls) done(seq uint64) call {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.sent[seq]
	delete(t.sent, seq)
	if c == nil {
		return call{}
	}
	return *c
}

// encode makes the wire form of a message that a template made in JSON.
func (t *calls) encode(m *method, js []byte) ([]byte, error) {
	if last := m.last.Load(); last != nil && bytes.Equal(last.json, js) {
		return last.wire, nil
	}
	msg := dynamicpb.NewMessage(m.desc.Input())
	if len(js) > 0 {
		if err := (protojson.UnmarshalOptions{Resolver: t.types}).Unmarshal(js, msg); err != nil {
			return nil, fmt.Errorf("the message is no %s: %w", m.desc.Input().FullName(), err)
		}
	}
	wire, err := proto.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("encoding the message: %w", err)
	}
	m.last.Store(&encoded{bytes.Clone(js), wire})
	return wire, nil
}

// RoundTrip is http.RoundTripper. The answer has the status that HTTP has for the call's.
func (t *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	seq, err := strconv.ParseUint(r.Header.Get("X-Vegeta-Seq"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("a request without a sequence number: %w", err)
	}
	c := &call{}
	t.mu.Lock()
	t.sent[seq] = c
	t.mu.Unlock()
	msg, err := t.src.message(seq)
	if err != nil {
		c.outcome = record.Missed
		return nil, err
	}
	m := t.methods[msg.kind]
	wire, err := t.encode(m, msg.body)
	if err != nil {
		c.outcome = record.Missed
		return nil, err
	}
	conn, release, err := t.client()
	if err != nil {
		c.outcome = record.Refused
		return nil, err
	}
	defer release()
	c.node = conn.node
	ctx, cancel := context.WithTimeout(r.Context(), t.timeout)
	defer cancel()
	w := &watch{}
	ctx = context.WithValue(metadata.NewOutgoingContext(ctx, metadataOf(msg)), watchKey{}, w)
	e := &exchange{call: c, method: m, wire: wire}
	err = e.run(ctx, conn.ClientConn)
	c.retryAfter = w.answered.Load() && e.retryAfter()
	code, ofHTTP := status.Code(err), httpAnswer(err)
	switch {
	case e.enough:
		code = codes.OK // the client has what it wanted, and ended the stream
	case w.answered.Load():
	case ofHTTP > 0:
		c.outcome = record.Answered
		c.said = fmt.Sprintf("status %d of HTTP, and none of gRPC", ofHTTP)
		return answered(r, ofHTTP, nil), nil
	case code == codes.DeadlineExceeded && !w.begun.Load():
		c.outcome = record.Refused
		return nil, fmt.Errorf("no connection within %v", t.timeout)
	case code == codes.DeadlineExceeded:
		c.outcome = record.Deadline
		return nil, context.DeadlineExceeded
	case !w.begun.Load(), untaken(err):
		c.outcome = record.Refused
		return nil, errors.New(status.Convert(err).Message())
	default:
		c.outcome = record.Reset
		return nil, fmt.Errorf("%w: %s", errLost, status.Convert(err).Message())
	}
	c.outcome = record.Answered
	n := int(code)
	c.grpc = &n
	c.said = status.Convert(err).Message()
	if code == codes.OK && m.shape.Receive > e.received {
		c.short = fmt.Sprintf("%d messages, not %d", e.received, m.shape.Receive)
	}
	text, err := e.text(t.types)
	if err != nil {
		return nil, err
	}
	return answered(r, httpStatus(code), text), nil
}

func answered(r *http.Request, code int, text []byte) *http.Response {
	return &http.Response{StatusCode: code, Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), Request: r}
}

// httpAnswer is the code of an answer that is no gRPC, such as a proxy's own 503, or 0. gRPC tells it apart from a connection that broke
// by the words of its status alone; no InTrailer comes with it.
func httpAnswer(err error) (code int) {
	if n, _ := fmt.Sscanf(status.Convert(err).Message(), "unexpected HTTP status code received from server: %d", &code); n == 0 {
		return 0
	}
	return code
}

// untaken reports whether the server said that it has not begun on the call, by REFUSED_STREAM or by a GOAWAY that leaves it out (RFC 9113,
// 8.7). gRPC sends such a call once more; of the second time only the words tell.
func untaken(err error) bool {
	switch status.Convert(err).Message() {
	case "stream terminated by RST_STREAM with error code: REFUSED_STREAM", "the connection is draining":
		return true
	}
	return false
}

// metadataOf is a message's header as metadata, with the request's id unless the template says another one.
func metadataOf(m *message) metadata.MD {
	md := metadata.MD{}
	for name, values := range m.header {
		if name != "Content-Type" { // of a body in JSON, which this is not
			md.Append(name, values...)
		}
	}
	if len(md.Get(requestID)) == 0 {
		md.Set(requestID, m.id)
	}
	return md
}

// exchange is one call under way.
type exchange struct {
	call     *call
	method   *method
	wire     []byte
	stream   grpc.ClientStream
	received int
	enough   bool // it was ended by the client, who had received what it wanted
	kept     [][]byte
	size     int
}

// run returns the call's status as an error.
func (e *exchange) run(ctx context.Context, conn *grpc.ClientConn) error {
	d, shape := e.method.desc, e.method.shape
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the sender is waited for
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer()}, e.method.path, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		return err
	}
	e.stream = s
	if max(1, shape.Send) == 1 {
		err = e.send(ctx, 1)
	} else {
		var sending sync.WaitGroup
		defer sending.Wait()
		defer cancel()
		sending.Go(func() { _ = e.send(ctx, shape.Send) }) // the call's status comes with what is received
	}
	if err != nil && err != io.EOF {
		return err
	}
	for {
		var b []byte
		switch err := s.RecvMsg(&b); {
		case err == io.EOF:
			// Of a call that was moved, and whose next connection turned it away while it was being written there, gRPC says EOF, as of one that
			// went well. Asked again, it says how the call ended.
			if err := s.RecvMsg(&b); err != io.EOF {
				return err
			}
			return nil
		case err != nil:
			return err
		}
		e.received++
		e.call.got += uint64(len(b))
		if e.method.expect.matches != nil && e.size+len(b) <= maxBody {
			e.kept, e.size = append(e.kept, b), e.size+len(b)
		}
		if !d.IsStreamingServer() {
			return nil
		}
		if e.received == shape.Receive {
			// The end may be on its way; who ends a stream that goes on cannot wait for it.
			e.enough = true
			return nil
		}
	}
}

func (e *exchange) send(ctx context.Context, n int) error {
	for i := range n {
		if i > 0 && e.method.shape.Pause > 0 {
			t := time.NewTimer(e.method.shape.Pause.D())
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			}
		}
		if err := e.stream.SendMsg(&e.wire); err != nil {
			return err
		}
		e.call.bytes += len(e.wire)
	}
	return e.stream.CloseSend()
}

// retryAfter reports whether the answer, which must be there, says when to come again, in HTTP's words or gRPC's.
func (e *exchange) retryAfter() bool {
	if e.stream == nil || e.enough {
		return false
	}
	header, err := e.stream.Header() // it does not wait: the call has ended
	return err == nil && len(header.Get("retry-after")) > 0 || again(e.stream.Trailer())
}

// again reports whether an answer's trailer says when to come again. A pushback that is negative or no number says: do not
// (gRPC proposal A6).
func again(t metadata.MD) bool {
	if len(t.Get("retry-after")) > 0 {
		return true
	}
	after := t.Get("grpc-retry-pushback-ms")
	if len(after) == 0 {
		return false
	}
	_, err := strconv.ParseUint(after[0], 10, 32)
	return err == nil
}

// text is what was received as JSON, a line each, for expect.matches.
func (e *exchange) text(types *dynamicpb.Types) ([]byte, error) {
	var out []byte
	for _, b := range e.kept {
		msg := dynamicpb.NewMessage(e.method.desc.Output())
		if err := proto.Unmarshal(b, msg); err != nil {
			return nil, fmt.Errorf("the answer is no %s: %w", e.method.desc.Output().FullName(), err)
		}
		js, err := protojson.MarshalOptions{Resolver: types}.Marshal(msg)
		if err != nil {
			return nil, fmt.Errorf("the answer: %w", err)
		}
		// protojson spaces its output differently from one build to the next, so that nobody depends on it.
		var one bytes.Buffer
		if err := json.Compact(&one, js); err != nil {
			return nil, err
		}
		out = append(append(out, one.Bytes()...), '\n')
	}
	return out, nil
}

// watch is what gRPC tells of a call.
type watch struct {
	begun    atomic.Bool // its headers were handed to a connection, and may have left
	answered atomic.Bool // the server ended it
}

type watchKey struct{}

// watcher is a stats.Handler. A status alone does not say who made it: UNAVAILABLE may be the server's word, or the client's for a
// connection that broke.
type watcher struct{}

// TagRPC is part of stats.Handler.
func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC is part of stats.Handler.
func (watcher) HandleRPC(ctx context.Context, s stats.RPCStats) {
	w, ok := ctx.Value(watchKey{}).(*watch)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		if s.IsTransparentRetryAttempt {
			w.begun.Store(false) // gRPC knows that the server has not begun on the attempt before
		}
	case *stats.OutHeader:
		w.begun.Store(true)
	case *stats.InTrailer:
		w.answered.Store(true)
	}
}

// TagConn is part of stats.Handler.
func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is part of stats.Handler.
func (watcher) HandleConn(context.Context, stats.ConnStats) {}

// bytesCodec passes messages that are encoded already.
type bytesCodec struct{}

// Marshal is part of encoding.Codec.
func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

// Unmarshal is part of encoding.Codec. The buffer is gRPC's own.
func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// Name is part of encoding.Codec: what goes over the wire is protobuf.
func (bytesCodec) Name() string { return "proto" }

// httpStatus is what HTTP has for a gRPC status (google/rpc/code.proto), so that who reads HTTP's codes reads a gRPC load.
func httpStatus(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.Canceled:
		return 499
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
