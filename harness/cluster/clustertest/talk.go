package clustertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// patience bounds what should come at once, on a busy machine.
const patience = 3 * time.Second

// talk is a connection to a probe's line protocol.
type talk struct {
	net.Conn
	r *bufio.Reader
}

func newTalk(c net.Conn) *talk { return &talk{c, bufio.NewReader(c)} }

// dial connects from a node to a probe.
func (top *topology) dial(t *testing.T, ctx context.Context, from, address string) *talk {
	t.Helper()
	c, err := top.Dial(ctx, from, "tcp", address)
	require.NoError(t, err, "dial %s from %s", address, from)
	t.Cleanup(func() { c.Close() })
	return newTalk(c)
}

// refuses dials and returns the error that must come.
func (top *topology) refuses(t *testing.T, ctx context.Context, within time.Duration, from, address string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c, err := top.Dial(ctx, from, "tcp", address)
	if err == nil {
		c.Close()
	}
	require.Error(t, err, "dial %s from %s", address, from)
	return err
}

// ask sends a line and waits for the answer.
func (k *talk) ask(line string, within time.Duration) (string, time.Duration, error) {
	begin := time.Now()
	if err := k.SetDeadline(begin.Add(within)); err != nil {
		return "", 0, err
	}
	if _, err := fmt.Fprintln(k, line); err != nil {
		return "", time.Since(begin), err
	}
	s, err := k.r.ReadString('\n')
	return strings.TrimSuffix(s, "\n"), time.Since(begin), err
}

// alive asks for an echo and returns how long it took.
func (k *talk) alive(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	s, took, err := k.ask("echo hello", within)
	require.NoError(t, err, "echo from %v to %v", k.LocalAddr(), k.RemoteAddr())
	require.Equal(t, "hello", s)
	return took
}

// fastest is the shortest of several echoes: what the machine's other work delays is not the link's.
func (k *talk) fastest(t *testing.T, n int) time.Duration {
	t.Helper()
	best := k.alive(t, patience)
	for range n - 1 {
		best = min(best, k.alive(t, patience))
	}
	return best
}

// silent sends a line to which no answer may come in the time given; the answer may come later.
func (k *talk) silent(t *testing.T, line string, during time.Duration) {
	t.Helper()
	s, _, err := k.ask(line, during)
	require.True(t, timedOut(err), "wanted silence from %v to %v, got %q, %v", k.LocalAddr(), k.RemoteAddr(), s, err)
}

// hears waits for an answer that is still due.
func (k *talk) hears(t *testing.T, want string, within time.Duration) {
	t.Helper()
	require.NoError(t, k.SetDeadline(time.Now().Add(within)))
	s, err := k.r.ReadString('\n')
	require.NoError(t, err, "the answer that was held back")
	require.Equal(t, want+"\n", s)
}

// wasReset waits for the connection's end, which must be a reset.
func (k *talk) wasReset(within time.Duration) error {
	if err := k.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, k.r)
	if !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%v to %v ended with %v, not with a reset", k.LocalAddr(), k.RemoteAddr(), err)
	}
	return nil
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

// datagram sends one and waits for the answer.
func datagram(c net.Conn, text string, within time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := c.Write([]byte(text)); err != nil {
		return "", err
	}
	b := make([]byte, 65536)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// exec runs the probe in a node and returns what it printed and how it ended.
func (top *topology) exec(t *testing.T, ctx context.Context, node string, args ...string) (string, cluster.Exit) {
	t.Helper()
	return top.execArgv(t, ctx, node, append([]string{probeName}, args...)...)
}

func (top *topology) execArgv(t *testing.T, ctx context.Context, node string, argv ...string) (string, cluster.Exit) {
	t.Helper()
	var out, errs buffer
	e, err := top.Exec(ctx, node, cluster.Process{Argv: argv, Stdout: &out, Stderr: &errs})
	require.NoError(t, err, "exec %q in %s", argv, node)
	exit, err := e.Wait()
	require.NoError(t, err, "exec %q in %s: %s", argv, node, errs.String())
	if errs.String() != "" {
		t.Logf("%q in %s said: %s", argv, node, errs.String())
	}
	return out.String(), exit
}

// inside runs a verb of the probe in a node and decodes its answer.
func inside[T any](t *testing.T, ctx context.Context, top *topology, node string, args ...string) T {
	t.Helper()
	out, exit := top.exec(t, ctx, node, args...)
	require.Zero(t, exit.Code, "%q in %s ended with %+v", args, node, exit)
	var v T
	require.NoError(t, json.Unmarshal([]byte(out), &v), "answer of %q in %s: %q", args, node, out)
	return v
}

// get asks a probe by HTTP from the plane, past every rule.
func (top *topology) get(ctx context.Context, node, path string) ([]byte, error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: top.DialPlane}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node+":8080"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s of %s: %s", path, node, res.Status)
	}
	return b, err
}

