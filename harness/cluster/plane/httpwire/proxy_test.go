package httpwire

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// every answers each nth request whose path has a prefix.
func every(n int, prefix string, a *Answer) func(Request) *Answer {
	var k atomic.Int64
	return func(r Request) *Answer {
		if !strings.HasPrefix(r.Path, prefix) || k.Add(1)%int64(n) != 0 {
			return nil
		}
		return a
	}
}

func TestProxyAnswersChosenRequestsAndNoOthers(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "http1", true: "http2"}[h2], func(t *testing.T) {
			var reached atomic.Int64
			h := handler(t)
			server := serverOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached.Add(1)
				h.ServeHTTP(w, r)
			}))
			r := newRelay(t, server, every(3, "/", &Answer{Status: 503, Body: `{"error":"no"}`, RetryAfter: "7"}))
			c := clientOf(t, h2)
			url := "http://" + r.addr()
			blob := bytes.Repeat([]byte("0123456789"), 40_000)
			struck := 0
			for i := range 120 {
				method, path, body := "GET", "/fixed", io.Reader(nil)
				switch i % 4 {
				case 1:
					method, body = "POST", bytes.NewReader(blob)
				case 2:
					method, body = "PUT", io.MultiReader(bytes.NewReader(blob)) // chunked
				case 3:
					method, path = "HEAD", "/chunked"
				}
				resp, got := do(t, c, method, url+path, body)
				if i%3 == 2 {
					struck++
					require.Equal(t, 503, resp.StatusCode)
					require.Equal(t, "7", resp.Header.Get("Retry-After"))
					require.Equal(t, "14", resp.Header.Get("Content-Length"))
					if method != "HEAD" {
						require.Equal(t, `{"error":"no"}`, got)
						require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
					}
					continue
				}
				require.Equal(t, 200, resp.StatusCode)
				switch method {
				case "GET":
					require.Len(t, got, 100)
				case "POST", "PUT":
					require.Equal(t, fmt.Sprint(len(blob)), resp.Header.Get("X-Got"))
				}
			}
			require.Equal(t, 80, len(r.seen(80)), "the Reader sees what reached the server")
			require.EqualValues(t, 80, reached.Load())
			require.Len(t, r.injected, struck)
			require.Equal(t, 503, r.injected[0].Status)
			require.Equal(t, 1, r.conns, "the connection lives through it")
			c.CloseIdleConnections()
			r.readable()
		})
	}
}

func TestProxyUnderManyStreams(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "http1", true: "http2"}[h2], func(t *testing.T) {
			r := newRelay(t, serverOf(t, handler(t)), every(4, "/echo", &Answer{Status: 500, Body: strings.Repeat("e", MaxBody)}))
			c := clientOf(t, h2)
			var running sync.WaitGroup
			var struck atomic.Int64
			for g := range 6 {
				running.Go(func() {
					rnd := rand.New(rand.NewPCG(1, uint64(g)))
					for range 15 {
						blob := make([]byte, rnd.IntN(200_000))
						for i := range blob {
							blob[i] = byte(rnd.Uint32())
						}
						resp, err := c.Post("http://"+r.addr()+"/echo", "", bytes.NewReader(blob))
						if err != nil {
							t.Errorf("%v", err)
							return
						}
						sum := sha256.New()
						_, err = io.Copy(sum, resp.Body)
						resp.Body.Close()
						switch want := sha256.Sum256(blob); {
						case err != nil:
							t.Errorf("%v", err)
						case resp.StatusCode == 500:
							struck.Add(1)
						case !bytes.Equal(want[:], sum.Sum(nil)):
							t.Errorf("%d bytes came back otherwise", len(blob))
						}
					}
				})
			}
			running.Wait()
			require.EqualValues(t, 90/4, struck.Load())
			require.Len(t, r.seen(90-90/4), 90-90/4)
		})
	}
}

