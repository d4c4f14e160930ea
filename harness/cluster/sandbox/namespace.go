package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread in the network namespace ns and returns the thread to the namespace back. A thread
// that cannot be returned is not used again.
func inNamespace(ns, back *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		err := f()
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// elsewhere runs f on another thread than the caller's: one of the runtime's pool, all of which are in the plane's
// namespaces.
func elsewhere(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return <-done
}

// flushLinkwatch asks for the carrier of an interface by the ethtool ioctl GLINK. The answer is of no interest: to give
// it the kernel first runs its pending linkwatch work, without which a fresh veth has no queue and drops packets for
// up to a second (2-20 of 40 SYNs lost; none after this).
func flushLinkwatch(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket for ethtool: %w", err)
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{cmd: 0x0a} // ETHTOOL_GLINK
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		pad  [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("ask for the carrier of %s: %w", name, errno)
	}
	return nil
}
