package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/yamux"
	"github.com/stretchr/testify/require"
)

func TestFrames(t *testing.T) {
	var b []byte
	b = appendFrame(b, frameData, []byte("bytes"))
	b = appendFrame(b, frameEOF, nil)
	b = appendErrno(b, frameReset, syscall.EPIPE)
	r := bufio.NewReader(bytes.NewReader(b))
	f, err := readFrame(r)
	require.NoError(t, err)
	require.Equal(t, frame{frameData, []byte("bytes")}, f)
	f, err = readFrame(r)
	require.NoError(t, err)
	require.Equal(t, frameEOF, f.kind)
	f, err = readFrame(r)
	require.NoError(t, err)
	require.Equal(t, syscall.EPIPE, f.errno())
	_, err = readFrame(r)
	require.ErrorIs(t, err, io.EOF)
	for _, bad := range []string{"\x00\x00\x00\x00\x00", "\x09\x00\x00\x00\x00", "\x02\x00\x01\x00\x01", "\x04\x00\x00\x00\x03abc", "\x08\x00\x00\x00\x04abcd"} {
		_, err := readFrame(bufio.NewReader(bytes.NewReader([]byte(bad))))
		require.ErrorContains(t, err, "none of the protocol", "%q", bad)
	}
}

// TestCloseWithBytesUnderWay: what the peer had not read when it closed makes the close a reset, also when it was still on
// its way.
func TestCloseWithBytesUnderWay(t *testing.T) {
	for got, want := range map[uint64]error{2: io.EOF, 1: syscall.ECONNRESET} {
		mine, theirs := muxes(t)
		stream, err := mine.OpenStream()
		require.NoError(t, err)
		var running sync.WaitGroup
		l := newLine(stream, &running)
		_, err = l.Write([]byte("xy"))
		require.NoError(t, err)
		peer, err := theirs.AcceptStream()
		require.NoError(t, err)
		_, err = peer.Write(appendFrame(nil, frameClose, binary.BigEndian.AppendUint64(nil, got)))
		require.NoError(t, err)
		require.NoError(t, peer.Close())
		_, err = l.Read(make([]byte, 1))
		require.ErrorIs(t, err, want)
		require.Equal(t, want == syscall.ECONNRESET, l.ctx.Err() != nil, "broken")
		_, err = l.Write([]byte("z"))
		require.Error(t, err)
		running.Wait() // both ends are done with it
	}
}

// muxes returns both ends of a session.
func muxes(t *testing.T) (mine, theirs *yamux.Session) {
	in1, out1 := io.Pipe()
	in2, out2 := io.Pipe()
	mine, err := yamux.Client(newDuplex(in1, out2), muxConfig())
	require.NoError(t, err)
	theirs, err = yamux.Server(newDuplex(in2, out1), muxConfig())
	require.NoError(t, err)
	t.Cleanup(func() {
		theirs.Close()
		mine.Close()
	})
	return mine, theirs
}

// FuzzLine: whatever the peer sends, a line neither panics nor hangs, and a read ends.
func FuzzLine(f *testing.F) {
	f.Add(appendFrame(nil, frameData, []byte("hello")))
	f.Add(appendErrno(nil, frameReset, syscall.ECONNRESET))
	f.Add(appendFrame(appendFrame(nil, frameClose, make([]byte, 8)), frameData, []byte("late")))
	f.Add(appendFrame(appendFrame(nil, frameHello, []byte("{}")), frameHello, []byte("{}")))
	f.Add(appendFrame(nil, frameCredit, []byte{0xff, 0xff, 0xff, 0xff}))
	f.Fuzz(func(t *testing.T, b []byte) {
		mine, theirs := muxes(t)
		stream, err := mine.OpenStream()
		require.NoError(t, err)
		var running sync.WaitGroup
		l := newLine(stream, &running)
		peer, err := theirs.AcceptStream()
		require.NoError(t, err)
		_, err = peer.Write(b)
		require.NoError(t, err)
		require.NoError(t, peer.Close())
		_, _ = l.Write([]byte("x"))
		for buf := make([]byte, 100); err == nil; {
			_, err = l.Read(buf)
		}
		_ = l.Close()
		theirs.Close()
		mine.Close()
		running.Wait()
	})
}
