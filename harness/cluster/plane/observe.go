package plane

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster/plane/httpwire"
)

const (
	maxCalls = 50_000 // that wait to be taken; more are dropped and counted
	// takeCalls are taken at a time: they fit one message whatever the ends say, which JSON may make six times as long.
	takeCalls = 500
	endTime   = 500 * time.Millisecond
)

// Calls are calls on observed links, by the plane's clock.
type Calls struct {
	Now   time.Duration `json:"now"` // by that clock, when this was made
	Calls []Call        `json:"calls,omitempty"`
	More  bool          `json:"more,omitempty"` // there are more to be taken
}

// Call is a call on an observed link.
type Call struct {
	httpwire.Call
	From     string `json:"from"`
	To       string `json:"to"`
	Port     int    `json:"port"`
	Conn     uint64 `json:"conn"`
	Injected bool   `json:"injected,omitempty"`
}

// Observed says how much of a link was read.
type Observed struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Calls      uint64 `json:"calls"`
	Dropped    uint64 `json:"dropped,omitempty"`
	Unreadable uint64 `json:"unreadable,omitempty"`
	Why        string `json:"why,omitempty"`
}

// observer reads the connections of observed links, and answers requests on those that are replied on.
type observer struct {
	start time.Time

	mu      sync.Mutex
	links   map[AddrLink]bool // observed; true: replied on
	replies map[AddrLink][]*reply
	read    map[[2]string]*Observed
	live    map[*tapped]struct{}
	conns   uint64
	calls   []Call
}

func newObserver() *observer {
	return &observer{
		start: time.Now(), links: map[AddrLink]bool{}, replies: map[AddrLink][]*reply{},
		read: map[[2]string]*Observed{}, live: map[*tapped]struct{}{},
	}
}

func (o *observer) now() time.Duration { return time.Since(o.start) }

func (o *observer) observe(links []AddrLink, replied bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range links {
		o.links[l] = o.links[l] || replied
	}
}

func (o *observer) addReply(r *reply, links []AddrLink) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range links {
		o.links[l] = true
		o.replies[l] = append(slices.Clone(o.replies[l]), r)
	}
}

// removeReply ends a reply. Connections that owe an answer of it give it now.
func (o *observer) removeReply(r *reply, links []AddrLink) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range links {
		o.replies[l] = slices.DeleteFunc(slices.Clone(o.replies[l]), func(x *reply) bool { return x == r })
	}
	r.over.Store(true)
	for t := range o.live {
		if t.proxy != nil && slices.Contains(links, t.conn.link) {
			t.conn.wakeUp()
		}
	}
}

// tapped is a connection that is read. The Reader sees what reaches the server and what the server says.
type tapped struct {
	o      *observer
	conn   tapConn
	number uint64
	reader *httpwire.Reader
	proxy  *httpwire.Proxy // nil where nothing is answered
	ends   [2]bool         // in good order; guarded by o.mu
}

// tap is the tap of a new connection, or nil when its link is not observed, or when it is a probe.
func (o *observer) tap(c tapConn) tap {
	o.mu.Lock()
	defer o.mu.Unlock()
	replied, ok := o.links[c.link]
	if !ok || c.probe {
		return nil
	}
	t := &tapped{o: o, conn: c, number: o.conns}
	o.conns++
	o.live[t] = struct{}{}
	o.of(t)
	t.reader = httpwire.NewReader(o.now, func(c httpwire.Call) { t.add(c, false) })
	if replied {
		t.proxy = httpwire.NewProxy(httpwire.Config{
			Now: o.now, Choose: t.choose, Injected: func(c httpwire.Call) { t.add(c, true) },
			WakeUp: c.wakeUp, WakeDown: c.wakeDown, EndUp: c.endUp, Reset: c.reset,
		})
	}
	return t
}

// of is the account of a connection's link. The observer is locked.
func (o *observer) of(t *tapped) *Observed {
	k := [2]string{t.conn.from, t.conn.to}
	if o.read[k] == nil {
		o.read[k] = &Observed{From: t.conn.from, To: t.conn.to}
	}
	return o.read[k]
}

func (t *tapped) add(c httpwire.Call, injected bool) {
	t.o.mu.Lock()
	defer t.o.mu.Unlock()
	at := t.o.of(t)
	at.Calls++
	if len(t.o.calls) >= maxCalls {
		at.Dropped++
		return
	}
	t.o.calls = append(t.o.calls, Call{Call: c, From: t.conn.from, To: t.conn.to, Port: int(t.conn.port), Conn: t.number, Injected: injected})
}

func (t *tapped) choose(q httpwire.Request) *httpwire.Answer {
	t.o.mu.Lock()
	rs := t.o.replies[t.conn.link]
	t.o.mu.Unlock()
	for _, r := range rs {
		if a := r.strikes(t.conn.link, q); a != nil {
			return a
		}
	}
	return nil
}

func (t *tapped) up(b []byte) []byte {
	if t.proxy != nil {
		b = t.proxy.Up(b)
	}
	if len(b) > 0 {
		t.reader.Request(b)
	}
	return b
}

func (t *tapped) down(b []byte) []byte {
	if len(b) > 0 {
		t.reader.Response(b)
	}
	if t.proxy != nil {
		b = t.proxy.Down(b)
	}
	return b
}

func (t *tapped) ended(upstream bool) (last []byte) {
	i := 0
	if !upstream {
		i = 1
		t.reader.ResponseEnd()
	}
	t.o.mu.Lock()
	t.ends[i] = true
	t.o.mu.Unlock()
	switch {
	case t.proxy == nil:
	case upstream:
		if last = t.proxy.UpEnd(); len(last) > 0 {
			t.reader.Request(last)
		}
	default:
		last = t.proxy.DownEnd()
	}
	return last
}

func (t *tapped) closed() {
	t.o.mu.Lock()
	how := httpwire.Reset
	if t.ends[0] && t.ends[1] {
		how = httpwire.Closed
	}
	t.o.mu.Unlock()
	t.finish(how)
}

// finish accounts for the connection, once.
func (t *tapped) finish(how string) {
	t.reader.End(how)
	why := t.reader.Unreadable()
	t.o.mu.Lock()
	defer t.o.mu.Unlock()
	if _, ok := t.o.live[t]; !ok {
		return
	}
	delete(t.o.live, t)
	if why != "" {
		at := t.o.of(t)
		if at.Unreadable++; at.Why == "" {
			at.Why = why
		}
	}
}

func (o *observer) take() Calls {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(o.calls), takeCalls)
	c := Calls{Now: o.now(), Calls: slices.Clone(o.calls[:n]), More: n < len(o.calls)}
	o.calls = slices.Delete(o.calls, 0, n)
	return c
}

func (o *observer) end(ctx context.Context) []Observed {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for going := true; going; {
		o.mu.Lock()
		going = len(o.live) > 0
		o.mu.Unlock()
		if !going {
			break
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			going = false
		}
	}
	o.mu.Lock()
	var left []*tapped
	for t := range o.live {
		left = append(left, t)
	}
	o.mu.Unlock()
	for _, t := range left {
		t.finish(httpwire.Closed)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []Observed
	for _, r := range o.read {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b Observed) int {
		return slices.Compare([]string{a.From, a.To}, []string{b.From, b.To})
	})
	return all
}
