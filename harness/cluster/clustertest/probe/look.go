package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Self is what a process can see of itself.
type Self struct {
	Uid, Gid, Pid int
	Groups        []int
	Hostname, Cwd string
	Env           map[string]string
	Caps          string // effective capabilities, as in /proc/self/status
}

func self() Self {
	s := Self{Uid: os.Getuid(), Gid: os.Getgid(), Pid: os.Getpid(), Env: map[string]string{}}
	s.Groups, _ = os.Getgroups()
	s.Hostname, _ = os.Hostname()
	s.Cwd, _ = os.Getwd()
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		s.Env[k] = v
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			s.Caps = strings.TrimSpace(v)
		}
	}
	return s
}

func env([]string) error { return show(self()) }

// Resolved is an element of the answer of resolve.
type Resolved struct {
	Name     string
	Addrs    []string
	Error    string
	NotFound bool
	Took     time.Duration
}

// resolve looks names up with Go's own resolver.
func resolve(names []string) error {
	var all []Resolved
	for _, n := range names {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		begin := time.Now()
		addrs, err := net.DefaultResolver.LookupHost(ctx, n)
		cancel()
		r := Resolved{Name: n, Addrs: addrs, Took: time.Since(begin)}
		if err != nil {
			r.Error = err.Error()
			var de *net.DNSError
			r.NotFound = errors.As(err, &de) && de.IsNotFound
		}
		all = append(all, r)
	}
	return show(all)
}

// Dialed is the answer of dial.
type Dialed struct {
	Answer, Local, Remote string
	Error, Errno          string
	Timeout               bool
	Took                  time.Duration // until connected, or until it failed
}

// dial connects, sends a line and waits for one.
func dial(args []string) error {
	fs := flag.NewFlagSet("dial", flag.ContinueOnError)
	timeout := fs.Duration("timeout", 2*time.Second, "of all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 3 {
		return errors.New("want NETWORK ADDRESS LINE")
	}
	var d Dialed
	begin := time.Now()
	c, err := net.DialTimeout(fs.Arg(0), fs.Arg(1), *timeout)
	d.Took = time.Since(begin)
	if err == nil {
		defer c.Close()
		d.Local, d.Remote = c.LocalAddr().String(), c.RemoteAddr().String()
		d.Answer, err = ask(c, fs.Arg(2), begin.Add(*timeout))
	}
	if err != nil {
		d.Error, d.Errno, d.Timeout = err.Error(), errnoOf(err), isTimeout(err)
	}
	return show(d)
}

// check fails unless an address accepts, or a URL answers with 200: for healthchecks.
func check(args []string) error {
	if len(args) != 1 {
		return errors.New("want ADDRESS or URL")
	}
	if !strings.HasPrefix(args[0], "http://") {
		_, err := connected("tcp", args[0])
		return err
	}
	res, err := http.Get(args[0])
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// ask sends a line and returns the answer.
func ask(c net.Conn, line string, by time.Time) (string, error) {
	if err := c.SetDeadline(by); err != nil {
		return "", err
	}
	if strings.HasPrefix(c.LocalAddr().Network(), "udp") {
		if _, err := c.Write([]byte(line)); err != nil {
			return "", err
		}
		b := make([]byte, 65536)
		n, err := c.Read(b)
		return string(b[:n]), err
	}
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	s, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(s, "\n"), err
}

func errnoOf(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no.Error()
	}
	return ""
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// File is the answer of read and write.
type File struct {
	Content string
	Mode    uint32
	Uid     uint32
	Error   string
	Errno   string
}

// write appends to a file: PATH TEXT, or PATH and a number of zeros after it with -zeros.
func write(args []string) error {
	fset := flag.NewFlagSet("write", flag.ContinueOnError)
	zeros := fset.Int("zeros", 0, "bytes to write besides")
	if err := fset.Parse(args); err != nil {
		return err
	}
	if fset.NArg() != 2 {
		return errors.New("want PATH TEXT")
	}
	err := func() error {
		f, err := os.OpenFile(fset.Arg(0), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = f.WriteString(fset.Arg(1))
		if err == nil {
			_, err = f.Write(make([]byte, *zeros))
		}
		return errors.Join(err, f.Close())
	}()
	if err != nil {
		return show(File{Error: err.Error(), Errno: errnoOf(err)})
	}
	return read(fset.Args()[:1])
}

func read(args []string) error {
	if len(args) != 1 {
		return errors.New("want PATH")
	}
	b, err := os.ReadFile(args[0])
	if err != nil {
		return show(File{Error: err.Error(), Errno: errnoOf(err)})
	}
	f := File{Content: string(b[:min(len(b), 4096)])}
	var info fs.FileInfo
	if info, err = os.Stat(args[0]); err == nil {
		f.Mode = uint32(info.Mode().Perm())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			f.Uid = st.Uid
		}
	}
	return show(f)
}
