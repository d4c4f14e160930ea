package httpwire

import (
	"bytes"
	"strconv"
	"strings"
)

// message is the reading of one direction of an HTTP/1.1 connection: heads and bodies one after the other, whoever
// sends them. It is told where to begin a body, since the length of an answer depends on what was asked.
type message struct {
	answers bool // these are answers, not requests
	state   state
	line    []byte // the line that is not whole yet
	size    int    // bytes of the head, or of the trailers
	left    int64  // of the body, or of a chunk with its line end
	head    head
}

type state int

const (
	inHead state = iota
	inFixed
	inChunkLine
	inChunk
	inTrailers
	inEndless // to the end of the stream
)

// head is what the framing of a message, and a Call, need of its head.
type head struct {
	lines      int
	first      string // the request line, or the status line
	length     int64  // of Content-Length; -1: none
	lengths    int    // how many there were
	chunked    bool   // the last coding is chunked
	coded      bool   // there is a Transfer-Encoding
	upgrade    string // what it is to be upgraded to
	asUpgrade  bool   // Connection: upgrade
	closes     bool   // Connection: close
	keeps      bool   // Connection: keep-alive
	continues  bool   // Expect: 100-continue
	grpc       bool
	call       Call // ids
	unreadable string
}

// step is how far next came.
type step int

const (
	needMore step = iota // everything was taken
	headDone             // the head is whole: begin its body
	bodyDone             // the message is over: the next head comes
)

// next takes bytes to the next step, and says how many. The state after headDone is that of a message without a body,
// until one of fixed, chunks and endless is called. A reason means that this is no HTTP.
func (m *message) next(b []byte) (n int, s step, why string) {
	for n < len(b) {
		switch m.state {
		case inFixed, inChunk:
			take := int(min(m.left, int64(len(b)-n)))
			n, m.left = n+take, m.left-int64(take)
			if m.left > 0 {
				return n, needMore, ""
			}
			if m.state == inFixed {
				m.begin()
				return n, bodyDone, ""
			}
			m.state = inChunkLine
			continue
		case inEndless:
			return len(b), needMore, ""
		}
		i := bytes.IndexByte(b[n:], '\n')
		take := len(b) - n
		if i >= 0 {
			take = i + 1
		}
		m.line = append(m.line, b[n:n+take]...)
		n, m.size = n+take, m.size+take
		if m.size > maxHead {
			return n, needMore, "a head is longer than 64 KiB"
		}
		if m.state == inHead && m.head.lines == 0 {
			if why := m.begins(); why != "" {
				return n, needMore, why
			}
		}
		if i < 0 {
			return n, needMore, ""
		}
		line := strings.TrimSuffix(strings.TrimSuffix(string(m.line), "\n"), "\r")
		m.line = m.line[:0]
		switch m.state {
		case inHead:
			if line == "" && m.head.lines == 0 {
				m.size = 0
				continue // RFC 9112 2.2: an empty line before a request is to be passed over
			}
			if line == "" {
				m.line, m.size = nil, 0
				return n, headDone, m.head.unreadable
			}
			if m.head.add(line); m.head.unreadable != "" {
				return n, needMore, m.head.unreadable
			}
			if m.head.lines == 1 {
				if why := m.firstLine(); why != "" {
					return n, needMore, why
				}
			}
		case inChunkLine:
			m.size = 0
			if line == "" { // the end of the chunk before
				if m.left < 0 {
					return n, needMore, "a chunk has no length"
				}
				m.left = -1
				continue
			}
			hex, _, _ := strings.Cut(line, ";")
			v, err := strconv.ParseInt(strings.TrimSpace(hex), 16, 62)
			if err != nil || v < 0 || m.left == 0 {
				return n, needMore, "a chunk has no length"
			}
			if v == 0 {
				m.state = inTrailers
				continue
			}
			m.state, m.left = inChunk, v
		case inTrailers:
			if line == "" {
				m.begin()
				return n, bodyDone, ""
			}
		}
	}
	return n, needMore, ""
}

// begin waits for the next head.
func (m *message) begin() { *m = newMessage(m.answers) }

func newMessage(answers bool) message { return message{answers: answers, head: head{length: -1}} }

