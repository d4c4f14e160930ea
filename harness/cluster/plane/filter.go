package plane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

const (
	tableName = "gauntlet"
	coreMark  = 1     // packets that are delivered to the link core
	firstMark = 0x100 // marks of delayed links begin here
	queueNum  = 1
	dnsPort   = 53
	// ephemeral is where the kernel's range for unbound sockets begins: the plane's own UDP sockets, but no service.
	ephemeral = 32768

	// maxBatch is how many elements change in one transaction: an ordinary user gets EMSGSIZE at 6,000.
	maxBatch = 4000
	// maxElements is how many fit one message, whose attributes have 64 KB.
	maxElements = 500
)

// filter is the plane's nftables ruleset.
type filter struct {
	conn  *nftables.Conn
	table *nftables.Table
	nodes *nftables.Set // addresses whose packets are forwarded
	// links of which all packets are refused, whatever the rules say: those being reset.
	resets *nftables.Set
	core   *nftables.Set // links whose new TCP connections go to the link core
	rules  map[action]*nftables.Set
	// Probes have sets of their own, with the same links: the counters of the rules' sets are those of the traffic alone.
	probes *nftables.Set // where the harness listens for probes: address and port
	probed map[action]*nftables.Set
}

// newFilter sets the ruleset up. New TCP connections of links in the core set go to coreAddr.
//
// All rules of links stand in prerouting at priority -151, just before TPROXY: there each packet of a node passes
// once, forwarded or taken over by the core. The forward hook does not see what the core takes over.
func newFilter(self netip.Addr, coreAddr netip.AddrPort) (*filter, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("plane: opening the packet filter: %w", err)
	}
	f := &filter{conn: conn, rules: map[action]*nftables.Set{}, probed: map[action]*nftables.Set{}}
	f.table = conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName})
	if err := errors.Join(f.addSets(), f.addChains(self, coreAddr)); err != nil {
		return nil, errors.Join(fmt.Errorf("plane: describing the packet filter: %w", err), conn.CloseLasting())
	}
	if err := conn.Flush(); err != nil {
		return nil, errors.Join(fmt.Errorf("plane: setting up the packet filter (nf_tables with sets, queue, reject, socket and tproxy): %w", err), conn.CloseLasting())
	}
	return f, nil
}

func (f *filter) addSets() error {
	pair := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)
	links := func(name string) *nftables.Set {
		return &nftables.Set{Table: f.table, Name: name, KeyType: pair, Concatenation: true, Counter: true, Size: 1 << 16}
	}
	f.nodes = &nftables.Set{Table: f.table, Name: "nodes", KeyType: nftables.TypeIPAddr, Size: 1 << 12}
	f.resets, f.core = links("resets"), links("core")
	f.probes = &nftables.Set{Table: f.table, Name: "probes", KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService), Concatenation: true, Size: 1 << 12}
	sets := []*nftables.Set{f.nodes, f.resets, f.core, f.probes}
	for _, a := range []action{drop, reject, delay} {
		f.rules[a], f.probed[a] = links(a.String()), links("probed-"+a.String())
		sets = append(sets, f.rules[a], f.probed[a])
	}
	for _, m := range []*nftables.Set{f.rules[delay], f.probed[delay]} {
		m.IsMap, m.DataType = true, nftables.TypeMark
	}
	var errs []error
	for _, s := range sets {
		errs = append(errs, f.conn.AddSet(s, nil))
	}
	return errors.Join(errs...)
}

