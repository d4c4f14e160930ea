package httpwire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func handler(t testing.TB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/fixed", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Got", fmt.Sprint(n))
		io.WriteString(w, strings.Repeat("x", 100))
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		for range 5 {
			io.WriteString(w, strings.Repeat("y", 3000))
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	mux.HandleFunc("/same", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })
	mux.HandleFunc("/trailer", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
	})
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "some")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	return mux
}

// serverOf serves HTTP/1.1, and HTTP/2 with prior knowledge.
func serverOf(t testing.TB, h http.Handler) string {
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ErrorLog = quiet
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

func clientOf(t testing.TB, h2 bool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), MaxConnsPerHost: 1}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func do(t testing.TB, c *http.Client, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	req.Header.Set("X-Request-ID", method+" it")
	req.Header.Set("X-Trace-ID", "other")
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(got)
}

func TestReaderReadsWhatNetHTTPSays(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "http1", true: "http2"}[h2], func(t *testing.T) {
			r := newRelay(t, serverOf(t, handler(t)), nil)
			c := clientOf(t, h2)
			url := "http://" + r.addr()
			do(t, c, "GET", url+"/fixed?q=1", nil)
			do(t, c, "POST", url+"/fixed", strings.NewReader(strings.Repeat("a", 50_000)))
			do(t, c, "POST", url+"/fixed", io.MultiReader(strings.NewReader("of no"), strings.NewReader(" known length")))
			do(t, c, "HEAD", url+"/fixed", nil)
			do(t, c, "GET", url+"/chunked", nil)
			do(t, c, "GET", url+"/empty", nil)
			do(t, c, "GET", url+"/same", nil)
			do(t, c, "GET", url+"/trailer", nil)
			do(t, c, "GET", url+"/bad", nil)
			do(t, c, "GET", url+"/none", nil)
			req, _ := http.NewRequest("GET", url+"/abort", nil)
			if resp, err := c.Do(req); err == nil {
				_, err = io.ReadAll(resp.Body)
				require.Error(t, err)
				resp.Body.Close()
			}
			var got []string
			for _, c := range r.seen(11) {
				require.Equal(t, map[bool]string{false: "http/1.1", true: "h2"}[h2], c.Proto)
				if c.Path != "/abort" {
					require.Equal(t, c.Method+" it", c.RequestID)
					require.Equal(t, "0af7651916cd43dd8448eb211c80319c", c.TraceID)
				}
				require.Nil(t, c.GRPCStatus)
				got = append(got, fmt.Sprint(c.Method, " ", c.Path, " ", c.Status, c.Error))
			}
			cut := map[bool]string{false: "closed", true: "reset"}[h2]
			require.Equal(t, []string{"GET /fixed 200", "POST /fixed 200", "POST /fixed 200", "HEAD /fixed 200", "GET /chunked 200",
				"GET /empty 204", "GET /same 304", "GET /trailer 200", "GET /bad 503", "GET /none 404", "GET /abort 200" + cut}, got)
			c.CloseIdleConnections()
			r.readable()
		})
	}
}

func TestReaderReadsContinueAndCancel(t *testing.T) {
	hold := make(chan struct{})
	mux := handler(t).(*http.ServeMux)
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		close(hold)
	})
	r := newRelay(t, serverOf(t, mux), nil)
	c := clientOf(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+r.addr()+"/slow", nil)
	done := make(chan error)
	go func() { _, err := c.Do(req); done <- err }()
	require.Eventually(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.conns == 1 }, longest, tick)
	do(t, c, "GET", "http://"+r.addr()+"/fixed", nil) // the slow one has begun when this is answered
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	<-hold
	cs := r.seen(2)
	require.Equal(t, Call{Proto: "h2", Method: "GET", Path: "/slow", Error: Cancelled}, Call{Proto: cs[1].Proto, Method: cs[1].Method, Path: cs[1].Path, Error: cs[1].Error})

	c = clientOf(t, false)
	req, _ = http.NewRequestWithContext(t.Context(), "POST", "http://"+r.addr()+"/fixed", strings.NewReader("hello"))
	req.Header.Set("Expect", "100-continue")
	resp, err := c.Do(req)
	require.NoError(t, err)
	require.Equal(t, "5", resp.Header.Get("X-Got"))
	resp.Body.Close()
	require.Equal(t, 200, r.seen(3)[2].Status)
}

// said is what a Reader makes of two streams, handed over in pieces of some size, the request first.
func said(size int, in, out string, ends bool) (calls []string, why string) {
	r := NewReader(now, func(c Call) { calls = append(calls, fmt.Sprint(c.Method, " ", c.Path, " ", c.Status, c.Error)) })
	for _, x := range []struct {
		s string
		f func([]byte)
	}{{in, r.Request}, {out, r.Response}} {
		for b := []byte(x.s); len(b) > 0; {
			n := min(size, len(b))
			x.f(b[:n:n])
			b = b[n:]
		}
	}
	if ends {
		r.ResponseEnd()
	}
	r.End(Closed)
	return calls, r.Unreadable()
}

