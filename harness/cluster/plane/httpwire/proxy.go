package httpwire

import (
	"strings"
	"sync"
	"time"
)

// Request is what a Proxy asks about. Of gRPC the Path is /package.Service/Method.
type Request struct {
	Proto  string // http/1.1 | h2 | grpc
	Method string
	Path   string
}

// Answer is given in the place of the server: of gRPC when Code is not 0, else of HTTP.
type Answer struct {
	Status     int    // 400 to 599
	Body       string // at most MaxBody bytes; over HTTP/2 left out when the client has granted no room for it
	RetryAfter string
	Code       int // 1 to 16
	Message    string

	// Given is told when it was given to a request, with the Proxy locked: HTTP/1.1 gives it once the request is whole, HTTP/2 between
	// two frames of the server and after its first, if ever. To a stream that the client has reset by then it is not given, and after
	// the end of what the client sends it is, but Given is not told: the client may have closed. nil: nobody asks.
	Given func()
	// Over says that who chose it is no more: it is given at once then, without the rest of the request. nil: never. After it has become
	// true Up is to be called.
	Over func() bool
}

// MaxBody bounds the body of an Answer.
const MaxBody = 4096

// Config of a Proxy. Choose and Injected are called with the Proxy locked: they must not call it.
type Config struct {
	Now func() time.Duration
	// Choose is asked once for each request, in the order in which their heads come; nil leaves it to the server.
	Choose func(Request) *Answer
	// Injected is told of each answer that was given.
	Injected func(Call)
	// WakeUp and WakeDown have Up(nil) and Down(nil) called soon.
	WakeUp, WakeDown func()
	// EndUp ends what the client sends, as if it had: the answer said that the connection ends with it.
	EndUp func()
	// Reset resets the connection at both ends: it cannot be carried on.
	Reset func()
}

// Proxy stands between the ends of a connection and answers chosen requests itself: those never reach the server.
// Nothing else of what the ends say to each other changes, but for the encoding of header blocks on HTTP/2, whose
// tables would else come apart. What is neither HTTP/1.1 nor HTTP/2 is carried as it is.
//
// It is given what comes from each end and returns what goes to the other in its place, valid until the next call for
// that direction. The two directions may be called from two goroutines.
type Proxy struct {
	cfg Config

	mu       sync.Mutex
	engine   engine // nil until the client's first bytes tell
	first    []byte // those bytes
	early    []byte // what the server sent before
	toServer []byte
	toClient []byte
	broken   bool
	over     bool // the server has ended its stream
	inDown   bool // what is for the client goes there as it is
}

// engine carries one protocol: it appends to the buffers of its Proxy. A reason means that it cannot go on.
type engine interface {
	up(b []byte) (why string)
	upEnd()
	down(b []byte) (why string)
}

// maxQueued bounds what is kept for a client that does not read: beyond it requests go to the server.
const maxQueued = 1 << 20

// NewProxy returns the proxy of a new connection.
func NewProxy(cfg Config) *Proxy { return &Proxy{cfg: cfg} }

// Up takes bytes of the client and returns those for the server.
func (p *Proxy) Up(b []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toServer = p.toServer[:0]
	if p.broken {
		return nil
	}
	if p.engine == nil && len(b) > 0 {
		p.first = append(p.first, b...)
		if !p.sniff() {
			return nil
		}
		b = nil
	}
	if p.engine != nil {
		if len(p.first) > 0 {
			b, p.first = append(p.first, b...), nil
		}
		p.fail(p.engine.up(b))
	}
	return p.toServer
}

// sniff says whether the client's first bytes tell the protocol. As soon as they can be neither they are carried on: a
// probe's byte must not wait for the end of a line.
func (p *Proxy) sniff() bool {
	f := string(p.first)
	switch {
	case f[0] < 'A' || f[0] > 'Z': // no method in use begins so
		p.decide(&blind{p})
	case strings.HasPrefix(f, preface):
		p.decide(newProxy2(p))
	case strings.HasPrefix(preface, f):
		return false
	default:
		p.decide(newProxy1(p))
	}
	return true
}

// decide begins to carry. What the server has sent goes first.
func (p *Proxy) decide(e engine) {
	p.engine = e
	if len(p.early) > 0 {
		p.fail(e.down(p.early))
		p.early = nil
		p.wakeDown()
	}
}

// wakeDown has what is for the client taken.
func (p *Proxy) wakeDown() {
	if !p.inDown {
		p.cfg.WakeDown()
	}
}

// UpEnd says that the client has ended its stream, and returns what is to go to the server before its end.
func (p *Proxy) UpEnd() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toServer = p.toServer[:0]
	if p.engine == nil {
		p.decide(&blind{p})
	}
	if !p.broken {
		p.fail(p.engine.up(p.first))
		p.first = nil
		p.engine.upEnd()
	}
	return p.toServer
}

// Down takes bytes of the server and returns those for the client.
func (p *Proxy) Down(b []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inDown = true
	defer func() { p.inDown = false }()
	if p.broken {
		return nil
	}
	if p.engine == nil && len(b) > 0 {
		p.early = append(p.early, b...)
		// A server of HTTP/2 may speak first, and its client does not wait for that.
		if mayBeSettings(p.early) && len(p.early) <= maxHead {
			return nil
		}
		b = nil
		p.carryEarly()
	}
	if p.engine != nil {
		p.fail(p.engine.down(b))
	}
	return p.take()
}

// carryEarly carries what the server has sent, which was no HTTP/2, and from now on everything.
func (p *Proxy) carryEarly() {
	p.toClient, p.early = append(p.toClient, p.early...), nil
	p.engine = &blind{p}
	p.cfg.WakeUp() // for what the client may have sent
}

// take hands over what is for the client.
func (p *Proxy) take() []byte {
	b := p.toClient
	p.toClient = nil
	return b
}

// mayBeSettings says that these may be the first bytes of a server of HTTP/2: a SETTINGS frame.
func mayBeSettings(b []byte) bool { return b[0] == 0 && (len(b) < 4 || b[3] == 4) }

// DownEnd says that the server has ended its stream, and returns what is to go to the client before its end: nothing is
// answered any more.
func (p *Proxy) DownEnd() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.engine == nil && len(p.early) > 0 {
		p.carryEarly()
	}
	return p.take()
}

func (p *Proxy) fail(why string) {
	if why != "" && !p.broken {
		p.broken = true
		p.cfg.Reset()
	}
}

// full says that no answer can be given now: the client does not read, or would not get it.
func (p *Proxy) full() bool { return p.over || len(p.toClient) > maxQueued }

// blind carries bytes and knows nothing of them.
type blind struct{ p *Proxy }

func (c *blind) up(b []byte) string {
	c.p.toServer = append(c.p.toServer, b...)
	return ""
}
func (c *blind) upEnd() {}
func (c *blind) down(b []byte) string {
	c.p.toClient = append(c.p.toClient, b...)
	return ""
}

// mediaType is what a body seems to be.
func mediaType(body string) string {
	if strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") {
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// given says that a request was answered here.
func (p *Proxy) given(a *Answer, c Call) {
	c.End, c.Status = p.cfg.Now(), a.Status
	if a.Code != 0 {
		code := a.Code
		c.Status, c.GRPCStatus = 200, &code
	}
	p.cfg.Injected(c)
	if a.Given != nil {
		a.Given()
	}
}
