package toxiproxyapi_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/client"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox"
	"github.com/hasvc/gauntlet/harness/cluster/toxiproxyapi"
)

// echoVar makes the test binary the program of a node: it echoes.
const echoVar = "TOXIPROXYAPI_ECHO"

func TestMain(m *testing.M) {
	if os.Getenv(echoVar) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", ":7000")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
	}
}

// rules is a topology of which only the rules are there.
type rules struct {
	refuses error

	mu   sync.Mutex
	last cluster.RuleID
	now  map[cluster.RuleID]cluster.Rule
}

// held are the rules that are there now.
func (r *rules) held() map[cluster.RuleID]cluster.Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.now)
}

func (r *rules) Apply(_ context.Context, links []cluster.Link, rule cluster.Rule) (cluster.RuleID, error) {
	if r.refuses != nil {
		return 0, r.refuses
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	r.now[r.last] = rule
	return r.last, nil
}

func (r *rules) Remove(_ context.Context, id cluster.RuleID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.now[id]; !ok {
		return errors.New("no such rule")
	}
	delete(r.now, id)
	return nil
}

func serveAPI(t *testing.T, linker toxiproxyapi.Linker, links ...cluster.Link) (*toxiproxy.Client, string) {
	t.Helper()
	api, err := toxiproxyapi.New(linker, links, links[:1], 7, func(l cluster.Link) (string, string) { return l.From, l.To + ":7000" })
	require.NoError(t, err)
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	return toxiproxy.NewClient(s.URL), s.URL
}

func TestToxiproxysClientUnderstandsEveryAnswer(t *testing.T) {
	r := &rules{now: map[cluster.RuleID]cluster.Rule{}}
	c, url := serveAPI(t, r, cluster.Link{From: "gateway-1", To: "orders"}, cluster.Link{From: "client", To: "gateway-1"})
	v, err := c.Version()
	require.NoError(t, err)
	require.JSONEq(t, `{"version": "2.12.0"}`, string(v))
	all, err := c.Proxies()
	require.NoError(t, err)
	require.Len(t, all, 2)
	p, err := c.Proxy("gateway-1_orders")
	require.NoError(t, err)
	require.Equal(t, "gateway-1 orders:7000 true", fmt.Sprint(p.Listen, " ", p.Upstream, " ", p.Enabled))
	require.Empty(t, p.ActiveToxics)

	tox, err := p.AddToxic("", "latency", "", 1, toxiproxy.Attributes{"latency": 100})
	require.NoError(t, err)
	require.Equal(t, "latency_downstream downstream map[jitter:0 latency:100]", fmt.Sprint(tox.Name, " ", tox.Stream, " ", tox.Attributes))
	require.JSONEq(t, `{"latency": 100, "jitter": 0}`, string(r.held()[1].Toxic.Attributes))
	_, err = p.AddToxic("", "latency", "", 1, nil)
	require.ErrorContains(t, err, "HTTP 409: toxic already exists")
	_, err = p.AddToxic("slow", "bandwidth", "upstream", 0.5, toxiproxy.Attributes{"rate": 10})
	require.NoError(t, err)
	require.Equal(t, 0.5, r.held()[2].Toxic.Toxicity)
	ts, err := p.Toxics()
	require.NoError(t, err)
	require.Len(t, ts, 2)

	tox, err = p.UpdateToxic("latency_downstream", -1, toxiproxy.Attributes{"jitter": 5})
	require.NoError(t, err)
	require.Equal(t, "map[jitter:5 latency:100]", fmt.Sprint(tox.Attributes))
	require.Len(t, r.held(), 2, "the new one took the old one's place")
	r.refuses = errors.New("jitter is above latency")
	_, err = p.UpdateToxic("latency_downstream", -1, toxiproxy.Attributes{"jitter": 500})
	require.ErrorContains(t, err, "HTTP 400: jitter is above latency")
	r.refuses = nil
	p, err = c.Proxy("gateway-1_orders")
	require.NoError(t, err)
	require.Equal(t, "map[jitter:5 latency:100]", fmt.Sprint(p.ActiveToxics[0].Attributes), "what was refused changes nothing")

	require.NoError(t, p.RemoveToxic("slow"))
	require.ErrorContains(t, p.RemoveToxic("slow"), "HTTP 404: toxic not found")
	require.NoError(t, p.Disable())
	require.Len(t, r.held(), 2)
	require.NoError(t, c.ResetState())
	require.Empty(t, r.held())
	p, err = c.Proxy("gateway-1_orders")
	require.NoError(t, err)
	require.True(t, p.Enabled)
	require.Empty(t, p.ActiveToxics)

	_, err = p.AddToxic("", "no-such", "", 1, nil)
	require.ErrorContains(t, err, "HTTP 400: invalid toxic type")
	_, err = p.AddToxic("", "latency", "sideways", 1, nil)
	require.ErrorContains(t, err, "stream was invalid")
	_, err = c.Proxy("nobody_orders")
	require.ErrorContains(t, err, "HTTP 404: proxy not found")
	for _, err := range []error{
		p.Delete(),
		func() error { _, err := c.CreateProxy("mine", "localhost:1", "localhost:2"); return err }(),
		func() error { _, err := c.Populate([]toxiproxy.Proxy{{Name: "mine"}}); return err }(),
	} {
		require.ErrorContains(t, err, "neither created nor deleted here")
	}
	p.Upstream = "elsewhere:1"
	require.ErrorContains(t, p.Save(), "cannot be changed")
	res, err := http.Post(url+"/proxies/gateway-1_orders/toxics", "application/json", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.NoError(t, res.Body.Close())
	c.UserAgent = "Mozilla/5.0"
	_, err = c.Proxies()
	require.Error(t, err, "a browser")
	_, err = toxiproxyapi.New(r, []cluster.Link{{From: "a_b", To: "c"}, {From: "a", To: "b_c"}}, nil, 1, func(cluster.Link) (string, string) { return "", "" })
	require.ErrorContains(t, err, "a_b_c")
}

// TestWhatToxiproxyTakes adds and changes toxics by what toxiproxy takes without a complaint.
func TestWhatToxiproxyTakes(t *testing.T) {
	r := &rules{now: map[cluster.RuleID]cluster.Rule{}}
	c, _ := serveAPI(t, r, cluster.Link{From: "a", To: "b"})
	p, err := c.Proxy("a_b")
	require.NoError(t, err)
	applied := func() (out []string) {
		for _, x := range r.held() {
			out = append(out, fmt.Sprint(x.Toxic.Stream, " ", x.Toxic.Toxicity, " ", string(x.Toxic.Attributes)))
		}
		return out
	}
	tox, err := p.AddToxic("never", "latency", "Upstream", 0, toxiproxy.Attributes{"Latency": 100})
	require.NoError(t, err)
	require.Equal(t, "never Upstream 0 map[jitter:0 latency:100]", fmt.Sprint(tox.Name, " ", tox.Stream, " ", tox.Toxicity, " ", tox.Attributes))
	require.Empty(t, applied(), "it never acts")
	_, err = p.UpdateToxic("never", 0, toxiproxy.Attributes{"JITTER": 5})
	require.NoError(t, err)
	require.Empty(t, applied())
	_, err = p.UpdateToxic("never", 0.5, nil)
	require.NoError(t, err)
	require.Equal(t, []string{`upstream 0.5 {"jitter":5,"latency":100}`}, applied())
	_, err = p.UpdateToxic("never", -1, toxiproxy.Attributes{"Latency": 200})
	require.NoError(t, err)
	require.Equal(t, []string{`upstream 0.5 {"jitter":5,"latency":200}`}, applied())
	_, err = p.UpdateToxic("never", 0, nil)
	require.NoError(t, err)
	require.Empty(t, applied())
	list, err := p.Toxics()
	require.NoError(t, err)
	require.Len(t, list, 1, "it is there all the same")
	require.NoError(t, p.RemoveToxic("never"))
	_, err = p.AddToxic("", "timeout", "", 0, nil)
	require.NoError(t, err)
	require.NoError(t, c.ResetState())
	list, err = p.Toxics()
	require.NoError(t, err)
	require.Empty(t, list)

	// A misspelt attribute, which toxiproxy passes over, is an error; so is one that is no number, here and there.
	for _, attributes := range []toxiproxy.Attributes{{"latncy": 100}, {"latency": "long"}} {
		_, err = p.AddToxic("", "latency", "", 0, attributes)
		require.ErrorContains(t, err, "HTTP 400")
	}
}

// Two types of our own answer requests in the server's place, on links whose requests are read.
func TestErrorReplies(t *testing.T) {
	r := &rules{now: map[cluster.RuleID]cluster.Rule{}}
	c, _ := serveAPI(t, r, cluster.Link{From: "a", To: "b"}, cluster.Link{From: "a", To: "c"})
	p, err := c.Proxy("a_b")
	require.NoError(t, err)
	tox, err := p.AddToxic("", "http_error", "", 0.25, toxiproxy.Attributes{"status": 503, "path": "^/orders", "Retry_After": 2})
	require.NoError(t, err)
	require.Equal(t, "http_error_downstream downstream 0.25 map[body: every:0 first:0 method: path:^/orders retry_after:2 status:503]",
		fmt.Sprint(tox.Name, " ", tox.Stream, " ", tox.Toxicity, " ", tox.Attributes))
	require.Equal(t, &cluster.Reply{HTTP: &cluster.HTTPReply{Status: 503, RetryAfter: "2"}, Path: "^/orders", Share: 0.25, Seed: 8}, r.held()[1].Reply)
	_, err = p.UpdateToxic("http_error_downstream", 1, toxiproxy.Attributes{"method": "POST", "body": "no", "every": 3})
	require.NoError(t, err)
	require.Equal(t, map[cluster.RuleID]cluster.Rule{2: {Reply: &cluster.Reply{
		HTTP: &cluster.HTTPReply{Status: 503, RetryAfter: "2", Body: "no"}, Path: "^/orders", Method: "POST", Every: 3, Seed: 9}}}, r.held())
	require.NoError(t, p.RemoveToxic("http_error_downstream"))
	_, err = p.AddToxic("g", "grpc_error", "downstream", 1, toxiproxy.Attributes{"code": 14, "message": "later", "method": "/Create$", "first": 5})
	require.NoError(t, err)
	require.Equal(t, map[cluster.RuleID]cluster.Rule{3: {Reply: &cluster.Reply{
		GRPC: &cluster.GRPCReply{Code: 14, Message: "later"}, Path: "/Create$", First: 5, Seed: 10}}}, r.held())
	require.NoError(t, c.ResetState())
	require.Empty(t, r.held())

	other, err := c.Proxy("a_c")
	require.NoError(t, err)
	for _, bad := range []struct {
		proxy    *toxiproxy.Proxy
		kind     string
		stream   string
		toxicity float32
		attr     toxiproxy.Attributes
		says     string
	}{
		{other, "http_error", "", 1, toxiproxy.Attributes{"status": 503}, "the requests of this link are not read"},
		{p, "http_error", "upstream", 1, toxiproxy.Attributes{"status": 503}, "an answer goes downstream"},
		{p, "http_error", "", 0.5, toxiproxy.Attributes{"status": 503, "first": 1}, "first and every say which requests"},
		{p, "http_error", "", 1, toxiproxy.Attributes{"status": "many"}, `http_error's attribute status: "many" is no whole number`},
		{p, "http_error", "", 1, toxiproxy.Attributes{"path": []string{"/"}}, `http_error's attribute path: ["/"] is no text`},
		{p, "grpc_error", "", 1, toxiproxy.Attributes{"status": 14}, `grpc_error has no attribute "status", only code, first, every, method, message`},
	} {
		_, err := bad.proxy.AddToxic("", bad.kind, bad.stream, bad.toxicity, bad.attr)
		require.ErrorContains(t, err, "HTTP 400: "+bad.says)
	}
	require.Empty(t, r.held())
	_, err = other.AddToxic("", "latency", "", 1, toxiproxy.Attributes{"latency": 1})
	require.NoError(t, err, "of toxiproxy's own it can have all")
}

// TestABodyThatDoesNotComeHoldsUpNobody has a client that sends the head of a change and then nothing.
func TestABodyThatDoesNotComeHoldsUpNobody(t *testing.T) {
	_, url := serveAPI(t, &rules{now: map[cluster.RuleID]cluster.Rule{}}, cluster.Link{From: "a", To: "b"})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "POST /proxies/a_b/toxics HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue", "it reads the body")
	other := http.Client{Timeout: 5 * time.Second}
	res, err := other.Get(url + "/version")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
}

// TestToxiproxysClientDrivesATopology adds and removes toxics 1,000 times under traffic: nothing hangs, no byte is lost.
func TestToxiproxysClientDrivesATopology(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	link := cluster.Link{From: cluster.Client, To: "echo"}
	top, err := sandbox.New().Up(t.Context(), &cluster.Spec{Name: "toxics", Services: []cluster.Service{{
		Name: "echo", Replicas: 1, Argv0: self, Env: map[string]string{echoVar: "1"}, Expose: []int{7000}, StopGrace: time.Second,
	}}}, cluster.Options{Dir: t.TempDir(), Toxic: []cluster.Link{link}, Observe: func(cluster.Event) {}})
	require.NoError(t, err)
	t.Cleanup(func() {
		left, err := top.Down(context.Background())
		require.NoError(t, err)
		require.Empty(t, left)
	})
	c, _ := serveAPI(t, top, link)
	p, err := c.Proxy("client_echo")
	require.NoError(t, err)
	var conn net.Conn
	until(t, func() bool { // the program has been started, and listens soon
		if conn, err = top.Dial(t.Context(), cluster.Client, "tcp", "echo:7000"); err != nil {
			return false
		}
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err = conn.Write([]byte("x")); err == nil {
			_, err = io.ReadFull(conn, make([]byte, 1))
		}
		if err != nil {
			conn.Close()
		}
		return err == nil
	})
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Minute)))

	var stop atomic.Bool
	var sent, got atomic.Uint64 // numbers of 8 bytes
	var running sync.WaitGroup
	window := make(chan struct{}, 16)
	running.Go(func() {
		defer conn.(interface{ CloseWrite() error }).CloseWrite()
		buf := make([]byte, 4096)
		for n := uint64(0); !stop.Load(); sent.Store(n) {
			for i := 0; i < len(buf); i += 8 {
				binary.LittleEndian.PutUint64(buf[i:], n)
				n++
			}
			window <- struct{}{}
			if _, err := conn.Write(buf); err != nil {
				t.Errorf("writing: %v", err)
				return
			}
		}
	})
	running.Go(func() {
		buf := make([]byte, 4096)
		for n := uint64(0); ; got.Store(n) {
			if _, err := io.ReadFull(conn, buf); err != nil {
				if err != io.EOF {
					t.Errorf("reading: %v", err)
				}
				return
			}
			for i := 0; i < len(buf); i += 8 {
				if x := binary.LittleEndian.Uint64(buf[i:]); x != n {
					t.Errorf("number %d came where %d was due", x, n)
					_ = conn.Close()
					return
				}
				n++
			}
			<-window
		}
	})
	kinds := []struct {
		kind string
		attr toxiproxy.Attributes
	}{
		{"latency", toxiproxy.Attributes{"latency": 1, "jitter": 1}}, {"bandwidth", toxiproxy.Attributes{"rate": 50_000}},
		{"slicer", toxiproxy.Attributes{"average_size": 500, "size_variation": 100, "delay": 1}},
		{"slow_close", toxiproxy.Attributes{"delay": 5}}, {"limit_data", toxiproxy.Attributes{"bytes": int64(1) << 40}},
		{"reset_peer", toxiproxy.Attributes{"timeout": 60_000}},
	}
	begin, slowest := time.Now(), time.Duration(0)
	timed := func(what string, f func() error) {
		start := time.Now()
		require.NoError(t, f(), what)
		d := time.Since(start)
		slowest = max(slowest, d)
		require.Less(t, d, 10*time.Second, what)
	}
	for i := range 1000 {
		k, stream := kinds[i%len(kinds)], []string{"upstream", "downstream"}[i/len(kinds)%2]
		timed("add", func() error { _, err := p.AddToxic("t", k.kind, stream, 1, k.attr); return err })
		if i%7 == 0 {
			timed("add another", func() error {
				_, err := p.AddToxic("u", "latency", stream, 1, toxiproxy.Attributes{"latency": 1})
				return err
			})
		}
		if i%10 == 0 {
			timed("update", func() error { _, err := p.UpdateToxic("t", -1, k.attr); return err })
		}
		timed("remove", func() error { return p.RemoveToxic("t") })
		if i%7 == 0 {
			timed("remove another", func() error { return p.RemoveToxic("u") })
		}
	}
	before := got.Load()
	until(t, func() bool { return got.Load() > before }) // it still flows
	stop.Store(true)
	running.Wait()
	require.Equal(t, sent.Load(), got.Load(), "every byte came back")
	t.Logf("1000 toxics added and removed in %v, the slowest change %v, %d bytes intact", time.Since(begin).Round(time.Millisecond), slowest, 8*got.Load())
}

// until polls a condition that must come true.
func until(t *testing.T, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); !cond(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.Fail(t, "it did not come")
		}
	}
}
