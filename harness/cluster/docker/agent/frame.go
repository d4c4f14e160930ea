package agent

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"syscall"
)

// A stream that carries a connection is a sequence of frames: kind (1 byte), length of the payload (4 bytes in network
// order), payload.
type frameKind byte

const (
	frameHello  frameKind = iota + 1 // JSON: of the end that opened the stream a request, of the other the answer
	frameData                        // bytes of a stream, or one datagram
	frameEOF                         // the sender writes no more
	frameCredit                      // uint32: the sender has taken frames of so many bytes in all, headers included
	frameError                       // errno: the next call of the receiver fails with it; of datagrams
	frameRefuse                      // errno: the sender takes no more data, and writes to it fail
	frameReset                       // errno: the connection is broken. The last frame of its sender
	frameClose                       // uint64: the sender has closed, having read so many bytes in all. Its last frame
)

const (
	frameHeader = 5
	// window is how much of one direction may be under way unread: what a connection whose reader sleeps costs this
	// process at most.
	window = 512 << 10
	// maxChunk is how much of a stream's bytes one frame holds: no connection keeps the others waiting for longer.
	maxChunk = 32 << 10
	// maxDatagram is UDP's over IPv4.
	maxDatagram = 65507
	// maxFrame bounds what a broken peer can make this side keep.
	maxFrame = 64 << 10
)

func appendFrame(b []byte, k frameKind, payload []byte) []byte {
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

func appendErrno(b []byte, k frameKind, e syscall.Errno) []byte {
	return appendFrame(b, k, binary.BigEndian.AppendUint32(nil, uint32(e)))
}

// frame is one that was received.
type frame struct {
	kind    frameKind
	payload []byte
}

func readFrame(r *bufio.Reader) (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: frameKind(head[0])}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame || !f.kind.fits(size) {
		return frame{}, fmt.Errorf("agent: a frame of kind %d with %d bytes is none of the protocol", f.kind, size)
	}
	f.payload = make([]byte, size)
	if _, err := io.ReadFull(r, f.payload); err != nil {
		return frame{}, err
	}
	return f, nil
}

// fits reports whether a frame of this kind may have a payload of so many bytes.
func (k frameKind) fits(size uint32) bool {
	switch k {
	case frameHello, frameData:
		return true
	case frameEOF:
		return size == 0
	case frameCredit, frameError, frameRefuse, frameReset:
		return size == 4
	case frameClose:
		return size == 8
	}
	return false
}

func (f frame) errno() syscall.Errno {
	if e := f.uint32(); e != 0 {
		return syscall.Errno(e)
	}
	return syscall.ECONNRESET // an error it is
}

func (f frame) uint32() uint32 { return binary.BigEndian.Uint32(f.payload) }
func (f frame) uint64() uint64 { return binary.BigEndian.Uint64(f.payload) }
