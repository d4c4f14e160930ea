package faults

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// struck is a probe's connection as a toxic leaves it.
type struck struct {
	net.Conn
	read func(c net.Conn, b []byte) (int, error)
}

func (s *struck) Read(b []byte) (int, error) { return s.read(s.Conn, b) }
func (s *struck) CloseWrite() error          { return s.Conn.(*net.TCPConn).CloseWrite() }

// strike makes a wrap of a function that has each connection's number of bytes read so far.
func strike(read func(c net.Conn, b []byte, before int) (int, error)) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn {
		before := 0
		return &struck{c, func(c net.Conn, b []byte) (n int, err error) {
			n, err = read(c, b, before)
			before += n
			return n, err
		}}
	}
}

func late(d time.Duration) func(net.Conn) net.Conn {
	return strike(func(c net.Conn, b []byte, before int) (int, error) {
		if before == 0 {
			time.Sleep(d) // what the toxic takes
		}
		return c.Read(b)
	})
}

func fails(d time.Duration, err error) func(net.Conn) net.Conn {
	return strike(func(net.Conn, []byte, int) (int, error) {
		time.Sleep(d) // what the toxic takes
		return 0, err
	})
}

var toxicsAndEffects = []struct {
	kind, params, says string
	effect             func(net.Conn) net.Conn
}{
	{"bandwidth", `{"from":"a","to":"b","rate":100}`, "at 100 KB/s they take 200ms", late(210 * time.Millisecond)},
	{"bandwidth", `{"from":"a","to":"b","rate":100,"stream":"upstream"}`, "at 100 KB/s they take 200ms", late(210 * time.Millisecond)},
	{"slow_close", `{"from":"a","to":"b","delay":"50ms"}`, "50ms was asked for", strike(func(c net.Conn, b []byte, before int) (int, error) {
		n, err := c.Read(b)
		if err == io.EOF {
			time.Sleep(60 * time.Millisecond)
		}
		return n, err
	})},
	{"timeout", `{"from":"a","to":"b"}`, "got no answer within", fails(0, os.ErrDeadlineExceeded)},
	{"timeout", `{"from":"a","to":"b","timeout":"50ms"}`, "closed after", fails(60*time.Millisecond, io.EOF)},
	{"reset_peer", `{"from":"a","to":"b"}`, "were reset after", fails(0, syscall.ECONNRESET)},
	{"reset_peer", `{"from":"a","to":"b","timeout":"50ms"}`, "50ms was asked for", fails(60*time.Millisecond, syscall.ECONNRESET)},
	{"slicer", `{"from":"a","to":"b","average_size":100,"delay":"10ms"}`, "401 bytes were cut into pieces", late(50 * time.Millisecond)},
	{"limit_data", `{"from":"a","to":"b","bytes":10}`, "with 11 bytes were cut off", strike(func(c net.Conn, b []byte, before int) (int, error) {
		if before == 10 {
			return 0, io.EOF
		}
		return c.Read(b[:min(len(b), 10-before)])
	})},
	{"limit_data", `{"from":"a","to":"b","bytes":10,"stream":"upstream"}`, "with 11 bytes were cut off", fails(0, io.EOF)},
}

func TestAToxicIsProvedByWhatItDoes(t *testing.T) {
	ab := cluster.Link{From: "a", To: "b"}
	for _, c := range toxicsAndEffects {
		t.Run(c.kind+" "+c.params, func(t *testing.T) {
			t.Parallel()
			f := newLinks()
			f.probed[ab] = 3
			e, undo, err := inject(t.Context(), f, params(t, c.kind, c.params))
			require.NoError(t, err)
			_, err = e.Prove(t.Context())
			require.ErrorIs(t, err, ErrNotYet, "a link on which nothing happens")
			f.wrap = c.effect
			f.probed[ab] = 0
			_, err = e.Prove(t.Context())
			require.ErrorIs(t, err, ErrNotYet)
			require.ErrorContains(t, err, "did not count the probe", "something else did it")
			f.probed[ab] = 3
			said, err := e.Prove(t.Context())
			require.NoError(t, err)
			assert.Contains(t, said, c.says)
			_, err = e.Bitten(t.Context())
			require.ErrorIs(t, err, ErrNotYet, "the probe was all that there was")
			f.counted[ab] = 5
			_, err = e.Bitten(t.Context())
			require.NoError(t, err)
			require.NoError(t, undo(t.Context()))
			gone := e.Healed(e.Links)
			_, err = gone(t.Context())
			require.ErrorIs(t, err, ErrNotYet, "it is still there")
			f.wrap = nil
			_, err = gone(t.Context())
			require.NoError(t, err)
		})
	}
}

func TestAToxicThatIsEarlyOrOtherwiseIsNotProved(t *testing.T) {
	for _, c := range []struct {
		kind, params, says string
		effect             func(net.Conn) net.Conn
	}{
		{"timeout", `{"from":"a","to":"b","timeout":"500ms"}`, "500ms was asked for", fails(0, io.EOF)},
		{"reset_peer", `{"from":"a","to":"b","timeout":"500ms"}`, "500ms was asked for", fails(0, syscall.ECONNRESET)},
		{"reset_peer", `{"from":"a","to":"b"}`, "was not reset", fails(0, io.EOF)},
		{"limit_data", `{"from":"a","to":"b","bytes":10}`, "0 bytes came, and 10 were let pass", fails(0, io.EOF)},
		{"bandwidth", `{"from":"a","to":"b","rate":100}`, "not 200ms or more", late(20 * time.Millisecond)},
		{"slicer", `{"from":"a","to":"b","average_size":100,"delay":"10ms"}`, "not 40ms or more", late(time.Millisecond)},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			f := newLinks()
			f.probed[cluster.Link{From: "a", To: "b"}] = 3
			f.wrap = c.effect
			e, _, err := inject(t.Context(), f, params(t, c.kind, c.params))
			require.NoError(t, err)
			_, err = e.Prove(t.Context())
			require.ErrorIs(t, err, ErrNotYet)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestATimeoutIsNotTakenForALinkThatIsCut(t *testing.T) {
	f := newLinks()
	f.probed[cluster.Link{From: "a", To: "b"}] = 3
	f.dial = func(context.Context, cluster.Link) error { return context.DeadlineExceeded }
	e, _, err := inject(t.Context(), f, params(t, "timeout", `{"from":"a","to":"b"}`))
	require.NoError(t, err)
	_, err = e.Prove(t.Context())
	require.ErrorContains(t, err, "not even accepted")
}

func TestAToxicThatIsDrawnIsProvedByWhatItStruck(t *testing.T) {
	ab := cluster.Link{From: "a", To: "b"}
	for _, p := range []string{`{"from":"a","to":"b","bytes":10,"toxicity":"50%"}`, `{"from":"a","to":"b","bytes":100000000}`} {
		f := newLinks()
		e, _, err := inject(t.Context(), f, params(t, "limit_data", p))
		require.NoError(t, err)
		_, err = e.Prove(t.Context())
		require.NoError(t, err)
		_, err = e.Bitten(t.Context())
		require.ErrorIs(t, err, ErrNotYet)
		f.counted[ab] = 1
		said, err := e.Bitten(t.Context())
		require.NoError(t, err)
		assert.Contains(t, said, "1 connections cut off")
	}
}
