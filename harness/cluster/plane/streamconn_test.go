package plane

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// overStream returns a client and a server that serves, over a stream of bytes.
func overStream(t *testing.T, hs map[string]Handler) (*Client, net.Conn, <-chan error) {
	mine, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- NewServer(NewStreamConn(theirs), hs).Serve(context.Background()) }()
	c := NewClient(NewStreamConn(mine), nil)
	t.Cleanup(func() {
		c.Close()
		goleak.VerifyNone(t)
	})
	return c, theirs, served
}

func TestMessagesOverAStream(t *testing.T) {
	c, _, _ := overStream(t, map[string]Handler{
		"echo": Method(func(_ context.Context, s string) (any, error) { return s, nil }),
	})
	for _, n := range []int{0, 1, 4095, 4096, 5 << 20} {
		in := strings.Repeat("x", n)
		var calls sync.WaitGroup
		for range 3 { // beside one another: their bytes must not mix
			calls.Go(func() {
				var out string
				_, err := c.Call(context.Background(), "echo", in, &out)
				if err != nil || out != in {
					t.Errorf("%d bytes came back as %d: %v", n, len(out), err)
				}
			})
		}
		calls.Wait()
	}
	_, err := c.Call(context.Background(), "echo", strings.Repeat("x", maxMessage), nil)
	require.ErrorContains(t, err, "over the limit")
	_, err = c.Call(context.Background(), "echo", "", nil)
	require.NoError(t, err, "the connection has outlived it")
}

func TestAStreamCarriesNoFiles(t *testing.T) {
	c, _, _ := overStream(t, map[string]Handler{
		"give": func(context.Context, json.RawMessage, []*os.File) (any, []*os.File, error) {
			f, err := os.Open(os.DevNull)
			return nil, []*os.File{f}, err
		},
	})
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	_, err = c.Call(context.Background(), "give", nil, nil, f)
	require.ErrorContains(t, err, "1 descriptors cannot be sent")
	_, err = c.Call(context.Background(), "give", nil, nil)
	require.ErrorContains(t, err, "could not be sent", "nor do they come back")
}

func TestTheEndOfAStream(t *testing.T) {
	c, theirs, served := overStream(t, nil)
	require.NoError(t, theirs.Close())
	<-c.Done()
	require.ErrorIs(t, c.Err(), ErrGone)
	_, err := c.Call(context.Background(), "any", nil, nil)
	require.ErrorIs(t, err, ErrGone)
	<-served
}

// received is what a Conn makes of the bytes of its peer.
func received(b []byte) (msgs [][]byte, err error) {
	mine, theirs := net.Pipe()
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = theirs.Write(b)
		theirs.Close()
	})
	defer writing.Wait()
	defer mine.Close()
	for c := NewStreamConn(mine); ; {
		msg, files, err := c.Recv()
		if err != nil {
			return msgs, err
		}
		closeFiles(files)
		msgs = append(msgs, msg)
	}
}

func TestNonsenseOnAStream(t *testing.T) {
	msgs, err := received([]byte("\x00\x00\x00\x02ab\x00\x00\x00\x00"))
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, []string{"ab", ""}, []string{string(msgs[0]), string(msgs[1])})
	_, err = received([]byte("\x00\x00"))
	require.ErrorContains(t, err, "ended within a message")
	_, err = received([]byte("\x00\x00\x00\x05ab"))
	require.ErrorContains(t, err, "ended within a message")
	_, err = received([]byte("HTTP/1.1 400 Bad Request"))
	require.ErrorContains(t, err, "does not speak the protocol")
}

// FuzzStreamConn: whatever the peer sends, this side neither panics nor keeps more than was sent, and what is a message
// comes out as one.
func FuzzStreamConn(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02ab"))
	f.Add([]byte("\x00\xff\xff\xffab"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		msgs, err := received(b)
		require.Error(t, err)
		var again []byte
		for _, m := range msgs {
			again = append(binary.BigEndian.AppendUint32(again, uint32(len(m))), m...)
		}
		require.True(t, strings.HasPrefix(string(b), string(again)))
	})
}