func dial(t testing.TB, r *relay) (net.Conn, *bufio.Reader) {
	c, err := net.Dial("tcp4", r.addr())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func TestProxyKeepsTheOrderOfPipelinedRequests(t *testing.T) {
	r := newRelay(t, serverOf(t, handler(t)), every(2, "/", &Answer{Status: 502}))
	c, br := dial(t, r)
	var all strings.Builder
	for range 50 {
		all.WriteString("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\nPOST /fixed HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
	}
	for b := all.String(); len(b) > 0; { // in pieces that end anywhere
		n := min(37, len(b))
		_, err := io.WriteString(c, b[:n])
		require.NoError(t, err)
		b = b[n:]
	}
	for i := range 100 {
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		if i%2 == 0 {
			require.Equal(t, 200, resp.StatusCode)
			require.EqualValues(t, 100, n)
		} else {
			require.Equal(t, 502, resp.StatusCode)
		}
	}
}

func TestProxyOnHTTP1Details(t *testing.T) {
	mux := handler(t).(*http.ServeMux)
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		io.Copy(c, rw)
	})
	r := newRelay(t, serverOf(t, mux), func(q Request) *Answer {
		if q.Path == "/fixed" || q.Method == "DELETE" {
			return &Answer{Status: 503, Body: "down"}
		}
		return nil
	})
	t.Run("continue", func(t *testing.T) {
		c := clientOf(t, false)
		req, _ := http.NewRequest("POST", "http://"+r.addr()+"/fixed", strings.NewReader("hello"))
		req.Header.Set("Expect", "100-continue")
		resp, err := c.Do(req)
		require.NoError(t, err)
		require.Equal(t, 503, resp.StatusCode)
		resp.Body.Close()
		resp, _ = do(t, c, "GET", "http://"+r.addr()+"/bad", nil)
		require.Equal(t, 503, resp.StatusCode)
	})
	t.Run("close", func(t *testing.T) {
		for _, head := range []string{"GET /fixed HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "GET /fixed HTTP/1.0\r\n\r\n"} {
			c, br := dial(t, r)
			io.WriteString(c, head)
			all, err := io.ReadAll(br) // the stream ends though the client has not ended its own
			require.NoError(t, err)
			require.Contains(t, string(all), " 503 Service Unavailable\r\n")
			require.Contains(t, string(all), "Connection: close\r\n")
			require.True(t, strings.HasSuffix(string(all), "\r\n\r\ndown"))
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		c, br := dial(t, r)
		io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nDELETE / HTTP/1.1\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		require.Equal(t, 101, resp.StatusCode)
		line, err := br.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "DELETE / HTTP/1.1\r\n", line, "what comes after an upgrade is no request")
	})
	t.Run("upgrade that is answered", func(t *testing.T) {
		c, br := dial(t, r)
		for _, path := range []string{"/fixed", "/bad", "/fixed"} {
			io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			require.NoError(t, err)
			require.Equal(t, 503, resp.StatusCode)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, map[string]string{"/fixed": "down", "/bad": ""}[path], string(body))
		}
		io.WriteString(c, "GET /empty HTTP/1.1\r\nHost: h\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		require.Equal(t, 204, resp.StatusCode)
	})
	t.Run("half closed", func(t *testing.T) {
		c, br := dial(t, r)
		io.WriteString(c, "DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n")
		c.(*net.TCPConn).CloseWrite()
		all, err := io.ReadAll(br)
		require.NoError(t, err)
		require.Contains(t, string(all), "503")
	})
}

// waiting is a Proxy of HTTP/2 that answers every request with a body of MaxBody, and how many answers were given. It must not reset.
func waiting(t *testing.T) (p *Proxy, given *int) {
	given = new(int)
	injected := 0
	t.Cleanup(func() { require.Equal(t, *given, injected) })
	return NewProxy(Config{
		Now: now, Choose: func(Request) *Answer {
			return &Answer{Status: 503, Body: strings.Repeat("e", MaxBody), Given: func() { *given++ }}
		},
		Injected: func(Call) { injected++ },
		WakeUp:   func() {}, WakeDown: func() {}, EndUp: func() {}, Reset: func() { require.Fail(t, "it is reset") },
	}), given
}

