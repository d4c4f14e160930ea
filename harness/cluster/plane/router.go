// Package plane is what stands between the nodes of a topology: the routes, the packet rules and their counters, the
// queue that holds packets back, the link core with toxiproxy's toxics, and the name server. It also holds the
// protocol by which the harness talks to the process that has all this, wherever that process is.
//
// A Router works in the network namespace of its process, on addresses; it knows nothing of programs.
package plane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Config of a Router.
type Config struct {
	// Addr is the plane's own address, the nodes' gateway and name server. New puts it on the loopback interface, so
	// that it is there before the first node.
	Addr netip.Addr
	// DialTimeout bounds how long the link core waits for a server that does not answer; 0 is 30 s.
	DialTimeout time.Duration
}

// Node is what a Router knows of a node.
type Node struct {
	Name  string
	Addr  netip.Addr
	Names []string // further names it answers to, such as its service's
	// NetNS is the node's network namespace, for listing its sockets; it may be closed after AddNode. Without it
	// Reset cannot work on the node, and RemoteRouter.ResetListed is the way.
	NetNS *os.File
}

// AddrLink is a link by its addresses.
type AddrLink struct {
	From, To netip.Addr
}

func (l AddrLink) String() string { return l.From.String() + " -> " + l.To.String() }

// AddrCounter says what a rule acted on.
type AddrCounter struct {
	Link    AddrLink
	Packets uint64 // matched packets; of toxics, chunks
	Bytes   uint64
	Probes  uint64 // packets or chunks of probes, which the others do not have
}

// Router is the network half of the plane. Its methods may be called from several goroutines.
type Router struct {
	filter   *filter
	queue    *queue
	core     *core
	zone     *zone
	observer *observer
	undo     []func() error // in the order of the set-up

	mu        sync.Mutex
	nodes     map[netip.Addr]*node
	rules     *ruleTable
	marks     map[AddrLink]uint32 // of links that were delayed once
	cored     map[AddrLink]bool
	resetting map[AddrLink]int // refusals that hold

	refusals    map[uint64][]AddrLink // their links
	lastRefusal uint64
}

type node struct {
	Node
	diag *netlink.Handle
}

// New sets up an empty plane in the network namespace of the process: forwarding, the packet filter, the queue, the
// link core and the name server. /proc must be that of the namespace.
func New(cfg Config) (r *Router, err error) {
	if !cfg.Addr.Is4() {
		return nil, fmt.Errorf("plane: its address %v is not an IPv4 address", cfg.Addr)
	}
	r = &Router{
		zone: newZone(), nodes: map[netip.Addr]*node{}, rules: newRuleTable(),
		marks: map[AddrLink]uint32{}, cored: map[AddrLink]bool{},
		resetting: map[AddrLink]int{}, refusals: map[uint64][]AddrLink{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
			r = nil
		}
	}()
	if err := errors.Join(setSysctls(), ownAddress(cfg.Addr)); err != nil {
		return r, err
	}
	if r.queue, err = newQueue(); err != nil {
		return r, err
	}
	r.undo = append(r.undo, r.queue.close)
	if r.core, err = newCore(cfg.DialTimeout); err != nil {
		return r, err
	}
	r.undo = append(r.undo, r.core.close)
	r.observer = newObserver()
	r.core.setTaps(r.observer.tap)
	unroute, err := coreRoute()
	if err != nil {
		return r, err
	}
	r.undo = append(r.undo, unroute)
	if r.filter, err = newFilter(cfg.Addr, r.core.addr()); err != nil {
		return r, err
	}
	r.undo = append(r.undo, r.filter.close)
	names, err := serveNames(cfg.Addr, r.zone)
	if err != nil {
		return r, err
	}
	r.undo = append(r.undo, names.close)
	return r, nil
}

// ownAddress brings loopback up with the plane's address on it.
func ownAddress(a netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("plane: finding the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("plane: bringing up the loopback interface: %w", err)
	}
	err = netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("plane: taking the address %v: %w", a, err)
	}
	return nil
}

// Close takes everything down, and lets every packet go that is held back.
func (r *Router) Close() error {
	var errs []error
	for _, f := range slices.Backward(r.undo) {
		errs = append(errs, f())
	}
	r.undo = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		n.forget()
	}
	r.nodes = map[netip.Addr]*node{}
	return errors.Join(errs...)
}

func (n *node) forget() {
	if n.diag != nil {
		n.diag.Close()
	}
}

