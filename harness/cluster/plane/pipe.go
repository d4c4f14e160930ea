package plane

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
)

// pipe is one direction of a connection through the link core. Without toxics the kernel splices the bytes from
// socket to socket; with toxics they pass through a chain. It changes from one to the other, and from chain to chain,
// between two writes, so that a change never waits for a peer that does not read.
type pipe struct {
	src, dst *net.TCPConn

	mu      sync.Mutex
	want    []*stage
	changed chan struct{} // holds one token when want is new
	taken   chan struct{} // closed when it was taken; nil when it is not new
	over    bool
}

func newPipe(src, dst *net.TCPConn, stages []*stage) *pipe {
	return &pipe{src: src, dst: dst, want: stages, changed: make(chan struct{}, 1)}
}

// longAgo as a deadline ends a read that is under way. No byte is lost by it.
var longAgo = time.Unix(1, 0)

// set replaces the stages. It does not wait for the change: the channel it returns is closed when no byte that comes
// from now on passes through the old ones. It is nil when there is nothing to wait for, or when the pipe has not even
// taken the change before: its peer does not read.
func (p *pipe) set(f func([]*stage) []*stage) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want = f(slices.Clone(p.want))
	if p.over {
		return nil
	}
	_ = p.src.SetReadDeadline(longAgo) // a closed socket needs no waking
	select {
	case p.changed <- struct{}{}:
	default:
	}
	if p.taken != nil {
		return nil
	}
	p.taken = make(chan struct{})
	return p.taken
}

// take returns the stages that are wanted now, and lets reads go on.
func (p *pipe) take() []*stage {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accept()
	return p.want
}

// end says that nothing is carried any more.
func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.accept()
}

func (p *pipe) accept() {
	_ = p.src.SetReadDeadline(time.Time{})
	select {
	case <-p.changed:
	default:
	}
	if p.taken != nil {
		close(p.taken)
		p.taken = nil
	}
}

// run carries bytes until src has ended and everything was passed on; then it ends dst's stream and returns nil. An
// error means that the connection is broken: both ends are to be reset.
func (p *pipe) run() error {
	defer p.end()
	for {
		stages := p.take()
		var err error
		if len(stages) == 0 {
			_, err = p.dst.ReadFrom(p.src)
		} else {
			err = p.through(stages)
		}
		switch {
		case err == nil:
			return p.dst.CloseWrite()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
	}
}

// through carries bytes through chains of toxics. It returns os.ErrDeadlineExceeded when there is none any more.
func (p *pipe) through(stages []*stage) error {
	c := newChain(stages, flow{held: make([][]*stream.StreamChunk, len(stages)+1), ended: -1})
	in := startIntake(p.src, c)
	defer func() {
		in.stop()
		c.stop(nil)
	}()
	for {
		select {
		case x, ok := <-c.tail():
			if !ok {
				in.stop()
				return in.failure
			}
			if _, err := p.dst.Write(x.Data); err != nil {
				return err
			}
		case <-p.changed:
			in.stop()
			stages = p.take()
			f := c.stop(stages)
			if in.left != nil { // read, but not yet in the chain
				f.held[0] = append(f.held[0], in.left)
				in.left = nil
			}
			if len(stages) == 0 {
				return p.finish(f, in)
			}
			if c = newChain(stages, f); f.ended < 0 {
				in = startIntake(p.src, c)
			}
		}
	}
}

// finish writes what is left of a chain that has no stage any more.
func (p *pipe) finish(f flow, in *intake) error {
	for _, x := range f.held[0] {
		if _, err := p.dst.Write(x.Data); err != nil {
			return err
		}
	}
	if f.ended < 0 {
		return os.ErrDeadlineExceeded
	}
	return in.failure
}

// intake reads from a socket into a chain.
type intake struct {
	src      *net.TCPConn
	chain    *chain
	stopping chan struct{}
	done     chan struct{}
	once     sync.Once

	// Valid after stop.
	left    *stream.StreamChunk // read, but the chain did not take it
	over    bool                // src has ended, and so has the chain's head
	failure error               // why, unless by its peer's close
}

func startIntake(src *net.TCPConn, c *chain) *intake {
	in := &intake{src: src, chain: c, stopping: make(chan struct{}), done: make(chan struct{})}
	go in.run()
	return in
}

// stop ends the reading. The deadline it sets on the socket stays.
func (in *intake) stop() {
	in.once.Do(func() {
		close(in.stopping)
		_ = in.src.SetReadDeadline(longAgo)
	})
	<-in.done
}

func (in *intake) run() {
	defer close(in.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := in.src.Read(buf)
		if n > 0 {
			x := &stream.StreamChunk{Data: slices.Clone(buf[:n]), Timestamp: time.Now()}
			for _, s := range in.chain.stages {
				s.of.chunks.Add(1)
				s.of.bytes.Add(uint64(n))
			}
			select {
			case in.chain.head() <- x:
			case <-in.stopping:
				in.left = x
				return
			}
		}
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // the stages are to change
		}
		in.over = true
		if !errors.Is(err, io.EOF) {
			in.failure = err
		}
		close(in.chain.links[0])
		return
	}
}
