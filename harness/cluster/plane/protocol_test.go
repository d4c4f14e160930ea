package plane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane/httpwire"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// connected returns a client and a server that serves; both end with the test.
func connected(t *testing.T, notify func(string, json.RawMessage), hs map[string]Handler) (*Client, *Server, <-chan error) {
	mine, theirs, err := Pair()
	require.NoError(t, err)
	cc, err := NewConn(mine)
	require.NoError(t, err)
	sc, err := NewConn(theirs)
	require.NoError(t, err)
	s := NewServer(sc, hs)
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	c := NewClient(cc, notify)
	t.Cleanup(func() {
		c.Close()
		goleak.VerifyNone(t)
	})
	return c, s, served
}

func TestCallsCarryBodiesAndDescriptors(t *testing.T) {
	c, _, _ := connected(t, nil, map[string]Handler{
		"both": func(_ context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
			defer closeFiles(files)
			var name string
			if err := json.Unmarshal(body, &name); err != nil {
				return nil, nil, err
			}
			text, err := io.ReadAll(files[0])
			if err != nil {
				return nil, nil, err
			}
			r, w, err := os.Pipe()
			if err != nil {
				return nil, nil, err
			}
			_, err = fmt.Fprintf(w, "%s says %s", name, text)
			return "ok", []*os.File{r}, errors.Join(err, w.Close())
		},
	})
	r, w, err := os.Pipe()
	require.NoError(t, err)
	_, err = w.WriteString("hello")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	var out string
	files, err := c.Call(context.Background(), "both", "node-1", &out, r)
	require.NoError(t, err)
	require.NoError(t, r.Close(), "the caller keeps its own")
	require.Equal(t, "ok", out)
	require.Len(t, files, 1)
	text, err := io.ReadAll(files[0])
	require.NoError(t, err)
	require.NoError(t, files[0].Close())
	require.Equal(t, "node-1 says hello", string(text))
}

func TestManyDescriptorsAndTooMany(t *testing.T) {
	c, _, _ := connected(t, nil, map[string]Handler{
		"give": func(_ context.Context, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
			var n int
			if err := json.Unmarshal(body, &n); err != nil {
				return nil, nil, err
			}
			var fs []*os.File
			for range n {
				f, err := os.Open("/dev/null")
				if err != nil {
					return nil, fs, err
				}
				fs = append(fs, f)
			}
			return nil, fs, nil
		},
	})
	files, err := c.Call(context.Background(), "give", maxFiles, nil)
	require.NoError(t, err)
	require.Len(t, files, maxFiles)
	closeFiles(files)
	_, err = c.Call(context.Background(), "give", maxFiles+1, nil)
	require.ErrorContains(t, err, "could not be sent")
}

func TestAReplyThatIsTooLongIsAnError(t *testing.T) {
	c, _, _ := connected(t, nil, map[string]Handler{
		"much": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return strings.Repeat("x", maxMessage+1), nil, nil
		},
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := c.Call(ctx, "much", nil, nil)
	require.ErrorContains(t, err, "over the limit")
}

// TestCallsFitAMessage has every field as long as it can be, of bytes that JSON writes as six.
func TestCallsFitAMessage(t *testing.T) {
	field := strings.Repeat("<", 1<<10)
	o := newObserver()
	for range takeCalls + 1 {
		o.calls = append(o.calls, Call{From: "a", To: "b", Call: httpwire.Call{Method: field, Path: field, RequestID: field, TraceID: field}})
	}
	c, _, _ := connected(t, nil, (&Router{observer: o}).Handlers())
	r := RemoteRouter{c}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got, err := r.Calls(ctx)
	require.NoError(t, err)
	require.Len(t, got.Calls, takeCalls)
	require.True(t, got.More)
	got, err = r.Calls(ctx)
	require.NoError(t, err)
	require.Len(t, got.Calls, 1)
	require.Equal(t, field, got.Calls[0].Path)
}

func TestErrorsKeepTheirIdentity(t *testing.T) {
	c, _, _ := connected(t, nil, map[string]Handler{
		"errno": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return nil, nil, fmt.Errorf("dialling: %w", &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED})
		},
		"timeout": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return nil, nil, os.ErrDeadlineExceeded
		},
		"rule": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return nil, nil, fmt.Errorf("plane: %w", &cluster.UnknownRuleError{ID: 7})
		},
		"panic": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) { panic("oh") },
	})
	_, err := c.Call(context.Background(), "errno", nil, nil)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NotErrorIs(t, err, syscall.ECONNRESET)
	require.EqualError(t, err, "dialling: connect: connection refused")
	var re *RemoteError
	require.ErrorAs(t, err, &re)
	_, err = c.Call(context.Background(), "timeout", nil, nil)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.False(t, errors.As(err, new(*cluster.UnknownRuleError)))
	_, err = c.Call(context.Background(), "rule", nil, nil)
	var unknown *cluster.UnknownRuleError
	require.ErrorAs(t, err, &unknown)
	require.EqualValues(t, 7, unknown.ID)
	_, err = c.Call(context.Background(), "panic", nil, nil)
	require.ErrorContains(t, err, "panicked: oh")
	_, err = c.Call(context.Background(), "nosuch", nil, nil)
	require.ErrorContains(t, err, `no method "nosuch"`)
}