// AddNode makes a node known: its packets are forwarded and its names answered. The route to it is the caller's.
func (r *Router) AddNode(n Node) error {
	if !n.Addr.Is4() {
		return fmt.Errorf("plane: the address %v of %s is not an IPv4 address", n.Addr, n.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.nodes[n.Addr]; old != nil {
		return fmt.Errorf("plane: %s cannot have the address %v, %s has it", n.Name, n.Addr, old.Name)
	}
	for _, old := range r.nodes {
		if old.Name == n.Name {
			return fmt.Errorf("plane: there is a node %s already, at %v", n.Name, old.Addr)
		}
	}
	nd := &node{Node: n}
	nd.NetNS = nil
	if n.NetNS != nil {
		rc, err := n.NetNS.SyscallConn()
		if err == nil {
			cerr := rc.Control(func(fd uintptr) {
				nd.diag, err = netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_INET_DIAG)
			})
			err = errors.Join(err, cerr)
		}
		if err != nil {
			return fmt.Errorf("plane: entering the network namespace of %s: %w", n.Name, err)
		}
	}
	if err := r.filter.change(nil, []element{r.nodeElement(n.Addr)}); err != nil {
		nd.forget()
		return err
	}
	r.nodes[n.Addr] = nd
	r.zone.add(n)
	r.core.names.Store(n.Addr, n.Name)
	return nil
}

func (r *Router) nodeElement(a netip.Addr) element {
	return element{r.filter.nodes, nftables.SetElement{Key: a.AsSlice()}}
}

// RemoveNode forgets a node and ends the core's connections with it. Rules on its links stay until they are removed.
func (r *Router) RemoveNode(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for addr, n := range r.nodes {
		if n.Name != name {
			continue
		}
		if err := r.filter.change([]element{r.nodeElement(addr)}, nil); err != nil {
			return err
		}
		n.forget()
		delete(r.nodes, addr)
		r.zone.remove(n.Node)
		r.core.names.Delete(addr)
		r.core.end(func(l AddrLink) bool { return l.From == addr || l.To == addr })
		return nil
	}
	return &cluster.UnknownNodeError{Name: name}
}

// known returns links without duplicates, or what is wrong with them.
func (r *Router) known(links []AddrLink) ([]AddrLink, error) {
	var errs []error
	seen := make(map[AddrLink]bool, len(links))
	once := make([]AddrLink, 0, len(links))
	for _, l := range links {
		if seen[l] {
			continue
		}
		seen[l] = true
		once = append(once, l)
		if l.From == l.To {
			errs = append(errs, fmt.Errorf("plane: %v is no link", l))
		}
		for _, a := range []netip.Addr{l.From, l.To} {
			if r.nodes[a] == nil {
				errs = append(errs, fmt.Errorf("plane: no node has the address %v", a))
			}
		}
	}
	if len(links) == 0 {
		errs = append(errs, errors.New("plane: a rule needs a link"))
	}
	return once, errors.Join(errs...)
}

// Intercept registers links whose new TCP connections go through the link core from now on, so that toxics can be set
// on them. Connections that exist stay with the kernel.
func (r *Router) Intercept(links []AddrLink) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	links, err := r.known(links)
	if err != nil {
		return err
	}
	return r.intercept(links)
}

func (r *Router) intercept(links []AddrLink) error {
	var enter []element
	for _, l := range links {
		if !r.cored[l] {
			enter = append(enter, element{r.filter.core, nftables.SetElement{Key: key(l)}})
		}
	}
	if err := r.filter.change(nil, enter); err != nil {
		return err
	}
	for _, l := range links {
		r.cored[l] = true
	}
	return nil
}

// Apply puts a rule on links, all at once; more than 2,000 links take several steps of a few milliseconds. Several
// rules may hold on one link: drop wins over reject, reject over delay; delays add up, and so do toxics. A toxic also
// registers the link with the core, but connections that were made before do not go through it: Intercept the link
// before they are.
func (r *Router) Apply(links []AddrLink, what cluster.Rule) (cluster.RuleID, error) {
	does, err := actionOf(what)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if links, err = r.known(links); err != nil {
		return 0, err
	}
	ru := &rule{what: what, does: does, links: links}
	switch {
	case what.Toxic != nil:
		return r.applyToxic(ru)
	case what.Reply != nil:
		return r.applyReply(ru)
	case what.Delay != nil:
		if err := validateDelay(*what.Delay); err != nil {
			return 0, err
		}
	}
	return r.applyPackets(ru)
}

