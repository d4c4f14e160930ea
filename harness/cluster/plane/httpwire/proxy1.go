package httpwire

import (
	"fmt"
	"net/http"
)

// proxy1 carries HTTP/1.1. What is forwarded keeps every byte; only the head of a request is held until it is whole
// and it is known who answers.
type proxy1 struct {
	p *Proxy

	in      message
	held    []byte // of a head; or what came after a request that may switch the connection to something else
	current *turn  // whose body comes
	pause   bool   // until the answer tells whether the connection was switched
	asIs    bool   // what comes now is no request
	discard bool   // the last answer says that the connection ends

	answer message
	passes bool // what comes now is no answer

	queue []*turn // not answered yet, in order
}

// turn is a request whose answer is due.
type turn struct {
	method  string
	switchs bool
	settled bool // it is known whether the connection was switched

	answer *Answer // nil: the server's to give
	call   Call
	before []byte // to be sent as soon as it is this request's turn
	reply  []byte
	ready  bool // the request is whole, or its rest does not count
	closes bool // the connection ends with the answer
	old    bool // HTTP/1.0
}

func newProxy1(p *Proxy) *proxy1 {
	return &proxy1{p: p, in: newMessage(false), answer: newMessage(true)}
}

func (c *proxy1) up(b []byte) (why string) {
	c.hurry()
	if c.pause {
		if c.held = append(c.held, b...); len(c.held) <= maxHead {
			return ""
		}
		c.asIs = true // it does not wait for the answer
	}
	if c.pause && c.asIs {
		b, c.held, c.pause = c.held, nil, false
	}
	for len(b) > 0 && !c.discard && !c.pause {
		if c.asIs {
			c.p.toServer = append(c.p.toServer, b...)
			break
		}
		atHead := c.in.state == inHead
		n, s, why := c.in.next(b)
		if atHead {
			c.held = append(c.held, b[:n]...)
		} else if c.current.answer == nil {
			c.p.toServer = append(c.p.toServer, b[:n]...)
		}
		b = b[n:]
		if why == "" && s == headDone {
			if len(c.queue) == maxOpen {
				return "too many requests wait for an answer"
			}
			why = c.ask()
		}
		switch {
		case why != "" && !atHead && c.current.answer != nil:
			return why // where the next request begins nobody knows
		case why != "":
			c.asIs, c.p.toServer, c.held = true, append(c.p.toServer, c.held...), nil
		case s == bodyDone, s == headDone && c.in.state == inHead:
			c.requestDone()
		}
	}
	if c.pause {
		c.held = append(c.held, b...)
	}
	return ""
}

// resume goes on with what came while it was not known what it is. In a tunnel also half a head is none.
func (c *proxy1) resume(tunnel bool) {
	c.asIs = c.asIs || tunnel
	if !c.pause && !tunnel {
		return
	}
	held := c.held
	c.pause, c.held = false, nil
	if len(held) > 0 {
		c.p.first = held // the next Up begins with it
		c.p.cfg.WakeUp()
	}
}

// ask takes the head of a request and decides who answers.
func (c *proxy1) ask() (why string) {
	h := c.in.head
	call, why := c.in.asRequest()
	if why != "" {
		return why
	}
	call.Begin = c.p.cfg.Now()
	t := &turn{method: call.Method, switchs: h.switches(call.Method), call: call}
	// Who asks for an upgrade takes an answer as to any request; who connects wants no answer of HTTP.
	if !c.p.full() && call.Method != "CONNECT" {
		t.answer = c.p.cfg.Choose(Request{Proto: call.Proto, Method: call.Method, Path: call.Path})
	}
	if t.answer == nil {
		c.p.toServer = append(c.p.toServer, c.held...)
	} else {
		t.old = h.oldVersion()
		t.closes = h.closes || t.old && !h.keeps
		t.reply = t.answer.http1(call.Method, t.closes, t.old)
		if h.continues {
			t.before = []byte("HTTP/1.1 100 Continue\r\n\r\n") // else the body, and with it the next request, may not come
		}
	}
	c.held, c.current = nil, t
	c.queue = append(c.queue, t)
	c.advance()
	return ""
}

