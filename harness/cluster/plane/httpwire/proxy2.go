package httpwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// reserve is taken, once, off what a client grants the server for all streams together: room for bodies of ours.
	reserve    = 2 * MaxBody
	maxList    = 1 << 20 // bytes of a header list
	leastFrame = 16 << 10
)

// proxy2 carries HTTP/2. Frames keep their streams and their order, so flow control, pings, resets and GOAWAY are
// the ends' own. Two things are done for them. Header blocks are written anew, without a dynamic table: a request that
// is answered here must not be missed by the server's table, nor an answer of ours by the server's idea of the
// client's. And what a client sends on a stream that the server does not know of is taken, and granted again.
type proxy2 struct {
	p       *Proxy
	started bool // the preface is with the server

	fromClient, fromServer direction
	toServer, toClient     encoder

	last       uint32 // the highest stream of the client
	lastServed uint32 // of the server's GOAWAY
	ours       ring   // streams that the server does not know of

	room   int    // what the client granted for all streams and the server does not know of
	window uint32 // what it grants for each
	credit uint32 // what is to be granted to the client again

	owed    []owed
	waiting int  // bytes of owed
	partly  bool // a frame of the server is passed on in part: nothing of ours can come now
	// greeted: the server's SETTINGS went to the client, which are to be the first frame that it sees.
	greeted bool
	// upOver: the client has ended its stream. Whether it still reads cannot be told.
	upOver bool
}

// owed is an answer that is not on its way to the client yet.
type owed struct {
	answer *Answer
	call   Call
	stream uint32
	frames []byte
	body   int // bytes of it, for which room was taken
}

func newProxy2(p *Proxy) *proxy2 {
	c := &proxy2{
		p: p, fromClient: direction{table: newDecoder()}, fromServer: direction{table: newDecoder()},
		ours: ring{has: map[uint32]struct{}{}}, window: 65535, lastServed: math.MaxInt32,
	}
	c.toServer.init()
	c.toClient.init()
	return c
}

// encoder writes header blocks without a dynamic table, which every receiver allows. Each says so anew (RFC 7541 4.2): none depends
// on another, and one that waits may go later than was thought, or never.
type encoder struct {
	buf bytes.Buffer
	h   *hpack.Encoder
}

func (e *encoder) init() {
	e.h = hpack.NewEncoder(&e.buf)
	e.h.SetMaxDynamicTableSize(0)
}