// ask is a request of a stream.
func ask(t *testing.T, id uint32) []byte {
	var block bytes.Buffer
	h := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "h"}} {
		require.NoError(t, h.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	return appendFrame(nil, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id, block.Bytes())
}

// answersIn returns the streams of the answers, and how many bytes of bodies come with them.
func answersIn(t *testing.T, b []byte) (streams []uint32, bodies int) {
	fr := http2.NewFramer(nil, bytes.NewReader(b))
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return streams, bodies
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			streams = append(streams, f.StreamID)
			require.Equal(t, byte(0x20), f.HeaderBlockFragment()[0], "a client that allows no table waits to hear that there is none")
		case *http2.DataFrame:
			bodies += len(f.Data())
		}
	}
}

// TestProxyCountsAnswersThatGoOut has answers wait, over HTTP/2, for the server's first frame and for the rest of another.
func TestProxyCountsAnswersThatGoOut(t *testing.T) {
	p, given := waiting(t)
	settings := appendFrame(nil, http2.FrameSettings, 0, 0, nil)
	data := appendFrame(nil, http2.FrameData, 0, 99, []byte("data"))
	goes := func(b []byte, want ...uint32) {
		got, _ := answersIn(t, b)
		require.Equal(t, want, got)
	}

	p.Up(slices.Concat([]byte(preface), settings, ask(t, 1), ask(t, 3)))
	require.Empty(t, p.Down(nil))
	require.Zero(t, *given, "the server's SETTINGS have not come")
	goes(p.Down(settings), 1, 3)
	require.Equal(t, 2, *given)
	p.Down(data[:len(data)-1])
	p.Up(ask(t, 5))
	require.Empty(t, p.Down(nil))
	require.Equal(t, 2, *given, "a frame of the server's has come in part")
	goes(p.Down(data[len(data)-1:])[1:], 5)
	require.Equal(t, 3, *given)
	p.Down(data[:len(data)-1])
	p.Up(ask(t, 7))
	require.Empty(t, p.DownEnd())
	p.Up(nil)
	require.Equal(t, 3, *given, "the server has ended before the rest of it")
}

// TestProxyCountsNoAnswerThatNobodyWaitsFor has clients lose patience, over HTTP/2, before their answers can go.
func TestProxyCountsNoAnswerThatNobodyWaitsFor(t *testing.T) {
	settings := appendFrame(nil, http2.FrameSettings, 0, 0, nil)
	grant := func(n uint32) []byte {
		return appendFrame(nil, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, n))
	}
	reset := func(id uint32) []byte { return appendFrame(nil, http2.FrameRSTStream, 0, id, make([]byte, 4)) }
	t.Run("a stream that is reset", func(t *testing.T) {
		p, given := waiting(t)
		require.Equal(t, slices.Concat([]byte(preface), settings),
			p.Up(slices.Concat([]byte(preface), settings, grant(reserve), ask(t, 1), ask(t, 3), ask(t, 5))))
		require.Empty(t, p.Up(reset(1)), "the server does not know of it")
		streams, bodies := answersIn(t, p.Down(settings))
		require.Equal(t, []uint32{3, 5}, streams)
		require.Equal(t, MaxBody, bodies, "there was room for two, the first of which had one that never went")
		require.Equal(t, 2, *given)
		require.Empty(t, p.Up(slices.Concat(reset(3), ask(t, 7))), "an answer that has gone has gone")
		streams, bodies = answersIn(t, p.Down(nil))
		require.Equal(t, []uint32{7}, streams)
		require.Equal(t, MaxBody, bodies, "the room of the first")
		require.Equal(t, 3, *given)
	})
	t.Run("whose room was filled up meanwhile", func(t *testing.T) {
		p, given := waiting(t)
		p.Up(slices.Concat([]byte(preface), settings, grant(reserve), ask(t, 1)))
		require.Empty(t, p.Up(grant(MaxBody)))
		require.Equal(t, grant(MaxBody), p.Up(reset(1)), "the server has what is not needed")
		require.Equal(t, settings, p.Down(settings))
		require.Zero(t, *given)
	})
	t.Run("a client that has ended its stream", func(t *testing.T) {
		p, given := waiting(t)
		p.Up(slices.Concat([]byte(preface), settings, ask(t, 1)))
		p.UpEnd()
		streams, _ := answersIn(t, p.Down(settings))
		require.Equal(t, []uint32{1}, streams, "it may have ended its own half alone")
		require.Zero(t, *given, "or have closed")
	})
}

