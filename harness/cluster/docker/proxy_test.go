package docker_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster/docker/engine"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine/enginetest"
)

// proxy stands before the engine's socket, and can go.
type proxy struct {
	t      *testing.T
	engine string // path of its socket
	path   string
	all    sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil: cut
	open     map[net.Conn]bool
	ends     chan struct{} // closed: the client hears of the engine's end of a connection
}

func newProxy(t *testing.T, e *engine.Engine) *proxy {
	t.Helper()
	p := &proxy{t: t, engine: enginetest.SocketOf(t, e.Host()), path: filepath.Join(t.TempDir(), "engine.sock"), open: map[net.Conn]bool{}, ends: make(chan struct{})}
	close(p.ends)
	p.restore()
	t.Cleanup(p.cut)
	return p
}

func (p *proxy) host() string { return "unix://" + p.path }

// restore lets connections through.
func (p *proxy) restore() {
	p.t.Helper()
	l, err := net.Listen("unix", p.path)
	require.NoError(p.t, err)
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.carry(from) })
		}
	})
}

// cut ends every connection and takes no new one.
func (p *proxy) cut() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
	}
	p.listener = nil
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// hold keeps the engine's ends of connections from the client until they are released.
func (p *proxy) hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ends := make(chan struct{})
	p.ends = ends
	return sync.OnceFunc(func() { close(ends) })
}

// enter notes connections, unless the proxy is cut.
func (p *proxy) enter(conns ...net.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return errors.New("cut")
	}
	for _, c := range conns {
		p.open[c] = true
	}
	return nil
}

func (p *proxy) carry(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("unix", p.engine)
	if err != nil {
		return
	}
	defer to.Close()
	if p.enter(from, to) != nil {
		return
	}
	defer func() {
		p.mu.Lock()
		delete(p.open, from)
		delete(p.open, to)
		p.mu.Unlock()
	}()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		p.mu.Lock()
		ends := p.ends
		p.mu.Unlock()
		<-ends
		_ = from.(*net.UnixConn).CloseWrite()
	})
	_, _ = io.Copy(to, from)
	_ = to.(*net.UnixConn).CloseWrite()
	back.Wait()
}
