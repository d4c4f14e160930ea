package httpwire

import (
	"encoding/binary"
	"math"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Reader reads HTTP/2, and gRPC on it.
type http2Reader struct {
	r          *Reader
	up, down   direction
	last       uint32 // the highest stream of the client
	lastServed uint32 // of the server's GOAWAY
	open       map[uint32]*stream
}

// direction is one of the two streams of bytes.
type direction struct {
	frames frames
	block  block
	table  *decoder
}

// stream is a call that is not answered yet.
type stream struct {
	call Call
	grpc bool
}

func newHTTP2(r *Reader) *http2Reader {
	return &http2Reader{
		r: r, open: map[uint32]*stream{}, lastServed: math.MaxInt32,
		up: direction{table: newDecoder()}, down: direction{table: newDecoder()},
	}
}

func (h *http2Reader) request(b []byte) string  { return h.up.read(b, h.fromClient) }
func (h *http2Reader) response(b []byte) string { return h.down.read(b, h.fromServer) }
func (h *http2Reader) responseEnd()             {}

// read cuts bytes into pieces.
func (d *direction) read(b []byte, take func(piece) (why string)) (why string) {
	for len(b) > 0 {
		n, p, ok, why := d.frames.next(b)
		b = b[n:]
		if ok && why == "" {
			if d.block.on && p.begins && p.kind != http2.FrameContinuation {
				return "a header block is broken off"
			}
			why = take(p)
		}
		if why != "" {
			return why
		}
	}
	return ""
}

func (h *http2Reader) fromClient(p piece) string {
	if !p.ends {
		return ""
	}
	switch p.kind {
	case http2.FrameHeaders, http2.FrameContinuation:
		whole, why := h.up.block.take(p)
		if whole {
			return h.ask()
		}
		return why
	case http2.FrameSettings:
		settings(p, func(id http2.SettingID, v uint32) {
			if id == http2.SettingHeaderTableSize {
				h.down.table.allow(v)
			}
		})
	case http2.FrameRSTStream:
		h.end(p.stream, Cancelled)
	}
	return ""
}

// ask takes the head of a request, or its trailers.
func (h *http2Reader) ask() string {
	k := &h.up.block
	fragment := k.fragment
	k.fragment = nil
	s := &stream{call: Call{Proto: "h2", Begin: h.r.now()}}
	if why := h.up.table.read(fragment, s.requestField); why != "" {
		return why
	}
	if k.first.stream <= h.last {
		return ""
	}
	h.last = k.first.stream
	if len(h.open) == maxOpen {
		return "too many requests wait for an answer"
	}
	h.open[h.last] = s
	if h.last > h.lastServed { // the GOAWAY was on its way
		h.end(h.last, Refused)
	}
	return ""
}

// requestField takes a field of a request's head.
func (s *stream) requestField(f hpack.HeaderField) {
	switch f.Name {
	case ":method":
		s.call.Method = field(f.Value)
	case ":path":
		s.call.Path = pathOf(f.Value)
	case ":authority":
		if s.call.Path == "" { // CONNECT has no path
			s.call.Path = field(f.Value)
		}
	case "content-type":
		if isGRPC(f.Value) {
			s.grpc, s.call.Proto = true, "grpc"
		}
	default:
		s.call.note(f.Name, f.Value)
	}
}

func (h *http2Reader) fromServer(p piece) string {
	if !p.ends {
		return ""
	}
	switch p.kind {
	case http2.FrameHeaders, http2.FrameContinuation, http2.FramePushPromise:
		whole, why := h.down.block.take(p)
		if whole {
			return h.answer()
		}
		return why
	case http2.FrameData:
		if p.flags.Has(http2.FlagDataEndStream) {
			h.end(p.stream, "")
		}
	case http2.FrameSettings:
		settings(p, func(id http2.SettingID, v uint32) {
			if id == http2.SettingHeaderTableSize {
				h.up.table.allow(v)
			}
		})
	case http2.FrameRSTStream:
		how := Reset
		if len(p.body) >= 4 && http2.ErrCode(binary.BigEndian.Uint32(p.body)) == http2.ErrCodeRefusedStream {
			how = Refused
		}
		h.end(p.stream, how)
	case http2.FrameGoAway:
		if len(p.body) >= 8 {
			h.lastServed = binary.BigEndian.Uint32(p.body) &^ (1 << 31)
			for id := range h.open {
				if id > h.lastServed {
					h.end(id, Refused)
				}
			}
		}
	}
	return ""
}

// answer takes a header block of the server: a head, trailers, or a promise.
func (h *http2Reader) answer() string {
	k := &h.down.block
	fragment := k.fragment
	k.fragment = nil
	s := h.open[k.first.stream]
	if s == nil || k.first.kind == http2.FramePushPromise {
		return h.down.table.read(fragment, func(hpack.HeaderField) {})
	}
	if why := h.down.table.read(fragment, s.responseField); why != "" {
		return why
	}
	if k.endsStream() {
		h.end(k.first.stream, "")
	}
	return ""
}

// responseField takes a field of an answer's head or trailers.
func (s *stream) responseField(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		if v, err := strconv.Atoi(f.Value); err == nil && v >= 200 {
			s.call.Status = v
		}
	case "grpc-status":
		if v, err := strconv.Atoi(f.Value); err == nil && s.grpc {
			s.call.GRPCStatus = &v
		}
	}
}

// end reports a call, cut off in some way or answered.
func (h *http2Reader) end(id uint32, how string) {
	s := h.open[id]
	if s == nil {
		return
	}
	delete(h.open, id)
	s.call.End, s.call.Error = h.r.now(), how
	h.r.emit(s.call)
}

func (h *http2Reader) cut(how string) {
	for id := range h.open {
		h.end(id, how)
	}
}
