package role

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/ordersv1"
)

const (
	brief = 200 * time.Millisecond
	got   = "GET / HTTP/1.1\r\nHost: here\r\n\r\n"
)

// A client that reads nothing is given up, and nothing of it is left; with the defect it may stay for ever.
func TestPatienceEnds(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		t.Run(fmt.Sprint("wrong ", wrong), func(t *testing.T) {
			ended := make(chan error, 1)
			s, addr := serving(t, config.Config{Deadline: brief, Defects: defect.Set{defect.NoDeadline: wrong}}, func(w http.ResponseWriter, r *http.Request) {
				var err error
				for err == nil {
					_, err = w.Write(make([]byte, 1<<16))
				}
				<-r.Context().Done()
				ended <- err
			})
			dial(t, addr).send(got)
			if wrong {
				never(t, 5*brief, func() bool { return len(ended) > 0 }, "it was given up")
				return
			}
			select {
			case err := <-ended:
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			case <-time.After(soon):
				require.Fail(t, "it is written to for ever")
			}
			eventually(t, func() bool { return s.count(func(*conn) bool { return true }) == 0 }, "its connection is still served")
		})
	}
}

// A client that reads slowly is not: what counts is that it takes something, and not how long the whole takes.
func TestPatienceWithTheSlow(t *testing.T) {
	const deadline, piece, every = 500 * time.Millisecond, 1 << 16, 25 * time.Millisecond
	whole := make([]byte, 80*piece) // which takes four deadlines
	for name, answer := range map[string]func(w http.ResponseWriter){
		"in one piece": func(w http.ResponseWriter) { _, _ = w.Write(whole) },
		"copied":       func(w http.ResponseWriter) { _, _ = w.(io.ReaderFrom).ReadFrom(bytes.NewReader(whole)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, addr := serving(t, config.Config{Deadline: deadline}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
				answer(w)
			})
			c := dial(t, addr)
			eventually(t, func() bool { return len(s.conns.all()) == 1 }, "the connection is not accepted")
			require.NoError(t, s.conns.all()[0].SetWriteBuffer(piece)) // or the kernel takes it all
			c.send(got)
			resp, err := http.ReadResponse(c.r, nil)
			require.NoError(t, err)
			defer resp.Body.Close()
			begin := time.Now()
			for range len(whole) / piece {
				_, err := io.CopyN(io.Discard, resp.Body, piece)
				require.NoError(t, err, "after %s", time.Since(begin))
				time.Sleep(every) // that is how slow it is
			}
			assert.Greater(t, time.Since(begin), 3*deadline)
		})
	}
}

// Each piece of an answer has a deadline of its own, and so has each answer on a connection.
func TestPatienceBeginsAnew(t *testing.T) {
	_, addr := serving(t, config.Config{Deadline: brief}, func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			fmt.Fprintln(w, "line")
			_ = http.NewResponseController(w).Flush()
			time.Sleep(2 * brief) // that long, and not until anything
		}
	})
	c := dial(t, addr)
	for range 2 {
		c.send(got)
		resp, err := http.ReadResponse(c.r, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, "line\nline\nline\n", string(body))
	}
}

// A client that opens a stream and does not read it holds a call in every service, and none of them for long.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	for _, door := range []string{"gateway", "edge"} {
		t.Run(door, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Start(t, 1)
			orders := startFake(t, etcd.Client(), nil)
			at := map[string]*running{}
			for _, name := range []string{"gateway", "edge"} {
				at[name] = start(t, name, etcd.URLs(), func(c *config.Config) {
					if name != door {
						c.Deadline = time.Hour // the other one does not end it
					}
				})
				at[name].waitReady()
			}
			resp, err := http.Get("http://" + at[door].HTTP + "/stream/stock/a") //nolint:noctx // it is given up
			require.NoError(t, err)
			defer resp.Body.Close()
			_, err = bufio.NewReader(resp.Body).ReadString('\n')
			require.NoError(t, err)
			require.EqualValues(t, 1, orders.opened.Load())
			eventually(t, func() bool { return orders.ended.Load() == 1 }, "orders still has the call")
			for name, r := range at {
				eventually(t, func() bool { return strings.Contains(exposition(t, r), "hasvc_http_in_flight 0") }, "%s still has the request", name)
			}
			assert.EqualValues(t, 1, orders.opened.Load())
		})
	}
}

// WatchStock sends one change after another, for as long as it can.
func (f *fakeOrders) WatchStock(_ *ordersv1.WatchStockRequest, to grpc.ServerStreamingServer[ordersv1.Stock]) error {
	f.opened.Add(1)
	defer f.ended.Add(1)
	for n := int64(1); ; n++ {
		if err := to.Send(&ordersv1.Stock{Sku: strings.Repeat("a", 1<<14), Revision: n}); err != nil {
			return err
		}
	}
}
