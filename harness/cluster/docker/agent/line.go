package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// errEnded is what calls of a connection fail with once the session that carried it is no more.
var errEnded = fmt.Errorf("agent: the session with the container has ended: %w", plane.ErrGone)

// line is one end of a relayed connection. It keeps what a socket has: each direction ends by itself, a reset is told
// apart from an end, and says so at once, whatever is still unread.
//
// yamux has none of that: its streams end in io.EOF when the session breaks, and a frame behind data waits until that
// is read. So everything that comes is taken off the stream at once by pump, into a queue that has an upper bound by
// credit of our own, and everything that goes leaves by the goroutine send: neither Read, Write nor Close ever waits for
// the session.
type line struct {
	stream    *yamux.Stream
	datagrams bool // set before the first Read or Write

	hello chan []byte        // the peer's
	ended chan struct{}      // closed when the peer has sent its last frame, or the session has ended
	ctx   context.Context    // ends when the connection is broken: by a reset, by unread data at a close, by the session
	fail  context.CancelFunc // ends ctx

	writing sync.Mutex // keeps the bytes of a Write together

	mu       sync.Mutex
	readable sync.Cond
	writable sync.Cond
	sendable sync.Cond

	in       []chunk
	taken    int    // cost of chunks taken for which no credit was sent yet
	got      uint64 // bytes that Read has returned
	inEOF    bool
	readErr  error // why nothing more comes
	out      []byte
	credit   int
	offered  uint64 // bytes that Write was called with
	outEOF   bool
	writeErr error         // why nothing more goes
	soft     syscall.Errno // told to the next call

	linger        bool // Close is a close, not a reset
	closed        bool // by this end
	last          bool // this end's last frame is in out
	readDeadline  deadline
	writeDeadline deadline
}

// chunk is a frame's data as far as it is unread.
type chunk struct {
	data []byte
	cost int
}

// newLine takes a stream over. Its goroutines are running's; they end when both ends are done with the connection, at
// the latest with the session.
func newLine(stream *yamux.Stream, running *sync.WaitGroup) *line {
	l := &line{
		stream: stream, hello: make(chan []byte, 1), ended: make(chan struct{}), credit: window, linger: true,
	}
	l.ctx, l.fail = context.WithCancel(context.Background())
	l.readable.L, l.writable.L, l.sendable.L = &l.mu, &l.mu, &l.mu
	l.readDeadline.wake, l.writeDeadline.wake = &l.readable, &l.writable
	running.Go(l.pump)
	running.Go(l.send)
	return l
}

