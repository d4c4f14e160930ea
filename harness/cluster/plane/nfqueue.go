package plane

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Netfilter's queue speaks netlink (linux/netfilter/nfnetlink_queue.h): messages of type NFNL_SUBSYS_QUEUE<<8|kind.
const (
	queueSubsystem = 3 << 8
	packetMessage  = queueSubsystem
	verdictMessage = queueSubsystem | 1
	configMessage  = queueSubsystem | 2

	configCommand  = 1 // attributes of a config message
	configParams   = 2
	configMaxLen   = 3
	configMask     = 4
	configFlags    = 5
	attrPacket     = 1 // attributes of a packet message
	attrVerdict    = 2 // attribute of a verdict message
	attrMark       = 3
	commandBind    = 1
	copyMeta       = 1
	flagFailOpen   = 1 // a full queue lets packets pass in time rather than lose them: Router.Counters tells
	flagGSO        = 4 // big packets as they are
	acceptVerdict  = 1
	headerLen      = 20 // nlmsghdr and nfgenmsg
	maxQueued      = 1 << 18
	receiveBuffer  = 16 << 20
	configDeadline = 2 * time.Second
)

var kernel = &unix.SockaddrNetlink{Family: unix.AF_NETLINK}

// openQueue returns a netlink socket bound to the plane's queue.
func openQueue() (sock int, err error) {
	sock, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			unix.Close(sock)
		}
	}()
	if err := unix.Bind(sock, kernel); err != nil {
		return 0, err
	}
	if unix.SetsockoptInt(sock, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		// An ordinary user has what net.core.rmem_max allows; what does not fit passes undelayed (flagFailOpen).
		_ = unix.SetsockoptInt(sock, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	_ = unix.SetsockoptInt(sock, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1)
	for _, attrs := range [][]byte{
		appendAttr(nil, configCommand, commandBind, 0, 0, 0),
		appendAttr(appendAttr(appendAttr(appendAttr(nil,
			configParams, 0, 0, 0, 0, copyMeta),
			configMaxLen, binary.BigEndian.AppendUint32(nil, maxQueued)...),
			configMask, 0, 0, 0, flagGSO|flagFailOpen),
			configFlags, 0, 0, 0, flagGSO|flagFailOpen),
	} {
		if err := configure(sock, attrs); err != nil {
			return 0, err
		}
	}
	return sock, nil
}

// configure sends a config message and waits for the kernel's answer.
func configure(sock int, attrs []byte) error {
	if err := unix.Sendto(sock, appendMessage(nil, configMessage, unix.NLM_F_ACK, attrs), 0, kernel); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for end := time.Now().Add(configDeadline); ; {
		ts := unix.NsecToTimespec(int64(max(time.Until(end), 0)))
		n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(sock), Events: unix.POLLIN}}, &ts, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("the kernel did not answer: %w", unix.ETIMEDOUT)
		}
		if n, _, err = unix.Recvfrom(sock, buf, unix.MSG_DONTWAIT); err != nil {
			return err
		}
		acked := false
		eachMessage(buf[:n], func(typ uint16, body []byte) {
			if typ == unix.NLMSG_ERROR && len(body) >= 4 {
				acked = true
				if e := int32(binary.NativeEndian.Uint32(body)); e != 0 {
					err = unix.Errno(-e)
				}
			}
		})
		if acked || err != nil {
			return err
		}
	}
}

// appendMessage appends a netlink message to the queue.
func appendMessage(b []byte, typ, flags uint16, attrs []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(headerLen+len(attrs)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence, port
	b = append(b, unix.AF_UNSPEC, 0)
	b = binary.BigEndian.AppendUint16(b, queueNum)
	return append(b, attrs...)
}

func appendAttr(b []byte, typ uint16, data ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendVerdict(b []byte, id uint32) []byte {
	var v [8]byte
	binary.BigEndian.PutUint32(v[:], acceptVerdict)
	binary.BigEndian.PutUint32(v[4:], id)
	var attr [12]byte
	return appendMessage(b, verdictMessage, 0, appendAttr(attr[:0], attrVerdict, v[:]...))
}

// eachMessage calls f with type and body of each netlink message in b.
func eachMessage(b []byte, f func(typ uint16, body []byte)) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// parsePacket reads the kernel's id and the mark of a packet message.
func parsePacket(body []byte) (id, mark uint32, ok bool) {
	if len(body) < 4 {
		return 0, 0, false
	}
	for a := body[4:]; len(a) >= 4; {
		n := int(binary.NativeEndian.Uint16(a))
		if n < 4 || n > len(a) {
			break
		}
		switch binary.NativeEndian.Uint16(a[2:]) & 0x3fff {
		case attrPacket:
			if n >= 8 {
				id, ok = binary.BigEndian.Uint32(a[4:]), true
			}
		case attrMark:
			if n >= 8 {
				mark = binary.BigEndian.Uint32(a[4:])
			}
		}
		a = a[min((n+3)&^3, len(a)):]
	}
	return id, mark, ok
}
