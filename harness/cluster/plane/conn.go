package plane

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn carries messages, and file descriptors with them, between the harness and the plane. A driver whose plane is
// reached by a byte stream implements it without descriptors.
type Conn interface {
	// Send sends one message. The files are duplicated on the way: the caller keeps its own. Several goroutines may
	// call it.
	Send(msg []byte, files []*os.File) error
	// Recv returns the next message, and io.EOF when the peer is gone. The files belong to the caller. One goroutine
	// calls it.
	Recv() (msg []byte, files []*os.File, err error)
	Close() error
}

const (
	// maxDatagram is the size of one datagram, its header included. The kernel's limit is the socket's send buffer, of
	// which an ordinary user has 212,992 bytes.
	maxDatagram = 64 << 10
	// maxMessage bounds what a broken peer can make this side keep.
	maxMessage = 16 << 20
	// maxFiles is the kernel's SCM_MAX_FD.
	maxFiles = 253
)

const (
	more byte = iota // the message goes on in the next datagram
	last
)

// packetConn is a Conn over a unix SEQPACKET socket. A message is one or more datagrams, each with one byte of
// header; descriptors travel with the first.
type packetConn struct {
	c    *net.UnixConn
	send sync.Mutex // keeps the datagrams of a message together
	buf  []byte
	oob  []byte
}

// NewConn returns a Conn over one end of a unix SEQPACKET socket pair, and closes f.
func NewConn(f *os.File) (Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("plane: using descriptor %s as the connection: %w", f.Name(), err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("plane: %s is a %T, not a unix socket", f.Name(), c)
	}
	return &packetConn{c: u, buf: make([]byte, maxDatagram), oob: make([]byte, unix.CmsgSpace(4*maxFiles))}, nil
}

// Pair returns both ends of a new connection's socket pair, close-on-exec: the harness keeps one and hands the other
// to the plane.
func Pair() (mine, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("plane: making its connection: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "plane's connection"), os.NewFile(uintptr(fds[1]), "harness's connection"), nil
}

func (p *packetConn) Send(msg []byte, files []*os.File) error {
	if len(msg) > maxMessage {
		return fmt.Errorf("plane: a message of %d bytes is over the limit of %d", len(msg), maxMessage)
	}
	if len(files) > maxFiles {
		return fmt.Errorf("plane: %d descriptors in one message, at most %d can be sent", len(files), maxFiles)
	}
	rights, done, err := rightsOf(files)
	if err != nil {
		return err
	}
	defer done()
	p.send.Lock()
	defer p.send.Unlock()
	datagram := make([]byte, 0, min(len(msg)+1, maxDatagram))
	for {
		n := min(len(msg), maxDatagram-1)
		kind := last
		if n < len(msg) {
			kind = more
		}
		datagram = append(append(datagram[:0], kind), msg[:n]...)
		if _, _, err := p.c.WriteMsgUnix(datagram, rights, nil); err != nil {
			return err
		}
		if msg, rights = msg[n:], nil; kind == last {
			return nil
		}
	}
}

// rightsOf makes the control message for files. It takes the descriptors by SyscallConn: File.Fd would make them
// blocking, at the receiver too. They stay valid until done is called.
func rightsOf(files []*os.File) (oob []byte, done func(), err error) {
	if len(files) == 0 {
		return nil, func() {}, nil
	}
	dups := make([]int, 0, len(files))
	done = func() {
		for _, fd := range dups {
			unix.Close(fd)
		}
	}
	for _, f := range files {
		rc, err := f.SyscallConn()
		if err == nil {
			var dupErr error
			err = rc.Control(func(fd uintptr) {
				var d int
				if d, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); dupErr == nil {
					dups = append(dups, d)
				}
			})
			err = errors.Join(err, dupErr)
		}
		if err != nil {
			done()
			return nil, nil, fmt.Errorf("plane: sending descriptor %s: %w", f.Name(), err)
		}
	}
	return unix.UnixRights(dups...), done, nil
}

func (p *packetConn) Recv() (msg []byte, files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeFiles(files)
			files = nil
		}
	}()
	for {
		// Go receives with MSG_CMSG_CLOEXEC: no descriptor leaks into a program started meanwhile.
		n, on, flags, _, err := p.c.ReadMsgUnix(p.buf, p.oob)
		if err != nil {
			return nil, files, err
		}
		got, err := filesOf(p.oob[:on])
		files = append(files, got...)
		switch {
		case err != nil:
			return nil, files, err
		case n == 0:
			return nil, files, io.EOF
		case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			return nil, files, errors.New("plane: a message was cut short")
		case len(msg)+n > maxMessage:
			return nil, files, fmt.Errorf("plane: a message is over the limit of %d bytes", maxMessage)
		}
		msg = append(msg, p.buf[1:n]...)
		if p.buf[0] == last {
			return msg, files, nil
		}
	}
}

func filesOf(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	ms, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("plane: reading a control message: %w", err)
	}
	var files []*os.File
	for i := range ms {
		fds, err := unix.ParseUnixRights(&ms[i])
		if err != nil {
			continue // another kind of control message
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received descriptor"))
		}
	}
	return files, nil
}

func (p *packetConn) Close() error { return p.c.Close() }

// peerEnded reports whether err of a Conn only says that one of the two ends is no more. A peer that died with
// messages unread shows as a reset, and to who sends as a broken pipe.
func peerEnded(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