func (f *filter) addChains(self netip.Addr, coreAddr netip.AddrPort) error {
	// A chain called fwd would be a syntax error for nft: it is a keyword.
	refuse := f.conn.AddChain(&nftables.Chain{Name: "refuse", Table: f.table})
	f.rule(refuse, protocol(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	f.rule(refuse, &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3})

	probed := f.conn.AddChain(&nftables.Chain{Name: "probed", Table: f.table})
	f.verdicts(probed, refuse, f.probed)
	links := f.hook("links", nftables.ChainHookPrerouting, -151, nftables.ChainPolicyAccept)
	toProbed := &expr.Verdict{Kind: expr.VerdictGoto, Chain: probed.Name}
	f.rule(links, protocol(unix.IPPROTO_TCP), endpoint(destAddr, destPort), in(f.probes), toProbed)
	f.rule(links, protocol(unix.IPPROTO_TCP), endpoint(sourceAddr, sourcePort), in(f.probes), toProbed)
	f.verdicts(links, refuse, f.rules)

	f.addCoreChain(coreAddr)

	forward := f.hook("forward", nftables.ChainHookForward, 0, nftables.ChainPolicyDrop)
	f.rule(forward, addrAt(sourceAddr), in(f.nodes), addrAt(destAddr), in(f.nodes), accept())

	// Nodes can reach whatever listens in the plane's namespace: let them have the name server and nothing else.
	input := f.hook("input", nftables.ChainHookInput, 0, nftables.ChainPolicyDrop)
	lo := make([]byte, 16)
	copy(lo, "lo\x00")
	f.rule(input, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal(lo), accept())
	f.rule(input, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(binaryutil.NativeEndian.PutUint32(coreMark)), accept())
	f.rule(input, protocol(unix.IPPROTO_ICMP), accept())
	self4 := self.As4()
	for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		f.rule(input, addrAt(destAddr), equal(self4[:]), protocol(p), portIs(expr.CmpOpEq, dnsPort), accept())
	}
	// Answers to what the plane itself asked for, told without conntrack, whose table an ordinary user cannot raise.
	f.rule(input, protocol(unix.IPPROTO_TCP), flags(unix.NFT_REG_1), notEqual([]byte{flagSYN}), accept())
	f.rule(input, protocol(unix.IPPROTO_UDP), portIs(expr.CmpOpGte, ephemeral), accept())
	return nil
}

// verdicts adds to a chain what the rules of links do with a packet, by the sets of those rules.
func (f *filter) verdicts(c, refuse *nftables.Chain, rules map[action]*nftables.Set) {
	toRefuse := &expr.Verdict{Kind: expr.VerdictGoto, Chain: refuse.Name}
	f.rule(c, pairKey(), in(f.resets), toRefuse)
	f.rule(c, pairKey(), in(rules[drop]), &expr.Verdict{Kind: expr.VerdictDrop})
	f.rule(c, pairKey(), in(rules[reject]), toRefuse)
	f.rule(c, pairKey(),
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: rules[delay].Name, SetID: rules[delay].ID},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}, toQueue())
}

// addCoreChain leads connections to the link core. The rule for SYNs comes first: it knows how to hand a socket in
// TIME_WAIT over to the listener. It takes nothing but SYNs, or the listener would reset the live connections of a
// link that is registered while it is in use.
func (f *filter) addCoreChain(coreAddr netip.AddrPort) {
	chain := f.hook("core", nftables.ChainHookPrerouting, -150, nftables.ChainPolicyAccept)
	addr := coreAddr.Addr().As4()
	mark := []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(coreMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}, accept(),
	}
	f.rule(chain, protocol(unix.IPPROTO_TCP), flags(unix.NFT_REG_1), equal([]byte{flagSYN}), pairKey(), in(f.core),
		&expr.Immediate{Register: 1, Data: addr[:]},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(coreAddr.Port())},
		&expr.TProxy{Family: byte(nftables.TableFamilyIPv4), TableFamily: byte(nftables.TableFamilyIPv4), RegAddr: 1, RegPort: 2},
		mark)
	f.rule(chain, protocol(unix.IPPROTO_TCP), &expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, equal([]byte{1}), mark)
}

func (f *filter) hook(name string, h *nftables.ChainHook, priority int32, policy nftables.ChainPolicy) *nftables.Chain {
	return f.conn.AddChain(&nftables.Chain{
		Name: name, Table: f.table, Type: nftables.ChainTypeFilter, Hooknum: h,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)), Policy: &policy,
	})
}

// rule adds a rule of expressions and lists of them.
func (f *filter) rule(c *nftables.Chain, parts ...any) {
	var es []expr.Any
	for _, p := range parts {
		switch p := p.(type) {
		case []expr.Any:
			es = append(es, p...)
		case expr.Any:
			es = append(es, p)
		}
	}
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: es})
}

// Offsets in the IPv4 header. The addresses are adjacent: one load of 8 bytes is the key of a link.
const (
	sourceAddr = 12
	destAddr   = 16
)

// Offsets in the TCP header.
const (
	sourcePort = 0
	destPort   = 2
)

const flagSYN = 0x02

func pairKey() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceAddr, Len: 8}
}

func addrAt(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

// endpoint loads an address and the port beside it: a key of probes.
func endpoint(addr, port uint32) []expr.Any {
	return []expr.Any{
		addrAt(addr),
		&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2},
	}
}

