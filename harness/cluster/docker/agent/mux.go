package agent

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net"

	"github.com/hashicorp/yamux"
)

// controlStream is the number of the stream that carries calls: the first that the harness opens.
const controlStream = 1

// muxConfig is for both ends. Nothing here is decided by time: an agent may be slow on a busy machine, and a harness
// that is stopped in a debugger goes on where it was. By default yamux ends the session when a ping or a write takes
// 10 s, when a stream is not accepted for 75, and a stream that one end has closed after 5 minutes; and it logs to the
// standard error.
func muxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = math.MaxInt64
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = 0
	c.MaxStreamWindowSize = 2 * window
	c.LogOutput = io.Discard
	return c
}

// duplex is two standard streams as one connection.
type duplex struct {
	in  *bufio.Reader // with fewer reads than yamux's own buffer of 4 KB
	out io.WriteCloser
	end func() error // makes a read under way return
}

// newDuplex joins two streams. yamux waits for its last Read when it closes: Close must end it, by in's own Close where
// it has one; else closing out has to.
func newDuplex(in io.Reader, out io.WriteCloser) *duplex {
	d := &duplex{in: bufio.NewReaderSize(in, 64<<10), out: out, end: func() error { return nil }}
	if c, ok := in.(io.Closer); ok {
		d.end = c.Close
	}
	return d
}

func (d *duplex) Read(b []byte) (int, error)  { return d.in.Read(b) }
func (d *duplex) Write(b []byte) (int, error) { return d.out.Write(b) }
func (d *duplex) Close() error                { return errors.Join(d.out.Close(), d.end()) }

// callStream is the stream of calls. What yamux says of a session that has ended is said in the words that package
// plane knows. (Its Read says io.EOF.)
type callStream struct{ *yamux.Stream }

func (c callStream) Write(b []byte) (int, error) {
	n, err := c.Stream.Write(b)
	if errors.Is(err, yamux.ErrSessionShutdown) || errors.Is(err, yamux.ErrStreamClosed) || errors.Is(err, yamux.ErrConnectionReset) {
		err = net.ErrClosed
	}
	return n, err
}
