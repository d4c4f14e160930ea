package plane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

func ask(z *zone, name string, typ uint16) *dns.Msg {
	return z.answer(new(dns.Msg).SetQuestion(name, typ))
}

func addrsIn(m *dns.Msg) []string {
	var as []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			as = append(as, a.A.String())
		}
	}
	return as
}

func TestZone(t *testing.T) {
	z := newZone()
	one := Node{Name: "orders-1", Addr: netip.MustParseAddr("10.99.0.1"), Names: []string{"orders"}}
	two := Node{Name: "orders-2", Addr: netip.MustParseAddr("10.99.0.2"), Names: []string{"orders"}}
	z.add(one)
	z.add(two)
	z.add(Node{Name: "store", Addr: netip.MustParseAddr("10.99.0.3"), Names: []string{"store"}})

	require.Equal(t, []string{"10.99.0.1"}, addrsIn(ask(z, "orders-1.", dns.TypeA)))
	require.Equal(t, []string{"10.99.0.1"}, addrsIn(ask(z, "ORDERS-1.", dns.TypeA)))
	require.Equal(t, []string{"10.99.0.3"}, addrsIn(ask(z, "store.", dns.TypeA)), "once, though service and node share the name")
	for _, beside := range []string{"", "orders.", "store."} { // a resolver asks for A and AAAA; others ask for other names
		first := map[string]int{}
		for range 10 {
			as := addrsIn(ask(z, "orders.", dns.TypeA))
			require.ElementsMatch(t, []string{"10.99.0.1", "10.99.0.2"}, as)
			first[as[0]]++
			switch beside {
			case "orders.":
				require.Empty(t, ask(z, beside, dns.TypeAAAA).Answer)
			case "store.":
				require.Len(t, ask(z, beside, dns.TypeA).Answer, 1)
			}
		}
		require.Equal(t, map[string]int{"10.99.0.1": 5, "10.99.0.2": 5}, first, "they take turns, whatever is asked beside: %q", beside)
	}
	require.Zero(t, ask(z, "orders.", dns.TypeA).Answer[0].Header().Ttl)

	for _, typ := range []uint16{dns.TypeAAAA, dns.TypeMX, dns.TypeHTTPS} {
		m := ask(z, "orders.", typ)
		require.Equal(t, dns.RcodeSuccess, m.Rcode)
		require.Empty(t, m.Answer)
	}
	for _, name := range []string{"nosuch.", "orders.default.", ".", "9.0.99.10.in-addr.arpa.", "x.in-addr.arpa."} {
		require.Equal(t, dns.RcodeNameError, ask(z, name, dns.TypeA).Rcode, name)
	}
	m := ask(z, "2.0.99.10.in-addr.arpa.", dns.TypePTR)
	require.Len(t, m.Answer, 1)
	require.Equal(t, "orders-2.", m.Answer[0].(*dns.PTR).Ptr)
	require.Equal(t, dns.RcodeNotImplemented, z.answer(new(dns.Msg)).Rcode)

	z.remove(two)
	require.Equal(t, []string{"10.99.0.1"}, addrsIn(ask(z, "orders.", dns.TypeA)))
	z.remove(one)
	require.Equal(t, dns.RcodeNameError, ask(z, "orders.", dns.TypeA).Rcode)
}

// TestNameServer asks from a node, by UDP and TCP, also for more addresses than fit a datagram.
func TestNameServer(t *testing.T) {
	inPlane(t, func() {
		s := newStar(t, 2)
		for i := range 100 {
			addr := netip.AddrFrom4([4]byte{10, 99, 1, byte(i)})
			require.NoError(t, s.r.AddNode(Node{Name: addr.String(), Addr: addr, Names: []string{"many"}}))
		}
		at := netip.AddrPortFrom(s.self, dnsPort).String()
		exchange := func(network, name string, typ uint16) *dns.Msg {
			var m *dns.Msg
			var err error
			c := dns.Client{Net: network, Timeout: time.Second}
			s.nodes[0].in(func() { m, _, err = c.Exchange(new(dns.Msg).SetQuestion(name, typ), at) })
			require.NoError(t, err, "%s %s", network, name)
			return m
		}
		for _, network := range []string{"udp", "tcp"} {
			require.Equal(t, []string{"10.99.0.2"}, addrsIn(exchange(network, "node-2.", dns.TypeA)))
			require.Len(t, addrsIn(exchange(network, "svc.", dns.TypeA)), 2)
			require.Equal(t, dns.RcodeNameError, exchange(network, "nosuch.", dns.TypeA).Rcode)
			require.Empty(t, exchange(network, "svc.", dns.TypeAAAA).Answer)
		}
		m := exchange("udp", "many.", dns.TypeA)
		require.True(t, m.Truncated, "what does not fit says so")
		require.Len(t, addrsIn(exchange("tcp", "many.", dns.TypeA)), 100)
		require.NoError(t, s.r.RemoveNode("node-2"))
		require.Equal(t, dns.RcodeNameError, exchange("udp", "node-2.", dns.TypeA).Rcode)
	})
}
