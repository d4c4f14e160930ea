package plane

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
)

// pipe is one direction of a connection through the link core. Without toxics the kernel splices the bytes from
// socket to socket; with toxics they pass through a chain. It changes from one to the other, and from chain to chain,
// between two writes, so that a change never waits for a peer that does not read.
//
// It belongs to a connection, which a toxic may end.
type pipe struct {
	src, dst *net.TCPConn
	ends     ends
	tap      half        // or nil
	cutLater atomic.Bool // when what is on its way has been passed on, the connection is to be closed
	lost     atomic.Bool // a toxic has discarded something

	mu      sync.Mutex
	want    []*stage
	changed chan struct{} // holds one token when want is new, or when the tap has something to send
	taken   chan struct{} // closed when it was taken; nil when it is not new
	cutNow  bool
	over    bool
}

// ends is how a connection is ended otherwise than by its peers.
type ends struct {
	reset func() // resets both ends
	close func() // closes both ends, in an orderly way; what is on its way is lost
	// after calls f in a while, unless both streams have ended by then: one that goes on is to be ended too.
	after func(d time.Duration, f func())
}

// errCut says that a toxic ended the connection: both ends are to be closed.
var errCut = errors.New("a toxic closed the connection")

func newPipe(src, dst *net.TCPConn) *pipe {
	return &pipe{src: src, dst: dst, changed: make(chan struct{}, 1)}
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
	p.poke()
	if p.taken != nil {
		return nil
	}
	p.taken = make(chan struct{})
	return p.taken
}

// wake has the tap asked for what it has to send.
func (p *pipe) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.poke()
	}
}

func (p *pipe) poke() {
	_ = p.src.SetReadDeadline(longAgo) // a closed socket needs no waking
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// cut ends the pipe at once, whatever is on its way: a write that waits for the peer too.
func (p *pipe) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.cutNow = true
	_ = p.dst.SetWriteDeadline(longAgo)
	p.poke()
}

// stage returns the first stage that matches, or nil.
func (p *pipe) stage(match func(*stage) bool) *stage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.want, match); i >= 0 {
		return p.want[i]
	}
	return nil
}

// take returns the stages that are wanted now, and lets reads go on; or errCut.
func (p *pipe) take() ([]*stage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accept()
	if p.cutNow {
		return nil, errCut
	}
	return p.want, nil
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

// carry runs the pipe. What ends it otherwise than in good order ends the connection.
func (p *pipe) carry() error {
	err := p.run()
	switch {
	case errors.Is(err, errCut):
		p.ends.close()
	case err != nil:
		p.ends.reset()
	}
	return err
}

// run carries bytes until src has ended and everything was passed on; then it ends dst's stream and returns nil. It
// returns errCut when a toxic has ended the connection. Another error means that the connection is broken: both ends
// are to be reset.
func (p *pipe) run() error {
	defer p.end()
	for {
		stages, err := p.take()
		if err != nil {
			return err
		}
		if len(stages) == 0 && p.tap == nil {
			_, err = p.dst.ReadFrom(p.src) // splice
		} else {
			err = p.through(stages)
		}
		switch {
		case err == nil && p.cutLater.Load():
			return errCut
		case err == nil:
			return p.finish()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
	}
}

// finish passes the end of the stream on.
func (p *pipe) finish() error {
	if p.tap != nil {
		if b := p.tap.allLeft(); len(b) > 0 {
			if _, err := p.dst.Write(b); err != nil {
				return err
			}
		}
	}
	return p.dst.CloseWrite()
}

// write passes bytes on; nil asks the tap for its own.
func (p *pipe) write(b []byte) error {
	if p.tap != nil {
		b = p.tap.leaving(b)
	}
	if len(b) == 0 {
		return nil
	}
	_, err := p.dst.Write(b)
	return err
}

// through carries bytes through chains of toxics, or past the tap alone. It returns os.ErrDeadlineExceeded when neither
// is left, or when the pipe was cut.
func (p *pipe) through(stages []*stage) error {
	f := flow{held: make([][]*stream.StreamChunk, len(stages)+1), ended: -1}
	if err := p.own(&f); err != nil {
		return err
	}
	c := newChain(stages, f)
	in := p.startIntake(c)
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
			if err := p.write(x.Data); err != nil {
				return err
			}
		case <-p.changed:
			in.stop()
			var err error
			if stages, err = p.take(); err != nil {
				return err
			}
			f := c.stop(stages)
			// Read, but not yet in the chain. Behind the end that a toxic has made it has no way to go.
			if in.left != nil && f.ended < 0 {
				f.held[0] = append(f.held[0], in.left)
				if in.over {
					f.ended = 0
				}
			}
			in.left = nil
			if err := p.own(&f); err != nil {
				return err
			}
			if len(stages) == 0 && p.tap == nil {
				return p.let(f, in)
			}
			if c = newChain(stages, f); f.ended < 0 {
				in = p.startIntake(c)
			}
		}
	}
}

// own asks the tap for what it has to send of its own. Nothing is being read meanwhile.
func (p *pipe) own(f *flow) error {
	if p.tap == nil {
		return nil
	}
	if b := p.tap.arrived(nil); len(b) > 0 && f.ended < 0 { // what comes after the stream's end has no way to go
		f.held[0] = append(f.held[0], newChunk(b))
	}
	return p.write(nil)
}

func newChunk(b []byte) *stream.StreamChunk {
	return &stream.StreamChunk{Data: slices.Clone(b), Timestamp: time.Now()}
}

// let writes what is left of a chain that has no stage any more.
func (p *pipe) let(f flow, in *intake) error {
	for _, x := range f.held[0] {
		if err := p.write(x.Data); err != nil {
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
	pipe     *pipe
	chain    *chain
	stopping chan struct{}
	done     chan struct{}
	once     sync.Once

	// Valid after stop.
	left    *stream.StreamChunk // read, but the chain did not take it
	over    bool                // src has ended in good order: behind left comes its end
	failure error               // why, unless by its peer's close
}

func (p *pipe) startIntake(c *chain) *intake {
	in := &intake{pipe: p, chain: c, stopping: make(chan struct{}), done: make(chan struct{})}
	go in.run()
	return in
}

// stop ends the reading. The deadline it sets on the socket stays.
func (in *intake) stop() {
	in.once.Do(func() {
		close(in.stopping)
		_ = in.pipe.src.SetReadDeadline(longAgo)
	})
	<-in.done
}

func (in *intake) run() {
	defer close(in.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := in.pipe.src.Read(buf)
		if n > 0 && !in.put(in.arrived(buf[:n])) {
			return
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return // the stages are to change
		case errors.Is(err, io.EOF):
			in.over = true
			if in.pipe.tap != nil && !in.put(in.pipe.tap.allArrived()) {
				return
			}
		default:
			in.failure = err
		}
		close(in.chain.links[0])
		return
	}
}

func (in *intake) arrived(b []byte) []byte {
	if in.pipe.tap == nil {
		return b
	}
	return in.pipe.tap.arrived(b)
}

// put has bytes go into the chain. It returns false, and they are left, when the stages are to change before.
func (in *intake) put(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	x := newChunk(b)
	select {
	case in.chain.head() <- x:
		return true
	case <-in.stopping:
		in.left = x
		return false
	}
}
