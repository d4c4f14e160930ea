package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// request is the hello of the end that opens a stream. One field is set.
type request struct {
	Dial     *dialRequest `json:"dial,omitempty"`     // of the harness; answered when connected
	Listen   *netip.Addr  `json:"listen,omitempty"`   // of the harness; the listener lives as long as the stream
	Accepted *accepted    `json:"accepted,omitempty"` // of the agent; answered when somebody takes the connection
}

type dialRequest struct {
	Network string         `json:"network"` // tcp | udp
	To      netip.AddrPort `json:"to"`
}

type accepted struct {
	Listener uint32         `json:"listener"` // the number of the listener's stream
	Local    netip.AddrPort `json:"local"`
	Remote   netip.AddrPort `json:"remote"`
}

// answer is the hello of the other end.
type answer struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Err    *failure       `json:"err,omitempty"`
}

// failure is an error on the wire: what callers match survives.
type failure struct {
	Call    string        `json:"call,omitempty"` // of the system
	Errno   syscall.Errno `json:"errno,omitempty"`
	Timeout bool          `json:"timeout,omitempty"`
	Text    string        `json:"text"`
}

func failureOf(err error) *failure {
	f := &failure{Text: err.Error(), Timeout: errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		f.Call = sys.Syscall
	}
	errors.As(err, &f.Errno)
	return f
}

// error is what a call on this side would have returned, without the *net.OpError around it.
func (f *failure) error() error {
	switch {
	case f.Errno != 0 && f.Call != "":
		return os.NewSyscallError(f.Call, f.Errno)
	case f.Errno != 0:
		return f.Errno
	case f.Timeout:
		return os.ErrDeadlineExceeded
	}
	return errors.New(f.Text)
}

// addrOf is an address as package net has them.
func addrOf(network string, a netip.AddrPort) net.Addr {
	if network == "udp" {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

// addrPortOf is its inverse.
func addrPortOf(a net.Addr) netip.AddrPort {
	if p, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		p := p.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
