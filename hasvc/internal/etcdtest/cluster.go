// Package etcdtest starts real etcd members for tests, on loopback.
package etcdtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/etcdbin"
)

// startWithin bounds the start of a member on a busy machine.
const startWithin = 30 * time.Second

// Cluster is a set of members that lives as long as its test.
type Cluster struct {
	Members []*Member
	t       testing.TB
}

// Member is one etcd process.
type Member struct {
	URL  string // for clients
	peer string
	dir  string
	env  []string
	t    testing.TB
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
}

// Start starts n members and waits until every one answers a linearizable read.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	bin, err := etcdbin.Path()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t}
	var initial []string
	// An address of its own for each cluster: the port of a member that was killed must not become another test's.
	ip := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254))).String()
	addrs := freeAddrs(t, ip, 2*n)
	for i := range n {
		m := &Member{URL: "http://" + addrs[2*i], peer: "http://" + addrs[2*i+1], t: t, dir: filepath.Join(t.TempDir(), fmt.Sprint(i))}
		initial = append(initial, fmt.Sprintf("m%d=%s", i, m.peer))
		c.Members = append(c.Members, m)
	}
	for i, m := range c.Members {
		m.env = append(os.Environ(),
			fmt.Sprintf("ETCD_NAME=m%d", i), "ETCD_DATA_DIR="+m.dir, "ETCD_INITIAL_CLUSTER="+strings.Join(initial, ","),
			"ETCD_LISTEN_CLIENT_URLS="+m.URL, "ETCD_ADVERTISE_CLIENT_URLS="+m.URL,
			"ETCD_LISTEN_PEER_URLS="+m.peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS="+m.peer,
			"ETCD_HEARTBEAT_INTERVAL=50", "ETCD_ELECTION_TIMEOUT=500", "ETCD_LOG_LEVEL=warn", "ETCD_UNSAFE_NO_FSYNC=true")
		m.start(bin)
	}
	for _, m := range c.Members {
		m.Wait()
	}
	return c
}

// URLs of all members.
func (c *Cluster) URLs() []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.URL)
	}
	return out
}

// Client returns a client of all members, closed with the test.
func (c *Cluster) Client() *clientv3.Client {
	c.t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.URLs(), Logger: zap.NewNop()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cl.Close() })
	return cl
}

// Leader returns the member that leads.
func (c *Cluster) Leader() *Member {
	c.t.Helper()
	cl := c.Client()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for ctx.Err() == nil {
		for _, m := range c.Members {
			if st, err := cl.Status(ctx, m.URL); err == nil && st.Leader != 0 && st.Leader == st.Header.MemberId {
				return m
			}
		}
	}
	c.t.Fatal("no member of etcd leads")
	return nil
}

func (m *Member) start(bin string) {
	m.t.Helper()
	m.log, m.done = &bytes.Buffer{}, make(chan struct{})
	m.cmd = exec.Command(bin)
	m.cmd.Env, m.cmd.Stdout, m.cmd.Stderr = m.env, m.log, m.log
	// Not left behind when the test binary is killed.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	cmd, done := m.cmd, m.done
	go func() {
		defer close(done)
		_ = cmd.Wait() // it is killed in the end
	}()
	m.t.Cleanup(m.Kill)
}

// Kill ends the member with SIGKILL.
func (m *Member) Kill() {
	_ = m.cmd.Process.Kill() // it may have ended
	<-m.done
}

// Wait returns when the member answers a linearizable read.
func (m *Member) Wait() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+"/health", nil)
		if err != nil {
			m.t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-m.done:
			m.t.Fatalf("etcd ended:\n%s", m.log)
		case <-ctx.Done():
			m.t.Fatal("etcd did not get ready")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// freeAddrs returns n addresses with different ports: each is held until all are there, for a port that is let go may be the next one's.
func freeAddrs(t testing.TB, ip string, n int) (addrs []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}