func (r *Router) applyToxic(ru *rule) (cluster.RuleID, error) {
	tls, err := newToxicLinks(*ru.what.Toxic, ru.links)
	if err != nil {
		return 0, err
	}
	if err := r.intercept(ru.links); err != nil {
		return 0, err
	}
	ru.live = tls
	r.rules.add(ru)
	r.core.addToxics(tls)
	return ru.id, nil
}

// applyReply registers links as applyToxic does: connections that were made before, or before the link was known to be
// replied on, are left alone.
func (r *Router) applyReply(ru *rule) (cluster.RuleID, error) {
	rep, err := newReply(*ru.what.Reply)
	if err != nil {
		return 0, err
	}
	if err := r.intercept(ru.links); err != nil {
		return 0, err
	}
	ru.reply = rep
	r.rules.add(ru)
	r.observer.addReply(rep, ru.links)
	return ru.id, nil
}

// Observe registers links whose calls are read, and, when replied is set, answered by a Reply where one holds. It
// concerns connections to come.
func (r *Router) Observe(links []AddrLink, replied bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	links, err := r.known(links)
	if err != nil {
		return err
	}
	if err := r.intercept(links); err != nil {
		return err
	}
	r.observer.observe(links, replied)
	return nil
}

// Probe says that a listener of the harness is at an address, or is no more. What connects to it is a probe: rules act on it and
// count it apart, and its bytes are nobody's calls, which are not read, whatever is observed.
func (r *Router) Probe(at netip.AddrPort, listens bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := []element{{r.filter.probes, nftables.SetElement{Key: endpointKey(at)}}}
	if listens {
		r.core.probes.Store(at, true)
		return r.filter.change(nil, there)
	}
	r.core.probes.Delete(at)
	return r.filter.change(there, nil)
}

// Calls returns calls that nobody has taken yet, a few hundred at most.
func (r *Router) Calls() Calls { return r.observer.take() }

// CallsEnd waits a little for connections on observed links to end, gives those that go on up for ended, and says how
// much of each link was read. What Calls returns afterwards is the rest.
func (r *Router) CallsEnd(ctx context.Context) []Observed { return r.observer.end(ctx) }

func (r *Router) applyPackets(ru *rule) (cluster.RuleID, error) {
	enter := r.rules.add(ru)
	if ru.does == delay {
		r.setDelays(ru.links) // before the first packet is queued
	}
	err := r.setBase(ru, enter)
	if err == nil {
		err = r.filter.change(nil, r.elements(enter))
	}
	if err != nil {
		r.rules.remove(ru)
		if ru.does == delay {
			r.setDelays(ru.links)
		}
		return 0, err
	}
	return ru.id, nil
}

// setBase notes what the filter has counted on the rule's links for other rules: on those that do not enter with it. It comes
// when the queue knows of the rule, so that of a packet that is counted after it the queue is told.
func (r *Router) setBase(ru *rule, enter []member) error {
	ru.base = make([]counts, len(ru.links))
	if len(enter) == len(ru.links) {
		return nil
	}
	counted, err := r.filter.tally(ru.does)
	if err != nil {
		return err
	}
	for i, l := range ru.links {
		ru.base[i] = counted[string(key(l))]
	}
	return nil
}

func (r *Router) elements(ms []member) []element {
	es := make([]element, 0, 2*len(ms))
	for _, sets := range []map[action]*nftables.Set{r.filter.rules, r.filter.probed} {
		for _, m := range ms {
			e := element{sets[m.of], nftables.SetElement{Key: key(m.link)}}
			if m.of == delay {
				e.Val = binaryutil.NativeEndian.PutUint32(r.markOf(m.link))
			}
			es = append(es, e)
		}
	}
	return es
}

// markOf returns the mark that tells the queue a packet's link. A link keeps its mark: packets of a rule that is gone
// may still be on their way.
func (r *Router) markOf(l AddrLink) uint32 {
	m, ok := r.marks[l]
	if !ok {
		m = firstMark + uint32(len(r.marks))
		r.marks[l] = m
	}
	return m
}

// setDelays tells the queue which delays hold on links, and the core how long they may be.
func (r *Router) setDelays(links []AddrLink) {
	change := make(map[uint32][]*delayRule, len(links))
	for _, l := range links {
		m := r.markOf(l)
		change[m] = nil
		var most time.Duration
		for _, ru := range r.rules.links[l] {
			if ru.does == delay {
				change[m] = append(change[m], ru.delayOn(l))
				most += longestOf(*ru.what.Delay)
			}
		}
		r.core.setDelay(l, most)
	}
	r.queue.set(change)
}

