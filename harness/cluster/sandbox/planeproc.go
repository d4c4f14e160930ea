package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// The sandbox's own methods of the plane, beside those of the Router.
const (
	methodBegin   = "sandbox.begin"
	methodAdd     = "sandbox.add"
	methodRemove  = "sandbox.remove"
	methodSockets = "sandbox.sockets"
	methodListen  = "sandbox.listen"
)

// planeAddr is the plane's address, the gateway and name server of every node. The network exists only inside the
// plane's namespace, so it may be in use outside. It is one of RFC 1918: programs that look for a private address to
// advertise find it.
var planeAddr = netip.AddrFrom4([4]byte{10, 99, 255, 254})

// nodeAddr returns the address of the node with an index, from 1.
func nodeAddr(index int) (netip.Addr, error) {
	if index < 1 || index > 0xfefe {
		return netip.Addr{}, fmt.Errorf("node %d: a topology has at most %d nodes in its life", index, 0xfefe)
	}
	// No host part is 0 or 255: some programs take such an address for a network's or a broadcast.
	return netip.AddrFrom4([4]byte{10, 99, byte(index / 254), byte(index%254 + 1)}), nil
}

type addBody struct {
	Name  string     `json:"name"`
	Index int        `json:"index"`
	Addr  netip.Addr `json:"addr"`
	Names []string   `json:"names,omitempty"`
	IDs   idMaps     `json:"ids"`
	Trees []tree     `json:"trees"`
}

// tree is a part of this machine's tree that a node's root shows.
type tree struct {
	Source   string `json:"source"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	Device   bool   `json:"device,omitempty"`
}

type addReply struct {
	Pid int `json:"pid"` // of the node's init, as the plane numbers it
}

type nameBody struct {
	Name string `json:"name"`
}

type socketsBody struct {
	Node    string `json:"node"` // empty: the plane itself
	Network string `json:"network"`
	Count   int    `json:"count"`
}

type listenBody struct {
	Node string     `json:"node"`
	Addr netip.Addr `json:"addr"`
}

// planeServer is the plane at work: it makes the nodes' networks and their inits.
type planeServer struct {
	router *plane.Router
	ns     *os.File // the plane's network namespace

	meter meter

	mu    sync.Mutex
	nodes map[string]*planeNode
}

// servePlane serves the harness until it is gone. What fails at the start is the answer to sandbox.begin.
func servePlane(conn plane.Conn) error {
	p := &planeServer{nodes: map[string]*planeNode{}, meter: newMeter()}
	beginErr := p.begin()
	handlers := map[string]plane.Handler{}
	if beginErr == nil {
		handlers = p.router.Handlers()
		handlers[methodAdd] = handle(p.add)
		handlers[methodRemove] = handle(p.remove)
		handlers[methodSockets] = handle(p.sockets)
		handlers[methodListen] = handle(p.listen)
		handlers[methodUsage] = handle(p.usage)
	}
	handlers[methodBegin] = func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
		return nil, nil, beginErr
	}
	return plane.NewServer(conn, handlers).Serve(context.Background())
}

func handle[T any](f func(context.Context, T) (any, []*os.File, error)) plane.Handler {
	return func(ctx context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
		for _, file := range files {
			file.Close()
		}
		var in T
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, nil, fmt.Errorf("plane: decoding a call: %w", err)
		}
		return f(ctx, in)
	}
}

// begin makes the namespaces of this process its own world.
func (p *planeServer) begin() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return stageError("mounts", fmt.Errorf("make the plane's mounts private: %w", err))
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return stageError("proc", fmt.Errorf("mount /proc in the plane: %w", err))
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return stageError("proc", fmt.Errorf("open the plane's network namespace: %w", err))
	}
	p.ns = ns
	if err := loopbackUp(); err != nil {
		return stageError("network", err)
	}
	p.router, err = plane.New(plane.Config{Addr: planeAddr})
	if err != nil {
		return stageError("rules", err)
	}
	return nil
}

// stageError marks an error with the stage of the start it belongs to; the mark survives the wire in the text.
func stageError(stage string, err error) error { return fmt.Errorf("[%s] %w", stage, err) }

// stageOf returns the mark of an error's text.
func stageOf(err error) string {
	if _, rest, ok := strings.Cut(err.Error(), "["); ok {
		if stage, _, ok := strings.Cut(rest, "]"); ok {
			return stage
		}
	}
	return ""
}

func (p *planeServer) add(_ context.Context, b addBody) (any, []*os.File, error) {
	n, control, err := newPlaneNode(b, p.ns)
	if err != nil {
		return nil, nil, err
	}
	if err := p.router.AddNode(plane.Node{Name: b.Name, Addr: b.Addr, Names: b.Names, NetNS: n.ns}); err != nil {
		control.Close()
		return nil, nil, errors.Join(fmt.Errorf("make node %s known: %w", b.Name, err), n.close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes[b.Name] = n
	return addReply{Pid: n.pid}, []*os.File{control}, nil
}

func (p *planeServer) remove(_ context.Context, b nameBody) (any, []*os.File, error) {
	p.mu.Lock()
	n := p.nodes[b.Name]
	delete(p.nodes, b.Name)
	p.mu.Unlock()
	if n == nil {
		return nil, nil, fmt.Errorf("the plane has no node %s", b.Name)
	}
	p.meter.close(b.Name, n.pid)
	return nil, nil, errors.Join(p.router.RemoveNode(b.Name), n.close())
}

// sockets makes unconnected sockets in a node's namespace. The harness connects them: 34 µs for a connection, where a
// connected socket for each call costs 150.
func (p *planeServer) sockets(_ context.Context, b socketsBody) (any, []*os.File, error) {
	ns, err := p.namespace(b.Node)
	if err != nil {
		return nil, nil, err
	}
	kind := unix.SOCK_STREAM
	if b.Network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	var files []*os.File
	err = inNamespace(ns, p.ns, func() error {
		for range b.Count {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return fmt.Errorf("make a socket in node %s: %w", b.Node, err)
			}
			files = append(files, os.NewFile(uintptr(fd), "socket"))
		}
		return nil
	})
	return nil, files, err
}

// namespace returns the network namespace of a node, the plane's own for "".
func (p *planeServer) namespace(node string) (*os.File, error) {
	if node == "" {
		return p.ns, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.nodes[node]; n != nil {
		return n.ns, nil
	}
	return nil, fmt.Errorf("the plane has no node %s", node)
}

// listen makes a listening socket at a node's address and a free port.
func (p *planeServer) listen(_ context.Context, b listenBody) (any, []*os.File, error) {
	ns, err := p.namespace(b.Node)
	if err != nil {
		return nil, nil, err
	}
	var file *os.File
	err = inNamespace(ns, p.ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("make a socket in node %s: %w", b.Node, err)
		}
		file = os.NewFile(uintptr(fd), "listener")
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: b.Addr.As4()}); err != nil {
			return fmt.Errorf("bind in node %s: %w", b.Node, err)
		}
		if err := unix.Listen(fd, 4096); err != nil {
			return fmt.Errorf("listen in node %s: %w", b.Node, err)
		}
		return nil
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, nil, err
	}
	return nil, []*os.File{file}, nil
}
