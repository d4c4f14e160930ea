package httpwire

// http1 reads HTTP/1.0 and HTTP/1.1.
type http1 struct {
	r    *Reader
	up   message
	down message
	open []*exchange // that are not answered yet, in order
	// awaits holds what the client sent after a request that may turn the connection into something else, until the
	// answer tells.
	awaits  []byte
	waiting bool
	tunnel  bool // HTTP is over: what passes now is not a request
}

// exchange is a request and its answer.
type exchange struct {
	call    Call
	method  string
	switchs bool // CONNECT, or an upgrade is asked for
}

func newHTTP1(r *Reader) *http1 { return &http1{r: r, up: newMessage(false), down: newMessage(true)} }

func (h *http1) request(b []byte) string {
	for len(b) > 0 && !h.tunnel {
		if h.waiting {
			if len(h.awaits)+len(b) > maxHead {
				return "the client went on before its upgrade was answered"
			}
			h.awaits = append(h.awaits, b...)
			return ""
		}
		n, s, why := h.up.next(b)
		if why != "" {
			return why
		}
		b = b[n:]
		switch s {
		case headDone:
			if len(h.open) == maxOpen {
				return "too many requests wait for an answer"
			}
			c, why := h.up.asRequest()
			if why != "" {
				return why
			}
			c.Begin = h.r.now()
			x := &exchange{call: c, method: c.Method, switchs: h.up.head.switches(c.Method)}
			h.open = append(h.open, x)
			if h.up.state == inHead {
				h.up.begin()
				h.waiting = x.switchs
			}
		case bodyDone:
			h.waiting = len(h.open) > 0 && h.open[len(h.open)-1].switchs
		}
	}
	return ""
}

func (h *head) switches(method string) bool {
	return method == "CONNECT" || h.asUpgrade && h.upgrade != ""
}

func (h *http1) response(b []byte) string {
	for len(b) > 0 && !h.tunnel {
		n, s, why := h.down.next(b)
		if why != "" {
			return why
		}
		b = b[n:]
		switch s {
		case headDone:
			if why := h.answer(); why != "" {
				return why
			}
		case bodyDone:
			if why := h.finish(); why != "" {
				return why
			}
		}
	}
	return ""
}

// answer takes the head of an answer.
func (h *http1) answer() string {
	status, why := h.down.asResponse()
	if why != "" {
		return why
	}
	if status < 200 && status != 101 {
		h.down.begin()
		return ""
	}
	method := ""
	if len(h.open) > 0 { // an answer that nobody asked for says that the server closes an idle connection
		x := h.open[0]
		x.call.Status, method = status, x.method
		if x.switchs && (status == 101 || method == "CONNECT" && status < 300) {
			upgrade := h.down.head.upgrade
			h.tunnel, h.awaits = true, nil // before it is reported: what waits for the answer is no request
			h.finish()
			if upgrade == "h2c" {
				return "the connection was upgraded to HTTP/2"
			}
			return ""
		}
	}
	if h.down.beginAnswer(method, status) {
		h.down.begin()
		return h.finish()
	}
	return ""
}

// finish reports the call that was answered.
func (h *http1) finish() string {
	if len(h.open) == 0 {
		return ""
	}
	x := h.open[0]
	h.open[0] = nil
	h.open = h.open[1:]
	x.call.End = h.r.now()
	h.r.emit(x.call)
	if x.switchs && h.waiting {
		held := h.awaits
		h.waiting, h.awaits = false, nil
		return h.request(held)
	}
	return ""
}

func (h *http1) responseEnd() {
	if h.down.state == inEndless && !h.tunnel {
		h.down.begin()
		h.finish()
	}
}

func (h *http1) cut(how string) {
	for _, x := range h.open {
		x.call.End, x.call.Error = h.r.now(), how
		h.r.emit(x.call)
	}
	h.open = nil
}