// block appends the frames of a header block.
func (e *encoder) block(out []byte, kind http2.FrameType, flags http2.Flags, stream uint32, prefix []byte, fields []hpack.HeaderField) []byte {
	e.buf.Reset()
	e.buf.Write(prefix)
	e.h.SetMaxDynamicTableSize(e.h.MaxDynamicTableSize()) // has it written with the first field
	for _, f := range fields {
		_ = e.h.WriteField(f) // to memory
	}
	b := e.buf.Bytes()
	for {
		n := min(len(b), leastFrame)
		end := http2.Flags(0)
		if n == len(b) {
			end = http2.FlagHeadersEndHeaders
		}
		out = appendFrame(out, kind, flags|end, stream, b[:n])
		if b = b[n:]; len(b) == 0 {
			return out
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

// again writes a block that was read.
func (e *encoder) again(out []byte, k *block, fields []hpack.HeaderField) []byte {
	flags := k.first.flags & (http2.FlagHeadersEndStream | http2.FlagHeadersPriority)
	if k.first.kind == http2.FramePushPromise {
		flags = 0
	}
	return e.block(out, k.first.kind, flags, k.first.stream, k.prefix, fields)
}

// list reads the fields of a block.
func (d *direction) list() (fields []hpack.HeaderField, why string) {
	fragment := d.block.fragment
	d.block.fragment = nil
	size := 0
	why = d.table.read(fragment, func(f hpack.HeaderField) {
		if size += int(f.Size()); size <= maxList {
			fields = append(fields, f)
		}
	})
	if why == "" && size > maxList {
		why = "a header list is longer than 1 MiB"
	}
	return fields, why
}

// pass appends a piece as it came.
func (p *piece) pass(out []byte) []byte {
	if whole(p.kind) {
		if p.ends {
			out = appendFrame(out, p.kind, p.flags, p.stream, p.body)
		}
		return out
	}
	if p.begins {
		n := p.length
		out = append(out, byte(n>>16), byte(n>>8), byte(n), byte(p.kind), byte(p.flags))
		out = binary.BigEndian.AppendUint32(out, p.stream)
	}
	return append(out, p.raw...)
}

func (c *proxy2) up(b []byte) (why string) {
	if !c.started && len(b) > 0 {
		c.started = true
		c.p.toServer = append(c.p.toServer, preface...)
		b = b[len(preface):]
	}
	why = c.fromClient.read(b, c.takeUp)
	if why == "" && (len(c.owed) > 0 || c.credit > 0) {
		c.flush()
		c.p.wakeDown()
	}
	return why
}

// upEnd passes on a frame that was broken off.
func (c *proxy2) upEnd() {
	c.upOver = true
	if f := &c.fromClient.frames; len(f.head) < frameHead || whole(f.at.kind) {
		c.p.toServer = append(append(c.p.toServer, f.head...), f.body...)
	}
}

func (c *proxy2) takeUp(p piece) (why string) {
	mine := p.stream != 0 && c.ours.contains(p.stream)
	switch p.kind {
	case http2.FrameHeaders, http2.FrameContinuation:
		if !p.ends {
			return ""
		}
		whole, why := c.fromClient.block.take(p)
		if whole {
			return c.ask()
		}
		return why
	case http2.FrameData:
		if mine && p.ends {
			c.credit += uint32(p.length)
		}
		if mine {
			return ""
		}
	case http2.FrameRSTStream:
		if mine && p.ends {
			c.withdraw(p.stream)
		}
		if mine {
			return ""
		}
	case http2.FrameWindowUpdate:
		if mine {
			return ""
		}
		if p.ends && p.stream == 0 && len(p.body) == 4 {
			c.grant(binary.BigEndian.Uint32(p.body) &^ (1 << 31))
			return ""
		}
	case http2.FrameSettings:
		if p.ends {
			settings(p, func(id http2.SettingID, v uint32) {
				switch id {
				case http2.SettingHeaderTableSize:
					c.fromServer.table.allow(v)
				case http2.SettingInitialWindowSize:
					c.window = v
				}
			})
		}
	}
	c.p.toServer = p.pass(c.p.toServer)
	return ""
}

// grant passes on what a client grants for all streams, less what is missing of the reserve. So the server never
// believes in more room than there is.
func (c *proxy2) grant(n uint32) {
	if take := min(int(n), reserve-c.room); take > 0 {
		c.room += take
		if n -= uint32(take); n == 0 {
			return
		}
	}
	c.p.toServer = appendFrame(c.p.toServer, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, n))
}

// ask takes a header block of the client and decides who answers.
func (c *proxy2) ask() (why string) {
	k := &c.fromClient.block
	fields, why := c.fromClient.list()
	if why != "" {
		return why
	}
	id := k.first.stream
	if c.ours.contains(id) {
		return "" // trailers
	}
	if id > c.last {
		c.last = id
		s := stream{call: Call{Proto: "h2", Begin: c.p.cfg.Now()}}
		for _, f := range fields {
			s.requestField(f)
		}
		if a := c.choose(id, &s.call); a != nil {
			c.ours.add(id)
			c.reply(id, a, s.call, k.endsStream())
			return ""
		}
	}
	c.p.toServer = c.toServer.again(c.p.toServer, k, fields)
	return ""
}

func (c *proxy2) choose(id uint32, call *Call) *Answer {
	if c.p.full() || c.waiting > maxQueued || id > c.lastServed || call.Method == "CONNECT" {
		return nil
	}
	return c.p.cfg.Choose(Request{Proto: call.Proto, Method: call.Method, Path: call.Path})
}

// reply answers a stream and ends it.
func (c *proxy2) reply(id uint32, a *Answer, call Call, ended bool) {
	var fields []hpack.HeaderField
	add := func(name, value string) { fields = append(fields, hpack.HeaderField{Name: name, Value: value}) }
	body := ""
	if a.Code != 0 {
		add(":status", "200")
		add("content-type", "application/grpc")
		add("grpc-status", strconv.Itoa(a.Code))
		if a.Message != "" {
			add("grpc-message", percent(a.Message))
		}
	} else {
		if len(a.Body) <= c.room && len(a.Body) <= int(c.window) {
			body = a.Body
		}
		add(":status", strconv.Itoa(a.Status))
		if body != "" {
			add("content-type", mediaType(body))
		}
		add("content-length", strconv.Itoa(len(body)))
		if a.RetryAfter != "" {
			add("retry-after", a.RetryAfter)
		}
		if call.Method == "HEAD" {
			body = ""
		}
	}
	c.room -= len(body)
	flags := http2.FlagHeadersEndStream
	if body != "" {
		flags = 0
	}
	// Written with the encoder of what the server says: it keeps no table, so their order does not matter.
	frames := c.toClient.block(nil, http2.FrameHeaders, flags, id, nil, fields)
	if body != "" {
		frames = appendFrame(frames, http2.FrameData, http2.FlagDataEndStream, id, []byte(body))
	}
	if !ended { // RFC 9113 8.1: the rest of the request is not wanted, and that is no error
		frames = appendFrame(frames, http2.FrameRSTStream, 0, id, make([]byte, 4))
	}
	c.owed = append(c.owed, owed{a, call, id, frames, len(body)})
	c.waiting += len(frames)
}

// withdraw forgets the answer to a stream that the client has reset, if it has not gone: nobody would see it. The room for its body
// is free again, as if the client had granted it.
func (c *proxy2) withdraw(id uint32) {
	i := slices.IndexFunc(c.owed, func(o owed) bool { return o.stream == id })
	if i < 0 {
		return
	}
	o := c.owed[i]
	c.owed = slices.Delete(c.owed, i, i+1)
	c.waiting -= len(o.frames)
	if o.body > 0 {
		c.grant(uint32(o.body))
	}
}

// percent encodes a message as gRPC asks for.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// flush has frames of ours go to the client, where none of the server's is passed on in part and none was the last. Answers count
// only then: what waits here may never go. They do not count once the client's stream has ended: who has ended its own half alone
// gets its answer, but who has closed looks the same.
func (c *proxy2) flush() {
	if c.partly || !c.greeted || c.p.over {
		return
	}
	if c.credit > 0 {
		c.p.toClient = appendFrame(c.p.toClient, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, c.credit))
		c.credit = 0
	}
	for _, o := range c.owed {
		c.p.toClient = append(c.p.toClient, o.frames...)
		if !c.upOver {
			c.p.given(o.answer, o.call)
		}
	}
	c.owed, c.waiting = nil, 0
}

func (c *proxy2) down(b []byte) (why string) {
	if why = c.fromServer.read(b, c.takeDown); why == "" {
		c.flush()
	}
	return why
}

func (c *proxy2) takeDown(p piece) (why string) {
	switch p.kind {
	case http2.FrameHeaders, http2.FrameContinuation, http2.FramePushPromise:
		if !p.ends {
			return ""
		}
		whole, why := c.fromServer.block.take(p)
		if !whole {
			return why
		}
		fields, why := c.fromServer.list()
		if why != "" {
			return why
		}
		c.p.toClient = c.toClient.again(c.p.toClient, &c.fromServer.block, fields)
		return ""
	case http2.FrameSettings:
		if p.ends {
			settings(p, func(id http2.SettingID, v uint32) {
				if id == http2.SettingHeaderTableSize {
					c.fromClient.table.allow(v)
				}
			})
			c.greeted = true
		}
	case http2.FrameGoAway:
		if p.ends && len(p.body) >= 8 {
			c.lastServed = binary.BigEndian.Uint32(p.body) &^ (1 << 31)
		}
	}
	c.p.toClient = p.pass(c.p.toClient)
	c.partly = !whole(p.kind) && !p.ends
	return ""
}

// ring remembers the last so many streams.
type ring struct {
	has   map[uint32]struct{}
	order []uint32
	next  int
}

func (r *ring) contains(id uint32) bool { _, ok := r.has[id]; return ok }

func (r *ring) add(id uint32) {
	const most = 1 << 16
	r.has[id] = struct{}{}
	if len(r.order) < most {
		r.order = append(r.order, id)
		return
	}
	delete(r.has, r.order[r.next])
	r.order[r.next] = id
	r.next = (r.next + 1) % most
}