// delayOn returns the rule as the queue has it for a link: the same one at each call.
func (ru *rule) delayOn(l AddrLink) *delayRule {
	if ru.delays == nil {
		ru.delays = make(map[AddrLink]*delayRule, len(ru.links))
	}
	d := ru.delays[l]
	if d == nil {
		d = &delayRule{delay: *ru.what.Delay, stream: streamOf(ru.what.Delay.Seed, l)}
		ru.delays[l] = d
	}
	return d
}

func (r *Router) rule(id cluster.RuleID) (*rule, error) {
	ru := r.rules.rules[id]
	if ru == nil {
		return nil, fmt.Errorf("plane: %w", &cluster.UnknownRuleError{ID: id})
	}
	return ru, nil
}

// Remove takes a rule away. Packets and chunks that it held back go on, in order: packets at once, those of the toxic
// latency when they are due.
func (r *Router) Remove(id cluster.RuleID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ru, err := r.rule(id)
	if err != nil {
		return err
	}
	leave := r.rules.remove(ru)
	switch {
	case ru.what.Toxic != nil:
		r.core.removeToxics(ru.live)
		return nil
	case ru.reply != nil:
		r.observer.removeReply(ru.reply, ru.links)
		return nil
	case ru.does == delay:
		r.setDelays(ru.links) // what is held goes before later packets pass by the queue
	}
	if err := r.filter.change(r.elements(leave), nil); err != nil {
		r.rules.restore(ru)
		if ru.does == delay {
			r.setDelays(ru.links)
		}
		return err
	}
	return nil
}

// Counters returns what a rule acted on, link by link, in the order of Apply. Of two rules of one kind on a link both
// count its packets. Of a delay it is an error when packets passed that could not be held back.
func (r *Router) Counters(id cluster.RuleID) ([]AddrCounter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ru, err := r.rule(id)
	if err != nil {
		return nil, err
	}
	cs := make([]AddrCounter, len(ru.links))
	if ru.what.Toxic != nil {
		for i, tl := range ru.live {
			cs[i] = AddrCounter{tl.link, tl.chunks.Load(), tl.bytes.Load(), tl.probes.Load()}
		}
		return cs, nil
	}
	if ru.reply != nil {
		for i, l := range ru.links {
			given, asked := ru.reply.on(l)
			cs[i] = AddrCounter{Link: l, Packets: given, Bytes: asked}
		}
		return cs, nil
	}
	counted, err := r.filter.tally(ru.does)
	if err != nil {
		return nil, err
	}
	for i, l := range ru.links {
		c, base := counted[string(key(l))], ru.base[i]
		cs[i] = AddrCounter{l, c.packets - base.packets, c.bytes - base.bytes, c.probes - base.probes}
	}
	if ru.does == delay {
		return cs, r.allHeld(ru, cs)
	}
	return cs, nil
}

// allHeld says how many of the packets that were counted the queue was never told of: a full queue lets packets pass in time.
func (r *Router) allHeld(ru *rule, cs []AddrCounter) error {
	var where AddrLink
	passed := r.queue.await(func() (n uint64) {
		for _, c := range cs {
			sent := c.Packets + c.Probes
			if met := ru.delayOn(c.Link).met.Load(); met < sent {
				n, where = n+sent-met, c.Link
			}
		}
		return n
	})
	if passed == 0 {
		return nil
	}
	return fmt.Errorf("plane: %d packets, on %v or others, were not held back: the queue had no room for them", passed, where)
}

// Audit names what is left of rules: an empty answer means that every link is as it was at the start.
func (r *Router) Audit() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var left []string
	for id, ru := range r.rules.rules {
		left = append(left, fmt.Sprintf("rule %d (%v) on %d links", id, ru.kind(), len(ru.links)))
	}
	slices.Sort(left)
	sets := []*nftables.Set{r.filter.resets}
	for _, a := range []action{drop, reject, delay} {
		sets = append(sets, r.filter.rules[a], r.filter.probed[a])
	}
	for _, s := range sets {
		es, err := r.filter.counted(s)
		if err != nil {
			return left, err
		}
		if len(es) > 0 {
			left = append(left, fmt.Sprintf("%d links in the packet filter's set %s", len(es), s.Name))
		}
	}
	if n := r.queue.held.Load(); n > 0 && len(left) == 0 {
		left = append(left, fmt.Sprintf("%d packets held back by no rule", n))
	}
	return left, nil
}