func TestBigMessages(t *testing.T) {
	c, _, _ := connected(t, nil, map[string]Handler{
		"echo": func(_ context.Context, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
			return body, nil, nil
		},
	})
	for _, n := range []int{0, 1, maxDatagram - 100, maxDatagram, 3*maxDatagram + 17, 5 << 20} {
		in := strings.Repeat("x", n)
		var wg sync.WaitGroup
		for range 3 { // beside one another: their datagrams must not mix
			wg.Go(func() {
				var out string
				_, err := c.Call(context.Background(), "echo", in, &out)
				if err != nil || out != in {
					t.Errorf("%d bytes came back as %d: %v", n, len(out), err)
				}
			})
		}
		wg.Wait()
	}
	_, err := c.Call(context.Background(), "echo", strings.Repeat("x", maxMessage), nil)
	require.ErrorContains(t, err, "over the limit")
	_, err = c.Call(context.Background(), "echo", "", nil)
	require.NoError(t, err, "the connection has outlived it")
}

func TestCancel(t *testing.T) {
	var cancelled atomic.Int32
	c, _, _ := connected(t, nil, map[string]Handler{
		"hang": func(ctx context.Context, _ json.RawMessage, _ []*os.File) (any, []*os.File, error) {
			<-ctx.Done()
			cancelled.Add(1)
			return nil, nil, ctx.Err()
		},
		"deaf": func(ctx context.Context, _ json.RawMessage, _ []*os.File) (any, []*os.File, error) {
			<-ctx.Done()
			return "done all the same", nil, nil
		},
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := c.Call(ctx, "hang", nil, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, int32(1), cancelled.Load(), "the handler has heard of it")

	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	var out string
	_, err = c.Call(ctx, "deaf", nil, &out)
	require.NoError(t, err, "what was done is no error")
	require.Equal(t, "done all the same", out)
	_, err = c.Call(ctx, "hang", nil, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestThePeersDeathEndsEveryCall(t *testing.T) {
	started := make(chan struct{}, 10)
	c, s, served := connected(t, nil, map[string]Handler{
		"hang": func(ctx context.Context, _ json.RawMessage, _ []*os.File) (any, []*os.File, error) {
			started <- struct{}{}
			<-ctx.Done()
			return nil, nil, ctx.Err()
		},
	})
	errs := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := c.Call(context.Background(), "hang", nil, nil)
			errs <- err
		}()
	}
	for range 10 {
		<-started
	}
	require.NoError(t, s.conn.Close())
	for range 10 {
		require.ErrorIs(t, <-errs, ErrGone)
	}
	<-c.Done()
	require.ErrorIs(t, c.Err(), ErrGone)
	_, err := c.Call(context.Background(), "hang", nil, nil)
	require.ErrorIs(t, err, ErrGone)
	require.NoError(t, <-served, "Serve has waited for its handlers")
}

// dying is a Conn whose peer has died, which shows to who sends and then to who receives.
type dying struct{ ended chan struct{} }

func (d dying) Send([]byte, []*os.File) error {
	time.AfterFunc(20*time.Millisecond, func() { close(d.ended) })
	return &net.OpError{Op: "write", Err: os.NewSyscallError("sendmsg", syscall.EPIPE)}
}

func (d dying) Recv() ([]byte, []*os.File, error) {
	<-d.ended
	return nil, nil, io.EOF
}

func (d dying) Close() error { return nil }

func TestACallOfADeadPlaneSaysSo(t *testing.T) {
	c := NewClient(dying{make(chan struct{})}, nil)
	_, err := c.Call(context.Background(), "any", nil, nil)
	require.ErrorIs(t, err, ErrGone)
	require.NoError(t, c.Close())
}

func TestTheHarnessDeathEndsServe(t *testing.T) {
	c, _, served := connected(t, nil, map[string]Handler{})
	require.NoError(t, c.Close())
	require.NoError(t, <-served)
}

func TestNotifications(t *testing.T) {
	var mu sync.Mutex
	var got []string
	var c *Client
	ready, all := make(chan struct{}), make(chan struct{})
	c, s, _ := connected(t, func(topic string, body json.RawMessage) {
		<-ready
		// An observer may call the plane, whose answers do not wait behind notifications.
		if _, err := c.Call(context.Background(), "ok", nil, nil); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if got = append(got, topic+string(body)); len(got) == 100 {
			close(all)
		}
	}, map[string]Handler{
		"ok": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) { return nil, nil, nil },
	})
	for i := range 100 {
		require.NoError(t, s.Notify("n", i))
	}
	close(ready)
	<-all
	for i, g := range got {
		require.Equal(t, fmt.Sprintf("n%d", i), g)
	}
}

// FuzzRecv feeds the client's side with datagrams of a peer that has gone mad.
func FuzzRecv(f *testing.F) {
	f.Add([]byte{1, '{', '}'})
	f.Add([]byte{0, 'x'})
	f.Add([]byte(`` + "\x01" + `{"k":"reply","id":1,"b":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		mine, theirs, err := Pair()
		require.NoError(t, err)
		conn, err := NewConn(mine)
		require.NoError(t, err)
		c := NewClient(conn, func(string, json.RawMessage) {})
		for part := range bytes.SplitSeq(b, []byte{0xff}) {
			_, _ = theirs.Write(part)
		}
		theirs.Close()
		<-c.Done()
		require.ErrorIs(t, c.Err(), ErrGone)
		c.Close()
	})
}
