package plane

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// toolVar makes the test binary a program that runs in a node: traffic in the plane's own process would take the
// time it is to measure.
const toolVar = "GAUNTLET_PLANE_TOOL"

func init() {
	words := strings.Fields(os.Getenv(toolVar))
	if len(words) == 0 {
		return
	}
	tool := map[string]func([]string) error{"send": toolSend, "receive": toolReceive, "echo": toolEcho, "stream": toolStream, "ping": toolPing, "toxiproxy": toolToxiproxy}[words[0]]
	if err := tool(words[1:]); err != nil {
		fmt.Fprintln(os.Stderr, strings.Join(words, " "), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// monotonic is a clock that all processes share.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// toolSend sends COUNT datagrams to ADDRESS, RATE a second.
func toolSend(a []string) error {
	c, err := net.Dial("udp4", a[0])
	if err != nil {
		return err
	}
	count, _ := strconv.Atoi(a[1])
	rate, _ := strconv.Atoi(a[2])
	buf := make([]byte, 200)
	next := monotonic()
	for range count {
		for now := monotonic(); now < next; now = monotonic() {
			if next-now > 60_000 {
				ts := unix.NsecToTimespec(next - now - 50_000)
				_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil)
			}
		}
		next += int64(time.Second) / int64(rate)
		binary.LittleEndian.PutUint64(buf, uint64(monotonic()))
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// toolReceive prints how many datagrams came at ADDRESS, of at most COUNT, and p50 and p99 of their time under way.
func toolReceive(a []string) error {
	p, err := net.ListenPacket("udp4", a[0])
	if err != nil {
		return err
	}
	_ = p.(*net.UDPConn).SetReadBuffer(8 << 20)
	fmt.Println("ready")
	count, _ := strconv.Atoi(a[1])
	var took []time.Duration
	buf := make([]byte, 256)
	_ = p.SetReadDeadline(time.Now().Add(20 * time.Second))
	for len(took) < count {
		if _, _, err := p.ReadFrom(buf); err != nil {
			break
		}
		took = append(took, time.Duration(monotonic()-int64(binary.LittleEndian.Uint64(buf))))
		_ = p.SetReadDeadline(time.Now().Add(2 * time.Second))
	}
	slices.Sort(took)
	fmt.Println(len(took), int64(took[len(took)/2]), int64(took[len(took)*99/100]))
	return nil
}

func toolEcho(a []string) error {
	l, err := net.Listen("tcp4", a[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go echo(c.(*net.TCPConn))
	}
}

// toolStream sends to ADDRESS without a pause until its standard input ends, and checks that everything comes back.
func toolStream(a []string) error {
	conn, err := net.Dial("tcp4", a[0])
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	var stop atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	sent := make(chan int64, 1)
	go func() {
		var n int64
		for buf := make([]byte, 16<<10); !stop.Load(); {
			k, err := c.Write(buf)
			if n += int64(k); err != nil {
				break
			}
		}
		_ = c.CloseWrite()
		sent <- n
	}()
	fmt.Println("ready")
	got, err := io.Copy(io.Discard, c)
	if n := <-sent; err == nil && n != got {
		err = fmt.Errorf("%d bytes sent, %d came back", n, got)
	}
	fmt.Println(got)
	return err
}

// toolPing prints p50 and p99 of COUNT round trips of 256 bytes to ADDRESS.
func toolPing(a []string) error {
	c, err := net.Dial("tcp4", a[0])
	if err != nil {
		return err
	}
	count, _ := strconv.Atoi(a[1])
	buf := make([]byte, 256)
	var took []time.Duration
	for range count {
		start := time.Now()
		if _, err := c.Write(buf); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	fmt.Println(int64(took[count/2]), int64(took[count*99/100]))
	return nil
}

// tool starts a tool in the node.
type tool struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.Closer
	out io.Reader
}

func (n *testNode) tool(args ...any) *tool {
	words := strings.TrimSuffix(fmt.Sprintln(args...), "\n")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), toolVar+"="+words)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(n.t, err)
	in, err := cmd.StdinPipe()
	require.NoError(n.t, err)
	n.in(func() { err = cmd.Start() })
	require.NoError(n.t, err)
	x := &tool{n.t, cmd, in, out}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill() // that has ended by itself, as a rule
		_ = cmd.Wait()
	})
	return x
}

// line reads a line of numbers.
func (x *tool) line() []int64 {
	var b [1]byte
	var s strings.Builder
	for {
		if _, err := x.out.Read(b[:]); err != nil || b[0] == '\n' {
			break
		}
		s.WriteByte(b[0])
	}
	var ns []int64
	for w := range strings.FieldsSeq(s.String()) {
		if v, err := strconv.ParseInt(w, 10, 64); err == nil {
			ns = append(ns, v)
		}
	}
	return ns
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// BenchmarkP3 is what an echo gives back of one stream, over an idle link and through the core without a toxic, beside two
// namespaces joined by a veth and a toxiproxy without a toxic.
func BenchmarkP3Stream(b *testing.B) {
	inPlane(b, func() {
		s := newStar(b, 3)
		require.NoError(b, s.r.Intercept([]AddrLink{s.link(3, 2)}))
		to := netip.AddrPortFrom(s.nodes[1].addr, 9000).String()
		s.nodes[1].tool("echo", to).line()
		x, y := barePair(b)
		bare := netip.AddrPortFrom(y.addr, 9000).String()
		y.tool("echo", bare).line()
		y.tool("echo", "127.0.0.1:9000").line()
		y.tool("toxiproxy", "127.0.0.1:9100", "127.0.0.1:9000").line()
		rate := func(from *testNode, to string) float64 {
			traffic := from.tool("stream", to)
			traffic.line()
			start := time.Now()
			time.Sleep(time.Second) // the length of the measurement
			require.NoError(b, traffic.in.Close())
			got := traffic.line()
			require.Len(b, got, 1)
			return float64(got[0]) / 1e9 / time.Since(start).Seconds()
		}
		veth, proxied := rate(x, bare), rate(y, "127.0.0.1:9100")
		idle, core := rate(s.nodes[0], to), rate(s.nodes[2], to)
		fmt.Printf("P3 one stream echoed, idle link: %.2f GB/s (veth: %.2f GB/s, ratio %.2f; toxiproxy: %.2f GB/s, ratio %.2f)\n", idle, veth, idle/veth, proxied, idle/proxied)
		fmt.Printf("P3 one stream echoed, through the core: %.2f GB/s (idle link: %.2f GB/s, ratio %.2f; toxiproxy: %.2f GB/s, ratio %.2f)\n", core, idle, core/idle, proxied, core/proxied)
	})
}

// BenchmarkP4 is the round trip over an idle link, and over one that goes through the core without a toxic, beside two
// namespaces joined by a veth and a toxiproxy without a toxic.
func BenchmarkP4RoundTrip(b *testing.B) {
	inPlane(b, func() {
		s := newStar(b, 3)
		require.NoError(b, s.r.Intercept([]AddrLink{s.link(3, 2)}))
		const n = 10_000
		ping := func(from *testNode, to string) (p50, p99 float64) {
			q := from.tool("ping", to, n).line()
			require.Len(b, q, 2)
			return float64(q[0]) / 1e3, float64(q[1]) / 1e3
		}
		x, y := barePair(b)
		bare := netip.AddrPortFrom(y.addr, 9000).String()
		y.tool("echo", bare).line()
		y.tool("echo", "127.0.0.1:9000").line()
		y.tool("toxiproxy", "127.0.0.1:9100", "127.0.0.1:9000").line()
		veth, veth99 := ping(x, bare)
		proxied, proxied99 := ping(y, "127.0.0.1:9100")
		fmt.Printf("P4 peers: bare veth p50 %.1f µs, p99 %.1f µs; toxiproxy without a toxic p50 %.1f µs, p99 %.1f µs\n", veth, veth99, proxied, proxied99)
		to := netip.AddrPortFrom(s.nodes[1].addr, 9000).String()
		s.nodes[1].tool("echo", to).line()
		for _, c := range []struct {
			name string
			from int
		}{{"P4 idle link", 0}, {"P4 link through the core", 2}} {
			p50, p99 := ping(s.nodes[c.from], to)
			fmt.Printf("%s, 256-byte round trip: p50 %.1f µs, p99 %.1f µs (veth: ratio %.2f at p50, %.2f at p99; toxiproxy: %.2f, %.2f)\n",
				c.name, p50, p99, p50/veth, p99/veth99, p50/proxied, p99/proxied99)
		}
	})
}

// barePair is two namespaces joined by a veth, and nothing else: what a link of the star is measured against.
func barePair(t testing.TB) (x, y *testNode) {
	pair := [2]*testNode{}
	for i := range pair {
		pair[i] = &testNode{t: t, name: fmt.Sprintf("bare-%d", i+1), addr: netip.AddrFrom4([4]byte{10, 98, 0, byte(i + 1)}), ns: newNS(t)}
		t.Cleanup(func() { pair[i].ns.Close() })
	}
	la := netlink.NewLinkAttrs()
	la.Name, la.Namespace = "eth0", netlink.NsFd(pair[0].ns.Fd())
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(pair[1].ns.Fd())}))
	for _, n := range pair {
		h, err := netlink.NewHandleAt(netns.NsHandle(n.ns.Fd()))
		require.NoError(t, err)
		for _, name := range []string{"lo", "eth0"} {
			l, err := h.LinkByName(name)
			require.NoError(t, err)
			if name == "eth0" {
				require.NoError(t, h.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: n.addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}))
			}
			require.NoError(t, h.LinkSetUp(l))
		}
		h.Close()
	}
	for _, n := range pair {
		n.in(func() { glink("eth0") })
	}
	return pair[0], pair[1]
}