// greet sends a hello.
func (l *line) greet(hello any) error {
	b, err := json.Marshal(hello)
	if err != nil {
		return fmt.Errorf("agent: encoding a request: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queueLocked(func(out []byte) []byte { return appendFrame(out, frameHello, b) })
	return nil
}

// greeting waits for the peer's hello. errEnded is its error when the peer has none to say any more.
func (l *line) greeting(ctx context.Context, hello any) error {
	var b []byte
	select {
	case b = <-l.hello:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ended:
		select {
		case b = <-l.hello:
		default:
			return errEnded
		}
	}
	if err := json.Unmarshal(b, hello); err != nil {
		return fmt.Errorf("agent: decoding a request: %w", err)
	}
	return nil
}

// queueLocked has a frame sent.
func (l *line) queueLocked(frame func(out []byte) []byte) {
	if l.last {
		return
	}
	l.out = frame(l.out)
	l.sendable.Signal()
}

// lastLocked has this end's last frame sent.
func (l *line) lastLocked(frame func(out []byte) []byte) {
	l.queueLocked(frame)
	l.last = true
}

// send writes to the stream what is queued, until the last frame.
func (l *line) send() {
	// Both ends do, each after its last frame: a stream that only one of them closes stays.
	defer l.stream.Close()
	var spare []byte
	for {
		l.mu.Lock()
		for len(l.out) == 0 && !l.last {
			l.sendable.Wait()
		}
		out, last := l.out, l.last
		l.out = spare[:0]
		l.mu.Unlock()
		for part := range slices.Chunk(out, 2*maxChunk) {
			if _, err := l.stream.Write(part); err != nil {
				l.breakOff(errEnded)
				return
			}
		}
		if last {
			return
		}
		spare = out
	}
}

// pump takes frames off the stream until the peer has closed it, also when nobody wants them any more.
func (l *line) pump() {
	for r := bufio.NewReader(l.stream); ; {
		f, err := readFrame(r)
		if err == nil {
			err = l.receive(f)
		}
		if err == nil {
			continue
		}
		l.breakOff(errEnded) // unless the peer's last frame came, after which it closes the stream
		return
	}
}

// receive acts on a frame. Its error means that the peer does not speak the protocol.
func (l *line) receive(f frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isEnded() {
		return errors.New("agent: a frame came after the last one")
	}
	switch f.kind {
	case frameHello:
		select {
		case l.hello <- f.payload:
		default:
			return errors.New("agent: a second hello came")
		}
	case frameData:
		if l.closed || l.readErr != nil {
			return nil
		}
		l.in = append(l.in, chunk{f.payload, frameHeader + len(f.payload)})
		l.readable.Signal()
	case frameEOF:
		l.inEOF = true
		l.readable.Broadcast()
	case frameCredit:
		l.credit += int(f.uint32())
		l.writable.Broadcast()
	case frameError:
		l.soft = f.errno()
		l.readable.Broadcast()
		l.writable.Broadcast()
	case frameRefuse:
		l.writeErr = f.errno()
		l.writable.Broadcast()
	case frameReset:
		l.endLocked(f.errno(), true)
	case frameClose:
		if !l.datagrams && l.offered > f.uint64() {
			// It has closed with data unread: that is a reset, as of any socket.
			l.endLocked(syscall.ECONNRESET, true)
			return nil
		}
		l.inEOF = true
		l.endLocked(syscall.EPIPE, false)
	}
	return nil
}

// breakOff ends the connection for the session's sake.
func (l *line) breakOff(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked(err, true)
}

// endLocked is the end of the peer, and so of this one: nobody reads what it would still send.
func (l *line) endLocked(err error, broken bool) {
	if l.isEnded() {
		return
	}
	if l.writeErr == nil {
		l.writeErr = err
	}
	if l.readErr == nil {
		l.readErr = err
	}
	if broken {
		l.fail()
	}
	close(l.ended)
	l.closeFrameLocked()
	l.readable.Broadcast()
	l.writable.Broadcast()
}

func (l *line) closeFrameLocked() {
	l.lastLocked(func(out []byte) []byte {
		return appendFrame(out, frameClose, binary.BigEndian.AppendUint64(nil, l.got))
	})
}

// setDatagrams has each Write and each Read carry one datagram. It is called before the first.
func (l *line) setDatagrams() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.datagrams = true
}

// why returns why the peer has ended.
func (l *line) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.readErr
}

func (l *line) isEnded() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// Read reads what came, one datagram at a time where it is datagrams. Errors are io.EOF, net.ErrClosed,
// os.ErrDeadlineExceeded, a syscall.Errno or errEnded.
func (l *line) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closed:
			return 0, net.ErrClosed
		case l.readDeadline.over():
			return 0, os.ErrDeadlineExceeded
		case l.soft != 0:
			return 0, l.takeSoftLocked()
		case len(b) == 0 && !l.datagrams:
			return 0, nil
		case len(l.in) > 0:
			return l.takeLocked(b), nil
		case l.inEOF:
			return 0, io.EOF
		case l.readErr != nil:
			return 0, l.readErr
		}
		l.readable.Wait()
	}
}

func (l *line) takeSoftLocked() error {
	err := l.soft
	l.soft = 0
	return err
}

