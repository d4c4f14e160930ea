// Command hostile is a program in a node that wants to reach others past the plane.
//
//	hostile serve                        answer on port 7000, TCP and UDP, and print who came
//	hostile try HOST:PORT...             print, as JSON, what of each way worked
//	hostile fill FILE                    write until there is no room
//	hostile mark FILE                    make a file longer by a letter, and print it
//	hostile wait                         do nothing
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Attempt is one way, and why it was shut.
type Attempt struct {
	Way   string
	To    string
	Error string // empty: it was open
}

// patience is how long an answer may take.
const patience = 500 * time.Millisecond

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "serve" {
		return serve()
	}
	if len(args) > 1 && args[0] == "try" {
		return try(args[1:])
	}
	if len(args) == 2 && args[0] == "fill" {
		return fill(args[1])
	}
	if len(args) == 2 && args[0] == "mark" {
		return mark(args[1])
	}
	if len(args) == 1 && args[0] == "wait" {
		time.Sleep(time.Hour)
		return nil
	}
	return fmt.Errorf("no verb in %q", args)
}

// fill returns the error that ends it.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for b := make([]byte, 1<<16); ; {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
}

func mark(path string) error {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b = append(b, 'x')
	fmt.Print(string(b))
	return os.WriteFile(path, b, 0o644)
}

func serve() error {
	l, err := net.Listen("tcp", ":7000")
	if err != nil {
		return err
	}
	p, err := net.ListenPacket("udp", ":7000")
	if err != nil {
		return err
	}
	fmt.Println("serving")
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			fmt.Printf("udp %s %s\n", from, b[:n])
			_, _ = p.WriteTo(b[:n], from)
		}
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Printf("tcp %s\n", c.RemoteAddr())
		c.Close()
	}
}

func try(to []string) error {
	ways := []struct {
		name string
		do   func(to string) error
	}{
		{"tcp", func(to string) error { return dial("tcp", to, nil) }},
		{"udp", func(to string) error { return dial("udp", to, nil) }},
		// Both options need no privilege. Together they make the kernel take every address for a neighbour's: a routing
		// table that leads to the plane alone is passed by.
		{"tcp as to a neighbour", func(to string) error { return dial("tcp", to, asNeighbour) }},
		{"udp as to a neighbour", func(to string) error { return dial("udp", to, asNeighbour) }},
	}
	tried := []Attempt{{Way: "packet socket", Error: why(packetSocket())}}
	results := make(chan Attempt)
	for _, w := range ways {
		for _, addr := range to {
			go func() { results <- Attempt{w.name, addr, why(w.do(addr))} }()
		}
	}
	for range len(ways) * len(to) {
		tried = append(tried, <-results)
	}
	return json.NewEncoder(os.Stdout).Encode(tried)
}

func why(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func packetSocket() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0x0300) // ETH_P_ALL in network order
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// dial connects, and with udp waits for an answer.
func dial(network, to string, control func(network, address string, c syscall.RawConn) error) error {
	d := net.Dialer{Timeout: patience, Control: control}
	c, err := d.Dial(network, to)
	if err != nil {
		return err
	}
	defer c.Close()
	if network == "tcp" {
		return nil
	}
	if _, err := fmt.Fprintf(c, "hello"); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 100))
	return err
}

func asNeighbour(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		if failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DONTROUTE, 1); failed == nil {
			failed = unix.BindToDevice(int(fd), "eth0")
		}
	})
	if err != nil {
		return err
	}
	return failed
}
