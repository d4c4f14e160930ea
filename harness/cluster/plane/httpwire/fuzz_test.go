package httpwire

import (
	"bytes"
	"io"
	"log"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var quiet = log.New(io.Discard, "", 0)

const (
	longest = 10 * time.Second
	tick    = time.Millisecond
)

// asked is a request on HTTP/2, and answered its answer, as bytes.
func asked() []byte {
	var e encoder
	e.h = hpack.NewEncoder(&e.buf) // with a table
	b := append([]byte(preface), appendFrame(nil, http2.FrameSettings, 0, 0, nil)...)
	for id := uint32(1); id < 6; id += 2 {
		b = e.block(b, http2.FrameHeaders, http2.FlagHeadersEndStream, id, nil, []hpack.HeaderField{
			{Name: ":method", Value: "POST"}, {Name: ":path", Value: "/p.S/M"}, {Name: "content-type", Value: "application/grpc"}, {Name: "x-request-id", Value: "r"}})
	}
	return b
}

func answered() []byte {
	var e encoder
	e.h = hpack.NewEncoder(&e.buf)
	b := appendFrame(nil, http2.FrameSettings, 0, 0, []byte{0, 1, 0, 0, 32, 0})
	for id := uint32(1); id < 6; id += 2 {
		b = e.block(b, http2.FrameHeaders, 0, id, nil, []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}})
		b = appendFrame(b, http2.FrameData, 0, id, []byte("hello"))
		b = e.block(b, http2.FrameHeaders, http2.FlagHeadersEndStream, id, nil, []hpack.HeaderField{{Name: "grpc-status", Value: "0"}})
	}
	return b
}

func seeds(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No\r\n\r\n"), uint8(7))
	f.Add([]byte("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), []byte("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), uint8(3))
	f.Add([]byte("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nmore"), []byte("HTTP/1.1 101 S\r\n\r\nraw"), uint8(1))
	f.Add(asked(), answered(), uint8(11))
	f.Add([]byte(preface), []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}, uint8(2))
}

// interleaved hands both streams over in pieces.
func interleaved(in, out []byte, size uint8, up, down func([]byte)) {
	n := int(size)%64 + 1
	for len(in)+len(out) > 0 {
		k := min(n, len(in))
		up(bytes.Clone(in[:k]))
		in = in[k:]
		k = min(n, len(out))
		down(bytes.Clone(out[:k]))
		out = out[k:]
	}
}

func FuzzReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in, out []byte, size uint8) {
		n := 0
		r := NewReader(now, func(c Call) {
			n++
			if len(c.Path) > maxField || len(c.RequestID) > maxField || len(c.Method) > maxField || c.Proto == "" {
				t.Fatalf("a call of %+v", c)
			}
		})
		interleaved(in, out, size, r.Request, r.Response)
		r.ResponseEnd()
		r.End(Reset)
		if n > len(in) {
			t.Fatalf("%d calls of %d bytes", n, len(in))
		}
		r.Request(in)
		r.Response(out)
	})
}

func FuzzProxy(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in, out []byte, size uint8) {
		for _, every := range []int{0, 2} {
			asked, reset, ended := 0, false, false
			p := NewProxy(Config{Now: now, Injected: func(Call) {}, WakeUp: func() {}, WakeDown: func() {}, EndUp: func() { ended = true },
				Reset: func() { reset = true },
				Choose: func(Request) *Answer {
					if asked++; every > 0 && asked%every == 0 {
						return &Answer{Status: 503, Body: "no"}
					}
					return nil
				}})
			var toServer, toClient []byte
			interleaved(in, out, size,
				func(b []byte) { toServer = append(toServer, p.Up(b)...) },
				func(b []byte) { toClient = append(toClient, p.Down(b)...) })
			toServer = append(append(toServer, p.Up(nil)...), p.UpEnd()...)
			toClient = append(toClient, p.Down(nil)...)
			p.DownEnd()
			if every > 0 || ended || bytes.HasPrefix(in, []byte(preface)) {
				continue
			}
			// Where nothing is answered nothing is changed.
			if !reset && !bytes.Equal(in, toServer) {
				t.Fatalf("%q became %q", in, toServer)
			}
			if !reset && !bytes.Equal(out, toClient) && !mayHold(in, out) {
				t.Fatalf("%q came as %q", out, toClient)
			}
		}
	})
}

// mayHold says that what the server sent is still held: nothing of the client tells yet what it is.
func mayHold(in, out []byte) bool {
	return len(out) > 0 && mayBeSettings(out) && len(in) < len(preface)
}
