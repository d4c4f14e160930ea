package plane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// zone says what names mean. It is what the name server answers from, and knows nothing of sockets.
type zone struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr // by name, lower case, without the final dot
	names map[netip.Addr]string   // of a node
	turns map[string]int          // of each name in addrs: questions for its addresses so far
}

func newZone() *zone {
	return &zone{addrs: map[string][]netip.Addr{}, names: map[netip.Addr]string{}, turns: map[string]int{}}
}

func (z *zone) add(n Node) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.names[n.Addr] = n.Name
	for _, name := range uniqueNames(n) {
		z.addrs[name] = append(z.addrs[name], n.Addr)
	}
}

func (z *zone) remove(n Node) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.names, n.Addr)
	for _, name := range uniqueNames(n) {
		z.addrs[name] = slices.DeleteFunc(z.addrs[name], func(a netip.Addr) bool { return a == n.Addr })
		if len(z.addrs[name]) == 0 {
			delete(z.addrs, name)
			delete(z.turns, name)
		}
	}
}

// uniqueNames returns the names of a node as a zone knows them: a service with one node has the node's name.
func uniqueNames(n Node) []string {
	var names []string
	for _, name := range append([]string{n.Name}, n.Names...) {
		if name = strings.ToLower(name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// lookup returns the addresses of a name, for next beginning with another one than at the last such call for that name.
func (z *zone) lookup(name string, next bool) []netip.Addr {
	z.mu.Lock()
	defer z.mu.Unlock()
	as := z.addrs[name]
	if len(as) == 0 {
		return nil
	}
	if next {
		z.turns[name]++
	}
	k := z.turns[name] % len(as)
	return append(slices.Clone(as[k:]), as[:k]...)
}

func (z *zone) nameOf(a netip.Addr) (string, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	name, ok := z.names[a]
	return name, ok
}

// answer is the reply to a query. A known name has A records and nothing of other types: to AAAA the answer is "no
// such record" at once, for silence or "no such name" cost the resolver 5 to 15 s, or the name. Nothing may be
// cached: nodes come and go.
func (z *zone) answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative, m.RecursionAvailable = true, true
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	question := q.Question[0]
	hdr := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 0}
	name := strings.TrimSuffix(strings.ToLower(question.Name), ".")
	if arpa, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		if node, ok := z.nameOf(reversed(arpa)); !ok {
			m.Rcode = dns.RcodeNameError
		} else if question.Qtype == dns.TypePTR {
			m.Answer = append(m.Answer, &dns.PTR{Hdr: hdr, Ptr: dns.Fqdn(node)})
		}
		return m
	}
	// Only questions for addresses take turns: a resolver asks for A and AAAA, and would begin with every other one.
	as := z.lookup(name, question.Qtype == dns.TypeA)
	if len(as) == 0 {
		m.Rcode = dns.RcodeNameError
	}
	if question.Qtype == dns.TypeA {
		for _, a := range as {
			m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: a.AsSlice()})
		}
	}
	return m
}

// reversed reads the labels of an address under in-addr.arpa.
func reversed(s string) netip.Addr {
	labels := strings.Split(s, ".")
	slices.Reverse(labels)
	a, err := netip.ParseAddr(strings.Join(labels, "."))
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// nameServer answers the nodes' queries from a zone, by UDP and TCP.
type nameServer struct {
	servers []*dns.Server
	done    sync.WaitGroup
}

func serveNames(addr netip.Addr, z *zone) (*nameServer, error) {
	at := netip.AddrPortFrom(addr, dnsPort)
	p, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("plane: starting the name server: %w", err)
	}
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plane: starting the name server: %w", err), p.Close())
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := z.answer(q)
		size := dns.MaxMsgSize
		if w.RemoteAddr().Network() == "udp" {
			size = dns.MinMsgSize
		}
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
			m.SetEdns0(dns.DefaultMsgSize, false)
		}
		m.Truncate(size)  // the resolver comes again by TCP
		_ = w.WriteMsg(m) // who asked has gone
	})
	s := &nameServer{servers: []*dns.Server{
		{PacketConn: p, Handler: handler},
		{Listener: l, Handler: handler, IdleTimeout: func() time.Duration { return 5 * time.Second }},
	}}
	for i, srv := range s.servers {
		started, ended := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(started) }
		s.done.Go(func() { ended <- srv.ActivateAndServe() })
		select {
		case <-started:
		case err := <-ended:
			err = fmt.Errorf("plane: starting the name server: %w", err)
			s.servers = s.servers[:i]
			return nil, errors.Join(err, p.Close(), l.Close(), s.close())
		}
	}
	return s, nil
}

func (s *nameServer) close() error {
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.Shutdown())
	}
	s.done.Wait()
	return errors.Join(errs...)
}