// toolToxiproxy is a toxiproxy without a toxic, from LISTEN to UPSTREAM.
func toolToxiproxy(a []string) error {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "p", a[0], a[1])
	if err := p.Start(); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// BenchmarkP5 is the delay given for the delay asked, and that of toxiproxy's latency.
func BenchmarkP5Delay(b *testing.B) {
	inPlane(b, func() {
		s := newStar(b, 2)
		at := netip.AddrPortFrom(s.nodes[1].addr, 7000).String()
		for _, asked := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond, 500 * time.Millisecond} {
			id := s.apply(ruleDelay(asked), s.link(1, 2))
			for _, rate := range []int{100, 10_000} {
				n := rate * 2
				r := s.nodes[1].tool("receive", at, n)
				r.line()
				s.nodes[0].tool("send", at, n, rate)
				q := r.line()
				require.Len(b, q, 3)
				require.NoError(b, r.cmd.Wait()) // the next one takes its port
				peer := ""
				if rate == 100 {
					p50, p99 := toxiproxyLatency(b, asked)
					peer = fmt.Sprintf(" (toxiproxy: p50 %+.3f ms, p99 %+.3f ms)", ms(p50-asked), ms(p99-asked))
				}
				fmt.Printf("P5 delay %v at %d packets/s: p50 %+.3f ms, p99 %+.3f ms, lost %d%s\n", asked, rate, ms(time.Duration(q[1])-asked), ms(time.Duration(q[2])-asked), int64(n)-q[0], peer)
			}
			s.remove(id)
		}
	})
}

