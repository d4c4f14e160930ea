package store

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
)

func settings(t *testing.T, c *etcdtest.Cluster, defects ...defect.Name) config.Config {
	t.Helper()
	cfg, err := config.Parse(nil, ":0")
	require.NoError(t, err)
	cfg.Etcd = c.URLs()
	cfg.Defects = defect.Set{}
	for _, d := range defects {
		cfg.Defects[d] = true
	}
	return cfg
}

func open(t *testing.T, c *etcdtest.Cluster, defects ...defect.Name) *Store {
	t.Helper()
	cfg := settings(t, c, defects...)
	etcd, err := Client(t.Context(), cfg, zap.NewNop())
	require.NoError(t, err)
	s := New(etcd, cfg)
	t.Cleanup(func() {
		s.Close()
		_ = etcd.Close()
	})
	return s
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func rev(n int64) *int64 { return &n }

func TestRegisters(t *testing.T) {
	t.Parallel()
	s := open(t, etcdtest.Start(t, 1))
	ctx := within(t, 10*time.Second)

	_, err := s.GetRegister(ctx, "a", false)
	require.ErrorIs(t, err, ErrNotFound)
	first, err := s.PutRegister(ctx, "a", "1", rev(0))
	require.NoError(t, err)
	_, err = s.PutRegister(ctx, "a", "2", rev(0))
	require.ErrorIs(t, err, ErrConflict, "it must not exist, but does")
	second, err := s.PutRegister(ctx, "a", "2", rev(first.Revision))
	require.NoError(t, err)
	_, err = s.PutRegister(ctx, "a", "3", rev(first.Revision))
	require.ErrorIs(t, err, ErrConflict)
	got, err := s.GetRegister(ctx, "a", false)
	require.NoError(t, err)
	assert.Equal(t, Register{Key: "a", Value: "2", Revision: second.Revision}, got)
	third, err := s.PutRegister(ctx, "a", "3", nil)
	require.NoError(t, err)
	assert.Greater(t, third.Revision, second.Revision)
	got, err = s.GetRegister(ctx, "a", true)
	require.NoError(t, err)
	assert.Equal(t, third, got)
}

// losing is an etcd client that loses the answers to the first n transactions; before is called instead of the answer.
func losing(t *testing.T, c *etcdtest.Cluster, n int32, before func()) *Store {
	t.Helper()
	var left atomic.Int32
	left.Store(n)
	lose := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err == nil && method == "/etcdserverpb.KV/Txn" && left.Add(-1) >= 0 {
			before()
			return status.Error(codes.DeadlineExceeded, "the answer was lost")
		}
		return err
	}
	etcd, err := dial(c.URLs(), zap.NewNop(), grpc.WithChainUnaryInterceptor(lose))
	require.NoError(t, err)
	t.Cleanup(func() { _ = etcd.Close() })
	return New(etcd, settings(t, c))
}

// An answer that is lost leads to another attempt; the write must take effect once all the same.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	ctx := within(t, 20*time.Second)
	other := open(t, c)

	for _, expect := range []*int64{nil, rev(0)} {
		s := losing(t, c, 2, func() {})
		key := "plain"
		if expect != nil {
			key = "compared"
		}
		put, err := s.PutRegister(ctx, key, "mine", expect)
		require.NoError(t, err)
		got, err := other.GetRegister(ctx, key, false)
		require.NoError(t, err)
		assert.Equal(t, put, got, "the revision answered is that of the one write")
	}

	overwrite := func() {
		_, err := other.PutRegister(ctx, "raced", "theirs", nil)
		require.NoError(t, err)
	}
	_, err := losing(t, c, 1, overwrite).PutRegister(ctx, "raced", "mine", nil)
	require.ErrorIs(t, err, ErrOverwritten, "nobody can tell any more; writing again would undo what others wrote")
	got, err := other.GetRegister(ctx, "raced", false)
	require.NoError(t, err)
	assert.Equal(t, "theirs", got.Value)

	o, _, err := losing(t, c, 2, func() {}).CreateOrder(ctx, "key", "sku", 1, Accepted)
	require.NoError(t, err)
	again, _, err := other.CreateOrder(ctx, "key", "sku", 1, Accepted)
	require.NoError(t, err)
	assert.Equal(t, o, again)
	assert.EqualValues(t, 1, orders(t, c))
}

// A caller that goes away is no outage of the store; a call that was cancelled on the way to it is.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	s := losing(t, etcdtest.Start(t, 1), 1, leave)
	_, err := s.PutRegister(ctx, "r", "1", rev(0))
	require.ErrorIs(t, err, ErrAway, "it may have been applied")
	assert.Equal(t, codes.Canceled, Code(err), "%v", err)

	require.NoError(t, s.etcd.Close())
	err = s.Ping(within(t, 50*time.Millisecond))
	require.ErrorIs(t, err, ErrAway)
	assert.Equal(t, codes.Unavailable, Code(err), "%v", err)
}

