package plane

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// streamConn is a Conn over a stream of bytes. A message is its length, 4 bytes in network order, and its bytes.
type streamConn struct {
	rwc  io.ReadWriteCloser
	in   *bufio.Reader
	send sync.Mutex // keeps the bytes of a message together
}

// NewStreamConn returns a Conn over a stream of bytes, for a plane that is not on this machine. It carries no files:
// Send refuses them. Closing it closes rwc, which must end a Read and a Write under way.
func NewStreamConn(rwc io.ReadWriteCloser) Conn {
	return &streamConn{rwc: rwc, in: bufio.NewReader(rwc)}
}

func (s *streamConn) Send(msg []byte, files []*os.File) error {
	if len(files) > 0 {
		return fmt.Errorf("plane: %d descriptors cannot be sent over a stream of bytes", len(files))
	}
	if len(msg) > maxMessage {
		return fmt.Errorf("plane: a message of %d bytes is over the limit of %d", len(msg), maxMessage)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(msg)), uint32(len(msg)))
	s.send.Lock()
	defer s.send.Unlock()
	_, err := s.rwc.Write(append(b, msg...))
	return err
}

func (s *streamConn) Recv() ([]byte, []*os.File, error) {
	var head [4]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return nil, nil, cutShort(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return nil, nil, fmt.Errorf("plane: a message of %d bytes is over the limit of %d, or the peer does not speak the protocol", size, maxMessage)
	}
	// The buffer grows with what comes: a length alone makes this side keep nothing.
	var msg bytes.Buffer
	switch n, err := io.CopyN(&msg, s.in, int64(size)); {
	case err == io.EOF && n < int64(size):
		return nil, nil, cutShort(io.ErrUnexpectedEOF)
	case err != nil:
		return nil, nil, err
	}
	return msg.Bytes(), nil, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("plane: the connection ended within a message")
	}
	return err
}

func (s *streamConn) Close() error { return s.rwc.Close() }
