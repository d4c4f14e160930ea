package agent

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is a relayed connection as a net.Conn, with the errors of package net.
type conn struct {
	line          *line
	network       string
	local, remote net.Addr
}

// tcpConn is one of TCP. It has what programs ask of a *net.TCPConn beyond net.Conn.
type tcpConn struct{ conn }

// udpConn is one of UDP. It is a net.PacketConn too, by which programs (resolvers, for instance) know that it carries
// datagrams.
type udpConn struct{ conn }

func newConn(l *line, network string, local, remote net.Addr) net.Conn {
	c := conn{l, network, local, remote}
	if network == "udp" {
		return &udpConn{c}
	}
	return &tcpConn{c}
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.line.Read(b)
	return n, c.errorOf("read", err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.line.Write(b)
	return n, c.errorOf("write", err)
}

func (c *conn) Close() error { return c.errorOf("close", c.line.Close()) }

func (c *conn) SetDeadline(t time.Time) error {
	return c.errorOf("set", c.line.setDeadlines(t, &c.line.readDeadline, &c.line.writeDeadline))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.errorOf("set", c.line.setDeadlines(t, &c.line.readDeadline))
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.errorOf("set", c.line.setDeadlines(t, &c.line.writeDeadline))
}

func (c *conn) errorOf(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.local, Addr: c.remote, Err: err}
}

// CloseWrite is that of *net.TCPConn.
func (c *tcpConn) CloseWrite() error { return c.errorOf("close", c.line.CloseWrite()) }

// SetLinger is that of *net.TCPConn; 0 has Close reset the connection. Other values are as good as none: a close never
// waits.
func (c *tcpConn) SetLinger(sec int) error {
	c.line.setLinger(sec != 0)
	return nil
}

// ReadFrom implements net.PacketConn.
func (c *udpConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.remote, err
}

// WriteTo implements net.PacketConn. It fails as that of a *net.UDPConn that was dialled.
func (c *udpConn) WriteTo([]byte, net.Addr) (int, error) {
	return 0, c.errorOf("write", net.ErrWriteToConnected)
}