func TestReaderOnBytes(t *testing.T) {
	const get, ok = "GET /a?x HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, c := range []struct {
		name, in, out string
		ends          bool
		calls         []string
		why           string
	}{
		{"pipelined", get + "POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + get, ok + ok + ok, false, []string{"GET /a 200", "POST /b 200", "GET /a 200"}, ""},
		{"cut off", get + get, ok + "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", false, []string{"GET /a 200", "GET /a 200closed"}, ""},
		{"not answered", get, "", false, []string{"GET /a 0closed"}, ""},
		{"half a request", "GET /a HTTP/1.1\r\nHos", "", false, nil, ""},
		{"to the end", get, "HTTP/1.0 200 OK\r\n\r\nmuch", true, []string{"GET /a 200"}, ""},
		{"to the end, cut off", get, "HTTP/1.0 200 OK\r\n\r\nmuch", false, []string{"GET /a 200closed"}, ""},
		{"chunks", "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n" + get, "HTTP/1.1 100 Continue\r\n\r\n" + ok + ok, false, []string{"PUT /c 200", "GET /a 200"}, ""},
		{"bare line feeds", "GET http://host/a?b HTTP/1.1\nHost: x\n\n", "HTTP/1.1 404 No\ncontent-length:0\n\n", false, []string{"GET /a 404"}, ""},
		{"unasked", "", "", true, nil, ""},
		{"websocket", "GET /ws HTTP/1.1\r\nConnection: x, Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x05hello", false, []string{"GET /ws 101"}, ""},
		{"no upgrade", "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + get, ok + ok, false, []string{"GET /ws 200", "GET /a 200"}, ""},
		{"upgrade to HTTP/2", "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", false, []string{"GET /ws 101"}, "upgraded to HTTP/2"},
		{"connect", "CONNECT h:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nraw", false, []string{"CONNECT h:1 200"}, ""},
		{"connect, and what looks like a request", "CONNECT h:1 HTTP/1.1\r\n\r\n" + get, "HTTP/1.1 200 OK\r\n\r\n" + ok, false, []string{"CONNECT h:1 200"}, ""},
		{"websocket that does not wait", "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + get, "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", false, []string{"GET /ws 101"}, ""},
		{"idle timeout", get, ok + "HTTP/1.1 408 Timeout\r\nConnection: close\r\n\r\nbye", true, []string{"GET /a 200"}, ""},
		{"probe", "p", "p", false, nil, ""},
		{"tls", "\x16\x03\x01 and a client hello that is longer than a request", "", false, nil, "TLS"},
		{"another protocol", "hello, whoever you are, this is no HTTP\r\n", "", false, nil, "does not speak HTTP"},
		{"server first", "", "220 mail ready\r\n", false, nil, ""},
		{"two lengths", "POST /b HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "", false, nil, "length"},
		{"bad chunk", "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "", false, []string{"PUT /c 0unread"}, "chunk"},
		{"wrong answer", get, "SSH-2.0-x\r\n", false, []string{"GET /a 0unread"}, "server does not speak HTTP"},
		{"long head", "GET /" + strings.Repeat("a", maxHead), "", false, nil, "64 KiB"},
		{"not HTTP/2", preface + "\x00\x00\x01\x09\x04\x00\x00\x00\x01x", "", false, nil, "continues no header block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 7, 1 << 20} {
				calls, why := said(size, c.in, c.out, c.ends)
				require.Equal(t, c.calls, calls)
				if c.why == "" {
					require.Empty(t, why)
				} else {
					require.Contains(t, why, c.why)
				}
			}
		})
	}
}

// TestReaderOnGoAway has the client begin a stream before it and one while it is on its way.
func TestReaderOnGoAway(t *testing.T) {
	var e encoder
	e.init()
	head := func(b []byte, stream uint32, path string) []byte {
		return e.block(b, http2.FrameHeaders, http2.FlagHeadersEndStream, stream, nil, []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":path", Value: path}})
	}
	var calls []string
	r := NewReader(now, func(c Call) { calls = append(calls, fmt.Sprint(c.Path, " ", c.Status, c.Error)) })
	r.Request(head(head([]byte(preface), 1, "/served"), 3, "/open"))
	r.Response(appendFrame(nil, http2.FrameGoAway, 0, 0, []byte{0, 0, 0, 1, 0, 0, 0, 0})) // up to stream 1, no error
	require.Equal(t, []string{"/open 0refused"}, calls)
	r.Request(head(nil, 5, "/late"))
	require.Equal(t, []string{"/open 0refused", "/late 0refused"}, calls)
	r.Response(e.block(nil, http2.FrameHeaders, http2.FlagHeadersEndStream, 1, nil, []hpack.HeaderField{{Name: ":status", Value: "200"}}))
	r.End(Closed)
	require.Equal(t, []string{"/open 0refused", "/late 0refused", "/served 200"}, calls)
	require.Empty(t, r.Unreadable())
}

func TestReaderHearsOfAReset(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadString('\n')
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	r := newRelay(t, l.Addr().String(), nil)
	c, err := net.Dial("tcp4", r.addr())
	require.NoError(t, err)
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	io.ReadAll(c)
	c.Close()
	require.Equal(t, Reset, r.seen(1)[0].Error)
}