func orders(t *testing.T, c *etcdtest.Cluster) int64 {
	t.Helper()
	resp, err := c.Client().Get(within(t, 10*time.Second), orderPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	require.NoError(t, err)
	return resp.Count
}

func TestNoIdempotency(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		defects []defect.Name
		want    int64
	}{{nil, 1}, {[]defect.Name{defect.NoIdempotency}, 2}} {
		c := etcdtest.Start(t, 1)
		s := open(t, c, test.defects...)
		ctx := within(t, 10*time.Second)
		first, made, err := s.CreateOrder(ctx, "key", "sku", 1, Accepted)
		require.NoError(t, err)
		second, again, err := s.CreateOrder(ctx, "key", "sku", 1, Accepted)
		require.NoError(t, err)
		assert.Equal(t, test.want == 1, first == second, "defects %v", test.defects)
		assert.True(t, made)
		assert.Equal(t, test.want == 2, again, "defects %v", test.defects)
		assert.Equal(t, test.want, orders(t, c), "defects %v", test.defects)
		_, _, err = s.CreateOrder(ctx, "key", "sku", 2, Accepted)
		if test.defects == nil {
			require.ErrorIs(t, err, ErrKeyReused)
		} else {
			require.NoError(t, err)
		}
		got, err := s.GetOrder(ctx, first.ID)
		require.NoError(t, err)
		assert.Equal(t, first, got)
	}
}

// Two replicas on one store: what one wrote, the other must know.
func TestStickyState(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		defects []defect.Name
		shared  bool
	}{{nil, true}, {[]defect.Name{defect.StickyState}, false}} {
		c := etcdtest.Start(t, 1)
		a, b := open(t, c, test.defects...), open(t, c, test.defects...)
		ctx := within(t, 10*time.Second)
		o, _, err := a.CreateOrder(ctx, "key", "sku", 1, Accepted)
		require.NoError(t, err)
		_, err = b.GetOrder(ctx, o.ID)
		assert.Equal(t, test.shared, err == nil, "defects %v: %v", test.defects, err)
		_, err = a.PutRegister(ctx, "r", "1", nil)
		require.NoError(t, err)
		_, err = b.PutRegister(ctx, "r", "2", nil)
		require.NoError(t, err)
		got, err := a.GetRegister(ctx, "r", false)
		require.NoError(t, err)
		assert.Equal(t, test.shared, got.Value == "2", "defects %v", test.defects)
	}
}

func TestAckEarly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		defects []defect.Name
		acked   bool
	}{{nil, false}, {[]defect.Name{defect.AckEarly}, true}} {
		c := etcdtest.Start(t, 1)
		s := open(t, c, test.defects...)
		require.NoError(t, s.Ping(within(t, 10*time.Second)))
		c.Members[0].Kill()
		_, err := s.PutRegister(within(t, 300*time.Millisecond), "r", "1", nil)
		assert.Equal(t, test.acked, err == nil, "defects %v: %v", test.defects, err)
		_, _, err = s.CreateOrder(within(t, 300*time.Millisecond), "key", "sku", 1, Accepted)
		assert.Equal(t, test.acked, err == nil, "defects %v: %v", test.defects, err)
		if !test.acked {
			require.ErrorIs(t, err, ErrAway)
		}
	}
}

// With one member of three left there is no quorum, so nobody can know what is written now.
func TestStaleRead(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 3)
	right, wrong := open(t, c), open(t, c, defect.StaleRead)
	_, err := right.PutRegister(within(t, 10*time.Second), "r", "1", nil)
	require.NoError(t, err)
	leader := c.Leader()
	leader.Kill()
	for _, m := range c.Members {
		if m != leader {
			m.Kill()
			break
		}
	}
	_, err = right.GetRegister(within(t, time.Second), "r", false)
	require.ErrorIs(t, err, ErrAway)
	require.Error(t, right.Ping(within(t, 300*time.Millisecond)))
	_, err = right.GetRegister(within(t, 2*time.Second), "r", true)
	require.NoError(t, err, "asked for what one member knows")
	got, err := wrong.GetRegister(within(t, 2*time.Second), "r", false)
	require.NoError(t, err)
	assert.Equal(t, "1", got.Value)
}

// The leader dies: all members but one are as good as before.
func TestSingleEndpoint(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 3)
	right, wrong := open(t, c), open(t, c, defect.SingleEndpoint)
	for _, s := range []*Store{right, wrong} {
		_, err := s.PutRegister(within(t, 10*time.Second), "r", "1", nil)
		require.NoError(t, err)
	}
	c.Leader().Kill()
	begin := time.Now()
	_, err := right.PutRegister(within(t, 10*time.Second), "r", "2", nil)
	require.NoError(t, err)
	t.Logf("written again %s after the leader's death", time.Since(begin).Round(time.Millisecond))
	_, err = wrong.PutRegister(within(t, time.Second), "r", "3", nil)
	require.ErrorIs(t, err, ErrAway)
}

// A store that does not answer keeps a request no longer than its deadline.
func TestNoDeadline(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		defects []defect.Name
		ends    bool
	}{{nil, true}, {[]defect.Name{defect.NoDeadline}, false}} {
		c := etcdtest.Start(t, 1)
		s := open(t, c, test.defects...)
		require.NoError(t, s.Ping(within(t, 10*time.Second)))
		c.Members[0].Kill()
		_, _ = s.etcd.Get(within(t, 300*time.Millisecond), pingKey) // finds the connection reset, which is an answer of a kind
		done := make(chan error, 1)
		go func() { done <- s.Ping(within(t, 300*time.Millisecond)) }()
		select {
		case err := <-done:
			require.ErrorIs(t, err, ErrAway)
			assert.True(t, test.ends, "defects %v", test.defects)
		case <-time.After(2 * time.Second):
			assert.False(t, test.ends, "defects %v", test.defects)
			_ = s.etcd.Close() // what is left ends with the connection
			require.Error(t, <-done)
		}
	}
}
