package agent

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"context"

	"github.com/stretchr/testify/require"
)

// BenchmarkDial is a connection made and closed.
func BenchmarkDial(b *testing.B) {
	s, _ := newSession(b)
	to := service(b, func(*net.TCPConn) {})
	for b.Loop() {
		c, err := s.Dial(context.Background(), "tcp", to)
		require.NoError(b, err)
		c.Close()
	}
}

// BenchmarkRoundTrip is 256 bytes there and back.
func BenchmarkRoundTrip(b *testing.B) {
	s, _ := newSession(b)
	to := service(b, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	c := dial(b, s, "tcp", to)
	require.NoError(b, c.SetDeadline(time.Time{}))
	buf := make([]byte, 256)
	for b.Loop() {
		roundTrip(b, c, buf)
	}
}

func roundTrip(b *testing.B, c net.Conn, buf []byte) {
	_, err := c.Write(buf)
	require.NoError(b, err)
	_, err = io.ReadFull(c, buf)
	require.NoError(b, err)
}

// BenchmarkUpload and BenchmarkDownload are one connection with all that the session carries.
func BenchmarkUpload(b *testing.B) {
	s, _ := newSession(b)
	c := dial(b, s, "tcp", service(b, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
	require.NoError(b, c.SetDeadline(time.Time{}))
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		_, err := c.Write(buf)
		require.NoError(b, err)
	}
}

func BenchmarkDownload(b *testing.B) {
	s, _ := newSession(b)
	c := dial(b, s, "tcp", sourceOf(b))
	require.NoError(b, c.SetDeadline(time.Time{}))
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		_, err := io.ReadFull(c, buf)
		require.NoError(b, err)
	}
}

// BenchmarkCallBesideBulk is a call while a connection loads the session.
func BenchmarkCallBesideBulk(b *testing.B) {
	s, _ := newSession(b)
	c := dial(b, s, "tcp", sourceOf(b))
	require.NoError(b, c.SetDeadline(time.Time{}))
	go io.Copy(io.Discard, c)
	for b.Loop() {
		_, err := s.LiveSockets(context.Background(), loopback, nil)
		require.NoError(b, err)
	}
	c.Close()
}

// sourceOf is a service that sends without end.
func sourceOf(b *testing.B) netip.AddrPort {
	return service(b, func(c *net.TCPConn) {
		_ = c.SetDeadline(time.Time{})
		_, _ = io.Copy(c, zeros{})
	})
}