// toxiproxyLatency measures round trips through toxiproxy with its latency on the way back.
func toxiproxyLatency(b *testing.B, asked time.Duration) (p50, p99 time.Duration) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(b, err)
	serve(b, l.(*net.TCPListener), echo)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "p", "127.0.0.1:0", l.Addr().String())
	require.NoError(b, p.Start())
	_, err = p.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(`{"type": "latency", "attributes": {"latency": %d}}`, asked.Milliseconds())))
	require.NoError(b, err)
	c, err := net.Dial("tcp4", p.Listen)
	require.NoError(b, err)
	defer c.Close()
	var took []time.Duration
	for range max(10, int(2*time.Second/(asked+10*time.Millisecond))) {
		d, err := roundTrip(c, 5*time.Second)
		require.NoError(b, err)
		took = append(took, d)
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}

// BenchmarkP6 is the time from the first to the last link of a partition: that of the transaction, at most.
func BenchmarkP6Partition(b *testing.B) {
	inPlane(b, func() {
		s := newStar(b, 5)
		var links []AddrLink
		for _, i := range []int{1, 2, 3} {
			for _, j := range []int{4, 5} {
				links = append(links, s.link(i, j), s.link(j, i))
			}
		}
		var took []time.Duration
		for range 500 {
			start := time.Now()
			id := s.apply(ruleDrop, links...)
			took = append(took, time.Since(start))
			s.remove(id)
		}
		slices.Sort(took)
		fmt.Printf("P6 partition of 3 out of 5 nodes, %d links: p50 %.3f ms, p99 %.3f ms\n", len(links), ms(took[250]), ms(took[495]))
	})
}