// hurry answers the request whose rest is still to come, where who chose the answer is no more, and ends the connection with it: nobody
// knows when the rest comes, and by then no request is to be answered here.
func (c *proxy1) hurry() {
	t := c.current
	if t == nil || t.answer == nil || t.ready || t.answer.Over == nil || !t.answer.Over() {
		return
	}
	t.ready, t.closes, c.discard = true, true, true
	t.reply = t.answer.http1(t.method, true, t.old)
	c.advance()
}

// requestDone comes when a request is whole.
func (c *proxy1) requestDone() {
	t := c.current
	c.in.begin()
	t.ready = true
	if t.answer != nil {
		c.discard = t.closes
		c.advance()
		return
	}
	c.pause = t.switchs && !t.settled
}

// upEnd passes on a request that is not whole: it stays without an answer of ours.
func (c *proxy1) upEnd() {
	c.p.toServer = append(c.p.toServer, c.held...)
	c.held = nil
}

// advance gives the answers of ours whose turn it is.
func (c *proxy1) advance() {
	for len(c.queue) > 0 && c.queue[0].answer != nil {
		t := c.queue[0]
		if len(t.before) > 0 {
			c.say(t.before)
			t.before = nil
		}
		if !t.ready {
			return
		}
		c.pop()
		if c.p.over {
			continue // the client has seen the end already
		}
		c.say(t.reply)
		c.p.given(t.answer, t.call)
		if t.closes {
			c.p.cfg.EndUp()
		}
	}
}

func (c *proxy1) say(b []byte) {
	c.p.toClient = append(c.p.toClient, b...)
	c.p.wakeDown()
}

func (c *proxy1) pop() {
	c.queue[0] = nil
	c.queue = c.queue[1:]
}

func (c *proxy1) down(b []byte) (why string) {
	for len(b) > 0 {
		if c.passes {
			c.p.toClient = append(c.p.toClient, b...)
			return ""
		}
		n, s, why := c.answer.next(b)
		c.p.toClient = append(c.p.toClient, b[:n]...)
		b = b[n:]
		done := s == bodyDone
		if why == "" && s == headDone {
			done, why = c.answerHead()
		}
		if why != "" {
			// The rest is carried as it is, if nothing of ours has to find its place in it.
			if c.owes() {
				return why
			}
			c.passes = true
			c.resume(true) // which requests it would answer nobody knows
		}
		if done {
			c.answer.begin()
			if c.front() != nil {
				c.pop()
			}
			c.advance()
		}
	}
	return ""
}

// front is the request that the server is answering, or nil: then nobody asked, and the server closes an idle connection.
func (c *proxy1) front() *turn {
	if len(c.queue) == 0 || c.queue[0].answer != nil {
		return nil
	}
	return c.queue[0]
}

// answerHead takes the head of an answer. done means that it has no body.
func (c *proxy1) answerHead() (done bool, why string) {
	status, why := c.answer.asResponse()
	if why != "" {
		return false, why
	}
	if status < 200 && status != 101 {
		c.answer.begin()
		return false, ""
	}
	t := c.front()
	method := ""
	if t != nil {
		method = t.method
	}
	if t != nil && t.switchs && !t.settled {
		t.settled = true
		c.passes = status == 101 || method == "CONNECT" && status < 300
		if c.resume(c.passes); c.passes {
			return false, ""
		}
	}
	return c.answer.beginAnswer(method, status), ""
}

// owes says that an answer of ours is due.
func (c *proxy1) owes() bool {
	for _, t := range c.queue {
		if t.answer != nil {
			return true
		}
	}
	return false
}

// http1 is the answer as it is sent.
func (a *Answer) http1(method string, closes, old bool) []byte {
	version := "HTTP/1.1"
	if old {
		version = "HTTP/1.0"
	}
	reason := http.StatusText(a.Status)
	if reason == "" {
		reason = "Error"
	}
	b := fmt.Appendf(nil, "%s %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n", version, a.Status, reason, mediaType(a.Body), len(a.Body))
	if a.RetryAfter != "" {
		b = fmt.Appendf(b, "Retry-After: %s\r\n", a.RetryAfter)
	}
	switch {
	case closes:
		b = append(b, "Connection: close\r\n"...)
	case old:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	b = append(b, "\r\n"...)
	if method != "HEAD" {
		b = append(b, a.Body...)
	}
	return b
}