// answersNothing is a Proxy that answers nothing, and how often it wanted Up to be called. It must not reset.
func answersNothing(t *testing.T) (p *Proxy, wakes *int) {
	wakes = new(int)
	return NewProxy(Config{
		Now: now, Choose: func(Request) *Answer { return nil }, Injected: func(Call) {},
		WakeUp: func() { *wakes++ }, WakeDown: func() {}, EndUp: func() {}, Reset: func() { require.Fail(t, "it is reset") },
	}), wakes
}

// TestProxyGoesOnAfterAnAnswerThatCannotBeRead has the client send more before, which is held, and much after.
func TestProxyGoesOnAfterAnAnswerThatCannotBeRead(t *testing.T) {
	const get, answer = "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "what is this\r\n\r\n"
	for _, x := range []struct{ asked, held string }{
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "more"},
		{get, "GET /half HTT"},
	} {
		p, wakes := answersNothing(t)
		require.Equal(t, x.asked, string(p.Up([]byte(x.asked+x.held))))
		require.Equal(t, answer, string(p.Down([]byte(answer))))
		require.Equal(t, 1, *wakes)
		require.Equal(t, x.held, string(p.Up(nil)))
		require.Equal(t, "P/1.1", string(p.Up([]byte("P/1.1"))))
		for range maxOpen + 1 {
			require.Equal(t, get, string(p.Up([]byte(get))))
		}
	}
}

// TestProxyKeepsWhatTheServerSaidFirst ends a server's stream that began as one of HTTP/2 might.
func TestProxyKeepsWhatTheServerSaidFirst(t *testing.T) {
	p, wakes := answersNothing(t)
	require.Empty(t, p.Up([]byte("PRI")))
	require.Empty(t, p.Down([]byte("\x00\x01")))
	require.Equal(t, "\x00\x01", string(p.DownEnd()))
	require.Equal(t, 1, *wakes)
	require.Equal(t, "PRI", string(p.Up(nil)))
}

func TestProxyCarriesWhatIsNoHTTP(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	first := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.WriteString(c, <-first)
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	r := newRelay(t, l.Addr().String(), func(Request) *Answer { return &Answer{Status: 500} })
	for _, x := range []struct{ greeting, says string }{
		{"", "p"}, {"220 mail\r\n", "EHLO x\r\n"}, {"\x00\x00\x01\x00a", "\x01binary"}, {"", "\x16\x03\x01tls"}, {"", "lower case\n"},
		{"", "SHOUTING, BUT NO HTTP\r\nmore\r\n"}, {"", "PRI * HTTP/1.0\r\n\r\n"},
	} {
		c, br := dial(t, r)
		first <- x.greeting
		got := make([]byte, len(x.greeting))
		_, err := io.ReadFull(br, got)
		require.NoError(t, err)
		require.Equal(t, x.greeting, string(got))
		io.WriteString(c, x.says)
		if len(x.says) == 1 {
			b, err := br.ReadByte() // a probe does not go on before its byte is back
			require.NoError(t, err)
			require.Equal(t, byte('p'), b)
			continue
		}
		c.(*net.TCPConn).CloseWrite()
		if strings.HasPrefix(x.says, "PRI") {
			continue
		}
		all, err := io.ReadAll(br)
		require.NoError(t, err)
		require.Equal(t, x.says, string(all))
	}
	c, br := dial(t, r) // a word that may become a method, and an end
	first <- ""
	io.WriteString(c, "QUIT")
	c.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(br)
	require.NoError(t, err)
	require.Equal(t, "QUIT", string(all))
}
