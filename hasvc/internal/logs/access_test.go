package logs

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

func watched(defects defect.Set) (Access, *observer.ObservedLogs) {
	core, seen := observer.New(zapcore.DebugLevel)
	return Access{Log: zap.New(core), Defects: defects}, seen
}

func ids(ctx context.Context) context.Context {
	return trace.WithRequest(trace.With(ctx, "t1"), "r1")
}

// messages of the lines, and the fields of the last.
func messages(t *testing.T, seen *observer.ObservedLogs) (out []string, last map[string]any) {
	t.Helper()
	for _, l := range seen.All() {
		out = append(out, l.Message)
		last = l.ContextMap()
		assert.Equal(t, "r1", last["requestId"])
		assert.Equal(t, "t1", last["traceId"])
	}
	return out, last
}

func TestHTTP(t *testing.T) {
	a, seen := watched(nil)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/orders", nil)
	a.HTTP("create_order", func(w http.ResponseWriter, r *http.Request) {
		var wg sync.WaitGroup
		wg.Go(func() { From(r.Context()).Info("in between") })
		wg.Wait()
		w.WriteHeader(http.StatusTeapot)
	}).ServeHTTP(w, r.WithContext(ids(r.Context())))
	lines, last := messages(t, seen)
	assert.Equal(t, []string{accepted, "in between", done}, lines)
	assert.EqualValues(t, http.StatusTeapot, last["status"])
	assert.Equal(t, "create_order", last["route"])
	assert.Equal(t, "POST", last["method"])
	assert.Contains(t, last, "seconds")
	assert.Equal(t, "t1", w.Header().Get(trace.Header))
	assert.Equal(t, "r1", w.Header().Get(trace.RequestHeader))
}

// A request that gets no answer is told apart.
func TestHTTPAborted(t *testing.T) {
	for name, handle := range map[string]func(leave func()){
		"panic":           func(func()) { panic(http.ErrAbortHandler) },
		"client has gone": func(leave func()) { leave() },
	} {
		t.Run(name, func(t *testing.T) {
			a, seen := watched(nil)
			ctx, leave := context.WithCancel(ids(t.Context()))
			defer leave()
			func() {
				defer func() { _ = recover() }() // as net/http does
				a.HTTP("x", func(http.ResponseWriter, *http.Request) { handle(leave) }).
					ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx))
			}()
			lines, last := messages(t, seen)
			assert.Equal(t, []string{accepted, aborted}, lines)
			assert.NotEmpty(t, last["error"])
		})
	}
}

func TestGRPC(t *testing.T) {
	for _, test := range []struct {
		method string
		err    error
		want   []string
	}{
		{"/inventory.v1.Inventory/Reserve", nil, []string{accepted, "in between", done}},
		{"/inventory.v1.Inventory/Reserve", status.Error(codes.Unavailable, "x"), []string{accepted, "in between", done}},
		{"/inventory.v1.Inventory/Reserve", status.Error(codes.Canceled, "x"), []string{accepted, "in between", aborted}},
		{"/grpc.health.v1.Health/Check", nil, nil},
	} {
		a, seen := watched(nil)
		_, err := a.Unary(ids(t.Context()), nil, &grpc.UnaryServerInfo{FullMethod: test.method}, func(ctx context.Context, _ any) (any, error) {
			From(ctx).Info("in between")
			return nil, test.err
		})
		require.ErrorIs(t, err, test.err)
		lines, last := messages(t, seen)
		assert.Equal(t, test.want, lines)

		a, seen = watched(nil)
		err = a.Stream(nil, stream{ctx: ids(t.Context())}, &grpc.StreamServerInfo{FullMethod: test.method}, func(_ any, s grpc.ServerStream) error {
			From(s.Context()).Info("in between")
			return test.err
		})
		require.ErrorIs(t, err, test.err)
		lines, _ = messages(t, seen)
		assert.Equal(t, test.want, lines)
		if len(test.want) > 0 && test.want[2] == done {
			assert.Equal(t, status.Code(test.err).String(), last["code"])
			assert.Equal(t, "Reserve", last["route"])
		}
	}
}

func TestLogNoTrace(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		a, seen := watched(defect.Set{defect.LogNoTrace: wrong})
		_, err := a.Unary(ids(t.Context()), nil, &grpc.UnaryServerInfo{FullMethod: "/x/Y"}, func(ctx context.Context, _ any) (any, error) {
			From(ctx).Info("in between")
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, 3, seen.Len())
		for _, l := range seen.All() {
			_, there := l.ContextMap()["traceId"]
			assert.Equal(t, wrong, !there, "%s", l.Message)
		}
	}
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }
