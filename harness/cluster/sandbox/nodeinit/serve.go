package nodeinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// server is the init at work.
type server struct {
	fd   int
	send sync.Mutex // one message at a time

	children *children
	spawner  *spawner
}

// serve carries out requests until the harness or the plane closes the connection, one after the other in the order in
// which they came: who does not wait for a start any more kills what it has started. Returning ends the process, and with
// it every process of the node: the kernel does that when process 1 of a PID namespace ends.
func serve(fd int) {
	// The program shares the kernel's user id with the init where the harness is an ordinary user, so it may signal
	// process 1. A handler that does nothing is not inherited by programs, as SIG_IGN would be.
	discard := make(chan os.Signal, 1)
	signal.Notify(discard)

	s := &server{fd: fd}
	s.children = newChildren(func(e Exit) { s.reply(Reply{Exit: &e}) })
	s.spawner = newSpawner(s.children)
	before := make(chan struct{}) // closed when the request before was carried out
	close(before)
	for {
		req, fds, err := s.receive()
		if err != nil {
			return
		}
		done := make(chan struct{})
		go func(before <-chan struct{}) {
			defer close(done)
			<-before
			s.handle(req, fds)
		}(before)
		before = done
	}
}

func (s *server) handle(req Request, fds []int) {
	defer closeAll(fds)
	rep := Reply{}
	var err error
	switch {
	case req.Op == OpSetup && req.Setup != nil:
		err = s.setup(req.Setup, fds)
	case req.Op == OpStart && req.Start != nil:
		rep.Pid, rep.At, err = s.spawner.start(req.Start, fds)
	case req.Op == OpSignal && req.Signal != nil:
		rep.Count, rep.Program, err = s.children.signal(req.Signal)
	case req.Op == OpKill:
		err = s.children.killAll()
	case req.Op == OpPause:
		err = s.children.pause()
	case req.Op == OpResume:
		err = s.children.resume()
	default:
		err = fmt.Errorf("unknown request %q", req.Op)
	}
	rep.ID = req.ID
	if err != nil {
		rep.Error = err.Error()
		errors.As(err, &rep.Errno)
	}
	s.reply(rep)
}

func (s *server) setup(c *Setup, fds []int) error {
	if err := buildRoot(c); err != nil {
		return err
	}
	if c.Cgroups == 0 {
		return nil
	}
	return s.spawner.join(c.Cgroups, fds)
}

func (s *server) reply(r Reply) {
	header, body, err := EncodeFrame(r, 0)
	if err != nil {
		return
	}
	s.send.Lock()
	defer s.send.Unlock()
	b := append(header, body...)
	for len(b) > 0 {
		n, err := unix.Write(s.fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return // the harness is gone; the next receive ends the process
		}
		b = b[n:]
	}
}

func (s *server) receive() (req Request, fds []int, err error) {
	header := make([]byte, headerSize)
	oob := make([]byte, unix.CmsgSpace(4*MaxDescriptors))
	n, on, _, _, err := recvmsg(s.fd, header, oob)
	if err != nil {
		return req, nil, err
	}
	size, nfds, err := DecodeHeader(header[:n])
	if err != nil {
		return req, nil, err
	}
	if on > 0 {
		msgs, err := unix.ParseSocketControlMessage(oob[:on])
		if err != nil {
			return req, nil, err
		}
		for i := range msgs {
			got, err := unix.ParseUnixRights(&msgs[i])
			if err != nil {
				return req, nil, err
			}
			fds = append(fds, got...)
		}
	}
	if len(fds) != nfds {
		return req, nil, fmt.Errorf("%d descriptors announced, %d received", nfds, len(fds))
	}
	body := make([]byte, size)
	for got := 0; got < size; {
		n, err := unix.Read(s.fd, body[got:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return req, nil, errors.Join(err, errors.New("the connection ended within a message"))
		}
		got += n
	}
	return req, fds, json.Unmarshal(body, &req)
}

// recvmsg receives with close-on-exec: a program must not inherit what was meant for the init.
func recvmsg(fd int, b, oob []byte) (int, int, int, unix.Sockaddr, error) {
	for {
		n, on, fl, from, err := unix.Recvmsg(fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err != syscall.EINTR {
			return n, on, fl, from, err
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