// BenchmarkP7 is the time of adding and removing each fault under full traffic, 1,000 times. The traffic checks that
// every byte comes back. The toxic timeout is not among them: it loses bytes, and its removal ends the connection.
func BenchmarkP7Changes(b *testing.B) {
	inPlane(b, func() {
		s := newStar(b, 2)
		require.NoError(b, s.r.Intercept([]AddrLink{s.link(1, 2)}))
		for _, c := range []struct {
			name string
			rule cluster.Rule
			port int
		}{
			{"drop", ruleDrop, 9000}, {"delay 1ms", ruleDelay(time.Millisecond), 9001},
			{"latency 1ms upstream", ruleLatency("upstream", 1, 0, 1), 9002}, {"latency 1ms downstream", ruleLatency("downstream", 1, 0, 1), 9003},
			{"bandwidth", toxic("bandwidth", "downstream", `{"rate": 1000000}`), 9004},
			{"slicer", toxic("slicer", "upstream", `{"average_size": 10000, "size_variation": 1000}`), 9005},
			{"slow_close", toxic("slow_close", "downstream", `{"delay": 10}`), 9006},
			{"limit_data", toxic("limit_data", "upstream", `{"bytes": 1000000000000000}`), 9007},
			{"reset_peer in a minute", toxic("reset_peer", "downstream", `{"timeout": 60000}`), 9008},
		} {
			to := netip.AddrPortFrom(s.nodes[1].addr, uint16(c.port)).String()
			s.nodes[1].tool("echo", to).line()
			traffic := s.nodes[0].tool("stream", to)
			traffic.line()
			var took []time.Duration
			for range 1000 {
				start := time.Now()
				id := s.apply(c.rule, s.link(1, 2))
				took = append(took, time.Since(start))
				start = time.Now()
				s.remove(id)
				took = append(took, time.Since(start))
			}
			require.NoError(b, traffic.in.Close())
			got := traffic.line()
			require.Len(b, got, 1)
			require.NoError(b, traffic.cmd.Wait(), "a byte was lost")
			slices.Sort(took)
			fmt.Printf("P7 %s, added and removed 1000 times under traffic: p50 %.3f ms, p99 %.3f ms, %.1f MB intact\n", c.name, ms(took[1000]), ms(took[1980]), float64(got[0])/1e6)
		}
	})
}

// BenchmarkReset is the time that 220 connections take to end.
func BenchmarkReset(b *testing.B) {
	inPlane(b, func() {
		s := newStar(b, 2)
		serve(b, s.nodes[1].listen(9000), func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
		for range 220 {
			s.nodes[0].mustDial(s.nodes[1], 9000)
		}
		start := time.Now()
		n, err := s.r.Reset(context.Background(), []AddrLink{s.link(1, 2)})
		require.NoError(b, err)
		fmt.Printf("reset of %d connections: %.1f ms\n", n, ms(time.Since(start)))
	})
}
