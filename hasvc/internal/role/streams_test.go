package role

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/inventoryv1"
	"github.com/hasvc/gauntlet/hasvc/internal/store"
)

type stockLine struct {
	Level    int64  `json:"level"`
	Revision int64  `json:"revision"`
	End      string `json:"end"`
	After    int64  `json:"after"`
}

// listen reads a stream of the gateway; the channel is closed at its end, and broken then says whether that was a proper one.
func (r *running) listen(path string) (lines <-chan stockLine, broken func() bool) {
	r.t.Helper()
	resp, err := http.Get("http://" + r.HTTP + path) //nolint:noctx // it ends with the test's gateway
	require.NoError(r.t, err)
	require.Equal(r.t, http.StatusOK, resp.StatusCode)
	out := make(chan stockLine, 1000)
	var failed error
	go func() {
		defer close(out)
		defer resp.Body.Close()
		s := bufio.NewScanner(resp.Body)
		for s.Scan() {
			var l stockLine
			if failed = json.Unmarshal(s.Bytes(), &l); failed != nil {
				return
			}
			out <- l
		}
		failed = s.Err()
	}()
	return out, func() bool { return failed != nil }
}

// next is the stream's next line.
func next(t *testing.T, lines <-chan stockLine) (l stockLine) {
	t.Helper()
	more := false
	select {
	case l, more = <-lines:
		require.True(t, more, "the stream has ended")
	case <-time.After(soon):
		require.Fail(t, "the stream's next line does not come")
	}
	return l
}

func (r *running) order(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() bool {
		code, _ := r.askWith(http.MethodPost, "/orders", `{"sku":"a","quantity":1}`, "Idempotency-Key", fmt.Sprint("order-", n))
		return code == http.StatusCreated
	}, "order %d is not made", n)
}

// A stream goes through two services, whose replicas are replaced one by one, and then its gateway is: no change is missing and
// none comes twice.
func TestStreamCut(t *testing.T) {
	each(t, defect.StreamCut, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		set := func(c *config.Config) {
			c.Inventory, c.Shutdown = true, 500*time.Millisecond
		}
		replicas := map[string]*running{}
		for _, name := range []string{"inventory", "orders"} {
			replicas[name] = start(t, name, etcd.URLs(), set, defects...)
			replicas[name].waitReady()
		}
		g := start(t, "gateway", etcd.URLs(), set, defects...)
		g.waitReady()
		g.order(t, 0)
		lines, broken := g.listen("/stream/stock/a")
		first := next(t, lines) // the level when the stream has begun; what is ordered from now on is a line each
		require.Equal(t, store.InitialStock("a")-1, first.Level)
		made := 1
		for _, name := range []string{"inventory", "orders"} {
			g.order(t, made)
			made++
			other := start(t, name, etcd.URLs(), set, defects...)
			other.waitReady()
			eventually(t, func() bool { return len(entries(t, etcd.Client(), name)) == 2 }, "the second replica is not found")
			err := replicas[name].stop()
			if wrong {
				require.Error(t, err, "its streams do not end by themselves")
				for range lines {
				}
				assert.True(t, broken(), "the client's stream is cut off")
				return
			}
			require.NoError(t, err)
			g.order(t, made)
			made++
		}
		want, last := first.Level-1, first.Revision
		for range made - 1 {
			l := next(t, lines)
			assert.Equal(t, want, l.Level)
			assert.Greater(t, l.Revision, last)
			want, last = want-1, l.Revision
		}
		require.NoError(t, g.stop())
		end := next(t, lines)
		assert.NotEmpty(t, end.End)
		assert.Equal(t, last, end.After)
		_, more := <-lines
		assert.False(t, more)
		assert.False(t, broken(), "a proper end")

		other := start(t, "gateway", etcd.URLs(), set)
		other.waitReady()
		lines, _ = other.listen(fmt.Sprint("/stream/stock/a?after=", end.After))
		other.order(t, made)
		assert.Equal(t, want, next(t, lines).Level, "the next change, and not one that was seen")
	})
}