// begins finds out that this is not HTTP before the first line has ended, which may never come.
func (m *message) begins() (why string) {
	b := m.line
	if b[0] == '\r' || b[0] == '\n' {
		return ""
	}
	const version = "HTTP/1."
	switch {
	case m.answers && string(b[:min(len(b), len(version))]) != version[:min(len(b), len(version))]:
		return "the server does not speak HTTP"
	case !m.answers && b[0] == 0x16:
		return "the client speaks TLS"
	case !m.answers && !isToken(string(b[:1])):
		return "the client does not speak HTTP"
	}
	return ""
}

// firstLine says what is wrong with the first line.
func (m *message) firstLine() (why string) {
	if m.answers {
		_, why = m.asResponse()
		return why
	}
	parts := strings.Fields(m.head.first)
	if len(parts) != 3 || !strings.HasPrefix(parts[2], "HTTP/1.") || !isToken(parts[0]) {
		return "the client does not speak HTTP"
	}
	return ""
}

func (m *message) fixed(n int64) { m.state, m.left = inFixed, n }
func (m *message) chunks()       { m.state, m.left = inChunkLine, -1 }
func (m *message) endless()      { m.state = inEndless }

// add reads a line of a head.
func (h *head) add(line string) {
	h.lines++
	if h.lines == 1 {
		h.first = line
		return
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		if line[0] == ' ' || line[0] == '\t' {
			return // a folded line: obsolete, and of no field that matters here
		}
		h.unreadable = "a line of a head is no header field"
		return
	}
	name, value = strings.ToLower(name), strings.TrimSpace(value)
	switch name {
	case "content-length":
		v, err := strconv.ParseUint(value, 10, 62)
		if err != nil || h.lengths > 0 && h.length != int64(v) {
			h.unreadable = "the length of a message cannot be told"
			return
		}
		h.length, h.lengths = int64(v), h.lengths+1
	case "transfer-encoding":
		h.coded = true
		for c := range strings.SplitSeq(value, ",") {
			h.chunked = strings.EqualFold(strings.TrimSpace(c), "chunked")
		}
	case "connection":
		for c := range strings.SplitSeq(value, ",") {
			switch strings.ToLower(strings.TrimSpace(c)) {
			case "upgrade":
				h.asUpgrade = true
			case "close":
				h.closes = true
			case "keep-alive":
				h.keeps = true
			}
		}
	case "upgrade":
		h.upgrade = strings.ToLower(field(value))
	case "expect":
		h.continues = strings.EqualFold(value, "100-continue")
	case "content-type":
		h.grpc = isGRPC(value)
	default:
		h.call.note(name, value)
	}
}

func isGRPC(contentType string) bool {
	const t = "application/grpc"
	return len(contentType) >= len(t) && strings.EqualFold(contentType[:len(t)], t) &&
		(len(contentType) == len(t) || strings.ContainsRune("+; ", rune(contentType[len(t)])))
}

// asRequest reads the first line, which firstLine has found well formed, and begins the body.
func (m *message) asRequest() (c Call, why string) {
	h := &m.head
	parts := strings.Fields(h.first)
	c = h.call
	c.Proto, c.Method, c.Path = "http/1.1", field(parts[0]), pathOf(parts[1])
	if parts[0] == "CONNECT" {
		c.Path = field(parts[1])
	}
	switch {
	case h.coded && !h.chunked:
		return c, "the length of a message cannot be told"
	case h.chunked:
		m.chunks()
	case h.length > 0:
		m.fixed(h.length)
	}
	return c, ""
}

// oldVersion says that the message is of HTTP/1.0.
func (h *head) oldVersion() bool { return strings.HasSuffix(h.first, "HTTP/1.0") }

// asResponse reads the status line.
func (m *message) asResponse() (status int, why string) {
	version, rest, _ := strings.Cut(m.head.first, " ")
	code, _, _ := strings.Cut(rest, " ")
	v, err := strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/1.") || err != nil || v < 100 || v > 999 {
		return 0, "the server does not speak HTTP"
	}
	return v, ""
}

// beginAnswer begins the body of a final answer to a request with a method. none means that it has no body.
func (m *message) beginAnswer(method string, status int) (none bool) {
	h := &m.head
	switch {
	case method == "HEAD", status == 204, status == 304, status < 200:
		return true
	case h.coded && h.chunked:
		m.chunks()
	case h.coded:
		m.endless()
	case h.length > 0:
		m.fixed(h.length)
	case h.length == 0:
		return true
	default:
		m.endless()
	}
	return false
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}