// takeLocked copies from the first chunk. What of a datagram does not fit is lost, as with a socket.
func (l *line) takeLocked(b []byte) int {
	c := &l.in[0]
	n := copy(b, c.data)
	l.got += uint64(n)
	if c.data = c.data[n:]; len(c.data) > 0 && !l.datagrams {
		return n
	}
	l.taken += c.cost
	*c = chunk{}
	if l.in = l.in[1:]; len(l.in) > 0 {
		l.readable.Signal() // for another reader
	}
	if l.taken >= window/4 {
		credit := binary.BigEndian.AppendUint32(nil, uint32(l.taken))
		l.queueLocked(func(out []byte) []byte { return appendFrame(out, frameCredit, credit) })
		l.taken = 0
	}
	return n
}

// Write has b sent, as one datagram where it is datagrams. It returns when all of it is under way, and waits while too
// much is. Errors are net.ErrClosed, os.ErrDeadlineExceeded, a syscall.Errno or errEnded.
func (l *line) Write(b []byte) (n int, err error) {
	if l.datagrams && len(b) > maxDatagram {
		return 0, syscall.EMSGSIZE
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offered += uint64(len(b))
	for first := true; first || n < len(b); {
		switch {
		case l.closed:
			return n, net.ErrClosed
		case l.writeDeadline.over():
			return n, os.ErrDeadlineExceeded
		case l.soft != 0:
			return n, l.takeSoftLocked()
		case l.outEOF:
			return n, syscall.EPIPE
		case l.writeErr != nil:
			return n, l.writeErr
		case len(b) == 0 && !l.datagrams:
			return 0, nil
		}
		need, most := frameHeader+1, maxChunk
		if l.datagrams {
			need, most = frameHeader+len(b), len(b)
		}
		if l.credit < need {
			l.writable.Wait()
			continue
		}
		part := b[n:min(len(b), n+most, n+l.credit-frameHeader)]
		l.credit -= frameHeader + len(part)
		l.queueLocked(func(out []byte) []byte { return appendFrame(out, frameData, part) })
		n += len(part)
		first = false
	}
	return n, nil
}

// CloseWrite ends the direction of Write; the peer reads on to io.EOF.
func (l *line) CloseWrite() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return net.ErrClosed
	case l.writeErr != nil:
		return l.writeErr
	case !l.outEOF:
		l.outEOF = true
		l.queueLocked(func(out []byte) []byte { return appendFrame(out, frameEOF, nil) })
	}
	return nil
}

// complain has the peer's next call fail; of datagrams.
func (l *line) complain(e syscall.Errno) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queueLocked(func(out []byte) []byte { return appendErrno(out, frameError, e) })
}

// refuse ends the direction of Read: writes of the peer fail with e.
func (l *line) refuse(e syscall.Errno) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queueLocked(func(out []byte) []byte { return appendErrno(out, frameRefuse, e) })
}

// reset breaks the connection: the peer's calls fail with e, once it has read what came before. It closes the line.
func (l *line) reset(e syscall.Errno) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked(func() {
		l.lastLocked(func(out []byte) []byte { return appendErrno(out, frameReset, e) })
	})
}

// setLinger says what Close does: end the connection, or reset it.
func (l *line) setLinger(linger bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.linger = linger
}

// Close ends the connection. What was written still arrives; but when something is unread, or comes later, it is reset,
// as with a socket.
func (l *line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closeLocked(func() {
		if !l.datagrams && (len(l.in) > 0 || !l.linger) {
			l.lastLocked(func(out []byte) []byte { return appendErrno(out, frameReset, syscall.ECONNRESET) })
		} else {
			l.closeFrameLocked()
		}
	})
	return nil
}

func (l *line) closeLocked(last func()) {
	if l.closed {
		return
	}
	last()
	l.closed = true
	l.in = nil
	l.readDeadline.set(time.Time{}) // wakes who waits
	l.writeDeadline.set(time.Time{})
}

func (l *line) setDeadlines(t time.Time, ds ...*deadline) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	for _, d := range ds {
		d.set(t)
	}
	return nil
}