// An edge hands on how a gateway ends a stream. When it stops itself it waits for those that end, and cuts the others, which it cannot end.
func TestStreamsThroughTheEdge(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	set := func(c *config.Config) {
		c.Inventory, c.Shutdown = true, 2*time.Second
	}
	replicas := map[string]*running{}
	for _, name := range []string{"inventory", "orders", "gateway", "edge"} {
		replicas[name] = start(t, name, etcd.URLs(), set)
		replicas[name].waitReady()
	}
	other := start(t, "edge", etcd.URLs(), set)
	other.waitReady()

	asked, askedBroken := replicas["edge"].listen("/stream/stock/a?for=1s")
	endless, endlessBroken := replicas["edge"].listen("/stream/stock/a")
	next(t, asked)
	next(t, endless)
	require.NoError(t, replicas["edge"].stop(), "it stops in time all the same")
	assert.Contains(t, next(t, asked).End, "as long as was asked")
	_, more := <-asked
	assert.False(t, more)
	assert.False(t, askedBroken())
	_, more = <-endless
	assert.False(t, more, "it has no end, which would be taken for one")
	assert.True(t, endlessBroken())

	lines, broken := other.listen("/stream/stock/a")
	next(t, lines)
	require.NoError(t, replicas["gateway"].stop())
	assert.Contains(t, next(t, lines).End, "this replica is about to stop")
	_, more = <-lines
	assert.False(t, more)
	assert.False(t, broken())
}

// A stream lives longer than a server gives a client for its request, through every hop.
func TestStreamLives(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	for _, name := range []string{"inventory", "orders", "gateway"} {
		start(t, name, etcd.URLs(), withInventory).waitReady()
	}
	e := start(t, "edge", etcd.URLs(), nil)
	e.waitReady()
	e.order(t, 0)
	lines, broken := e.listen("/stream/stock/a")
	first := next(t, lines)
	time.Sleep(readTimeout + 500*time.Millisecond) // that long, and not until anything
	e.order(t, 1)
	l := next(t, lines)
	assert.Equal(t, first.Level-1, l.Level, "broken: %v", l.End)
	assert.False(t, broken())
}

func inventoryAt(t *testing.T, r *running) inventoryv1.InventoryClient {
	t.Helper()
	conn, err := grpc.NewClient(r.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return inventoryv1.NewInventoryClient(conn)
}

// Streams that carry something to the server are told to go on elsewhere, too; what was not answered is sent again, and is
// applied once.
func TestStreamsToTheServer(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a, b := start(t, "inventory", etcd.URLs(), nil), start(t, "inventory", etcd.URLs(), nil)
	a.waitReady()
	b.waitReady()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	one, two := &inventoryv1.Adjustment{Id: "1", Sku: "a", Delta: 5}, &inventoryv1.Adjustment{Id: "2", Sku: "a", Delta: 7}

	at := inventoryAt(t, a)
	adjust, err := at.Adjust(ctx)
	require.NoError(t, err)
	require.NoError(t, adjust.Send(one))
	got, err := adjust.Recv()
	require.NoError(t, err)
	assert.Equal(t, store.InitialStock("a")+5, got.GetStock().GetLevel())
	restock, err := at.Restock(ctx)
	require.NoError(t, err)
	require.NoError(t, restock.Send(two))
	level := func() int64 {
		l, err := inventoryAt(t, b).Level(ctx, &inventoryv1.LevelRequest{Sku: "a"})
		require.NoError(t, err)
		return l.GetLevel()
	}
	eventually(t, func() bool { return level() == store.InitialStock("a")+12 }, "not restocked")

	stopped := make(chan error, 1)
	go func() { stopped <- a.stop() }()
	_, err = adjust.Recv()
	assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	assert.Contains(t, err.Error(), "resume")
	err = restock.RecvMsg(&inventoryv1.RestockReply{})
	assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.NoError(t, <-stopped)

	restock, err = inventoryAt(t, b).Restock(ctx)
	require.NoError(t, err)
	require.NoError(t, restock.Send(two))
	reply, err := restock.CloseAndRecv()
	require.NoError(t, err)
	assert.EqualValues(t, 1, reply.GetAdjustments())
	adjust, err = inventoryAt(t, b).Adjust(ctx)
	require.NoError(t, err)
	require.NoError(t, adjust.Send(one))
	again, err := adjust.Recv()
	require.NoError(t, err)
	assert.Equal(t, got.GetStock().GetLevel(), again.GetStock().GetLevel(), "the same answer")
	require.NoError(t, adjust.CloseSend())
	assert.Equal(t, store.InitialStock("a")+12, level())
}