// endpointKey is the key of an address and port in probes: each part fills its register.
func endpointKey(at netip.AddrPort) []byte {
	a := at.Addr().As4()
	return append(binary.BigEndian.AppendUint16(a[:], at.Port()), 0, 0)
}

func in(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}
}

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }

func equal(b []byte) expr.Any    { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }
func notEqual(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: b} }

func protocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{p})}
}

func portIs(op expr.CmpOp, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// flags loads FIN, SYN, RST and ACK of a TCP header.
func flags(reg uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{0x17}, Xor: []byte{0}},
	}
}

// toQueue hands a packet to the queue by the compatibility target: kernels without nft's own queue expression exist.
// With bypass packets go on when nobody has the queue.
func toQueue() expr.Any {
	const bypass = 1
	info := make([]byte, 8) // xt_NFQ_info_v3: number, total, flags, padded
	binary.NativeEndian.PutUint16(info, queueNum)
	binary.NativeEndian.PutUint16(info[2:], 1)
	binary.NativeEndian.PutUint16(info[4:], bypass)
	u := xt.Unknown(info)
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &u}
}

func key(l AddrLink) []byte {
	from, to := l.From.As4(), l.To.As4()
	return append(from[:], to[:]...)
}

// element is a change of a set: an element that enters or leaves.
type element struct {
	set *nftables.Set
	nftables.SetElement
}

// change makes elements leave and enter in one transaction, or in several when they are more than maxBatch; when one
// fails, those before it are taken back.
func (f *filter) change(leave, enter []element) error {
	for i := 0; i < len(leave)+len(enter); i += maxBatch {
		cut := func(es []element, skip int) []element {
			lo, hi := min(max(i-skip, 0), len(es)), min(max(i+maxBatch-skip, 0), len(es))
			return es[lo:hi]
		}
		out, in := cut(leave, 0), cut(enter, len(leave))
		if err := f.transact(out, in); err != nil {
			done := leave[:min(i, len(leave))]
			entered := enter[:min(max(i-len(leave), 0), len(enter))]
			if i > 0 {
				err = errors.Join(err, f.change(entered, done))
			}
			return err
		}
	}
	return nil
}

func (f *filter) transact(leave, enter []element) error {
	var errs []error
	each := func(es []element, do func(*nftables.Set, []nftables.SetElement) error) {
		for len(es) > 0 {
			n := 0
			for n < len(es) && n < maxElements && es[n].set == es[0].set {
				n++
			}
			vals := make([]nftables.SetElement, n)
			for i := range vals {
				vals[i] = es[i].SetElement
			}
			errs = append(errs, do(es[0].set, vals))
			es = es[n:]
		}
	}
	each(leave, f.conn.SetDeleteElements)
	each(enter, f.conn.SetAddElements)
	err := errors.Join(append(errs, f.conn.Flush())...)
	if err == nil {
		return nil
	}
	// Answers that nobody waits for may still be on their way: go on with a new socket.
	closeErr := f.conn.CloseLasting()
	conn, openErr := nftables.New(nftables.AsLasting())
	if openErr == nil {
		f.conn = conn
	}
	return errors.Join(fmt.Errorf("plane: changing the packet filter: %w", err), closeErr, openErr)
}

// tally returns what was counted of an action, link by link.
func (f *filter) tally(a action) (map[string]counts, error) {
	all, err := f.counted(f.rules[a])
	if err != nil {
		return nil, err
	}
	probes, err := f.counted(f.probed[a])
	if err != nil {
		return nil, err
	}
	for k, c := range all {
		c.probes = probes[k].packets
		all[k] = c
	}
	return all, nil
}

// counted returns the counters of the elements of a set.
func (f *filter) counted(s *nftables.Set) (map[string]counts, error) {
	es, err := f.conn.GetSetElements(s)
	if err != nil {
		return nil, fmt.Errorf("plane: reading the counters of %s: %w", s.Name, err)
	}
	m := make(map[string]counts, len(es))
	for _, e := range es {
		var c counts
		if e.Counter != nil {
			c = counts{packets: e.Counter.Packets, bytes: e.Counter.Bytes}
		}
		m[string(e.Key)] = c
	}
	return m, nil
}

func (f *filter) close() error {
	f.conn.DelTable(f.table)
	return errors.Join(f.conn.Flush(), f.conn.CloseLasting())
}