func (top *topology) mustGet(t *testing.T, ctx context.Context, node, path string) {
	t.Helper()
	_, err := top.get(ctx, node, path)
	require.NoError(t, err, "GET %s of %s", path, node)
}

// decode asks a probe by HTTP and decodes its answer.
func decode[T any](t *testing.T, ctx context.Context, top *topology, node, path string) T {
	t.Helper()
	b, err := top.get(ctx, node, path)
	require.NoError(t, err, "GET %s of %s", path, node)
	var v T
	require.NoError(t, json.Unmarshal(b, &v))
	return v
}

// The answers of the probe, as probe/ prints them.
type (
	stats struct {
		Open, Resets, Ends, Datagrams, Received int64
		Since                                   time.Time
	}
	selfInfo struct {
		Uid, Gid, Pid       int
		Hostname, Cwd, Caps string
		Env                 map[string]string
	}
	process struct {
		Pid         int
		State, Args string
	}
	resolved struct {
		Name     string
		Addrs    []string
		Error    string
		NotFound bool
		Took     time.Duration
	}
	dialed struct {
		Answer, Local, Remote, Error, Errno string
		Timeout                             bool
		Took                                time.Duration
	}
	file struct {
		Content      string
		Mode, Uid    uint32
		Error, Errno string
	}
	attempt struct {
		Name      string
		Succeeded bool
		Detail    string
	}
)

// addr is the address of a node.
func (top *topology) addr(t *testing.T, node string) netip.Addr {
	t.Helper()
	return top.info(t, node).Addr
}

func (top *topology) info(t *testing.T, node string) cluster.NodeInfo {
	t.Helper()
	for _, n := range top.Nodes() {
		if n.Name == node {
			return n
		}
	}
	require.FailNow(t, "no node "+node)
	return cluster.NodeInfo{}
}

// log returns what a node's programs printed so far.
func (top *topology) log(t *testing.T, node string) string {
	t.Helper()
	f, err := os.Open(top.info(t, node).Log)
	require.NoError(t, err, "log of %s", node)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err, "log of %s", node)
	// Not to its end: a program that writes faster than this reads has none.
	b, err := io.ReadAll(io.LimitReader(f, st.Size()))
	require.NoError(t, err, "log of %s", node)
	return string(b)
}

// logged waits until a node's log has a text n times.
func (top *topology) logged(t *testing.T, ctx context.Context, node, text string, n int) {
	t.Helper()
	poll(t, ctx, patience, "log of "+node, func() error {
		if got := strings.Count(top.log(t, node), text); got < n {
			return fmt.Errorf("%q is there %d times, wanted %d", text, got, n)
		}
		return nil
	})
}

// state waits until a node's program is in a state.
func (top *topology) state(t *testing.T, ctx context.Context, node string, want cluster.State) cluster.Status {
	t.Helper()
	var st cluster.Status
	poll(t, ctx, patience, node+" becomes "+string(want), func() error {
		var err error
		if st, err = top.Status(node); err != nil {
			return err
		}
		if st.State != want {
			return fmt.Errorf("it is %s", st.State)
		}
		return nil
	})
	return st
}
