package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// server is the main program of a node: a TCP line protocol and UDP echo on port 7000, HTTP on port 8080.
type server struct {
	open, resets, ends, datagrams, received atomic.Int64
	health                                  atomic.Value // ok | fail | slow
	since                                   atomic.Value // time.Time: see Stats.Since
}

func serve(args []string) error {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.String("mark", "", "seen in the command line only")
	delay := fs.Duration("delay", 0, "before listening")
	say := fs.String("say", "", "a line for stdout at the start")
	moan := fs.String("moan", "", "a line for stderr at the start")
	code := fs.Int("code", 0, "exit status after SIGTERM")
	stubborn := fs.Bool("ignore-term", false, "go on after SIGTERM")
	kids := fs.Int("kids", 0, "processes to start, each in a session of its own")
	health := fs.String("health", "ok", "ok, fail or slow")
	if err := fs.Parse(args); err != nil {
		return err
	}
	sigs := make(chan os.Signal, 64)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	if *say != "" {
		fmt.Println(*say)
	}
	if *moan != "" {
		fmt.Fprintln(os.Stderr, *moan)
	}
	for i := range *kids {
		c := exec.Command("/proc/self/exe", "kid", "-mark", "kid-"+strconv.Itoa(i+1))
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			return err
		}
	}
	s := &server{}
	s.health.Store(*health)
	failed := make(chan error, 3)
	go func() {
		time.Sleep(*delay)
		s.listen(failed)
	}()
	for {
		select {
		case err := <-failed:
			return err
		case sig := <-sigs:
			fmt.Println("main got " + sig.String())
			switch {
			case sig == syscall.SIGUSR1:
				os.Exit(*code + 1)
			case sig == syscall.SIGTERM && !*stubborn:
				os.Exit(*code)
			}
		}
	}
}

// listen opens the three listeners; what fails later is reported too.
func (s *server) listen(failed chan<- error) {
	s.since.Store(time.Now())
	tcp, err := net.Listen("tcp", ":7000")
	if err != nil {
		failed <- err
		return
	}
	udp, err := net.ListenPacket("udp", ":7000")
	if err != nil {
		failed <- err
		return
	}
	web, err := net.Listen("tcp", ":8080")
	if err != nil {
		failed <- err
		return
	}
	fmt.Println("listening")
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				failed <- err
				return
			}
			go s.talk(c.(*net.TCPConn))
		}
	}()
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				failed <- err
				return
			}
			s.datagrams.Add(1)
			answer := b[:n]
			if string(answer) == "peer" {
				answer = []byte(from.String())
			}
			// An answer that cannot be sent is a lost datagram, which is for the other end to notice.
			_, _ = udp.WriteTo(answer, from)
		}
	}()
	go func() { failed <- http.Serve(web, s.routes()) }()
}

const endCode = 9

// talk answers the commands of one connection, a line each: peer, echo TEXT, count, bye, flood; end ends the program.
func (s *server) talk(c *net.TCPConn) {
	s.open.Add(1)
	defer s.open.Add(-1)
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			s.ended(err)
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch verb {
		case "peer":
			_, err = fmt.Fprintln(c, c.RemoteAddr())
		case "echo":
			_, err = fmt.Fprintln(c, rest)
		case "count": // everything up to the client's half-close, then the answer on the other half
			n, rerr := io.Copy(io.Discard, r)
			if rerr == nil {
				_, _ = fmt.Fprintln(c, n)
			}
			s.ended(rerr)
			return
		case "bye": // this end is closed first and still hears the other one
			if _, err = fmt.Fprintln(c, "bye"); err == nil {
				err = c.CloseWrite()
			}
			if err == nil {
				var n int64
				n, err = io.Copy(io.Discard, r)
				s.received.Store(n)
			}
			s.ended(err)
			return
		case "end":
			os.Exit(endCode)
		case "flood":
			b := make([]byte, 32768)
			for err == nil {
				_, err = c.Write(b)
			}
		default:
			err = fmt.Errorf("no command %q", verb)
		}
		if err != nil {
			s.ended(err)
			return
		}
	}
}

func (s *server) ended(err error) {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		s.resets.Add(1)
	} else {
		s.ends.Add(1)
	}
}

// Stats is the answer of /stats.
type Stats struct {
	Open, Resets, Ends, Datagrams, Received int64
	Since                                   time.Time // just before it opened the first of its listeners
}

func (s *server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		if v := r.FormValue("set"); v != "" {
			s.health.Store(v)
			return
		}
		switch s.health.Load() {
		case "fail":
			http.Error(w, "told to fail", http.StatusServiceUnavailable)
		case "slow":
			select {
			case <-time.After(30 * time.Second):
			case <-r.Context().Done():
			}
		}
	})
	m.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(Stats{s.open.Load(), s.resets.Load(), s.ends.Load(), s.datagrams.Load(), s.received.Load(), s.since.Load().(time.Time)})
	})
	m.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(self())
	})
	// Answers when every line was written: what is missing in the log after that was lost.
	m.HandleFunc("/print", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		pad := strings.Repeat("x", 40)
		for i := range n {
			fmt.Fprintf(os.Stdout, "%s out %d %s.\n", r.FormValue("tag"), i, pad)
			fmt.Fprintf(os.Stderr, "%s err %d %s.\n", r.FormValue("tag"), i, pad)
		}
	})
	// Goes on until the program is killed.
	m.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
		tag := r.FormValue("tag")
		go func() {
			for i := 0; ; i++ {
				fmt.Fprintf(os.Stdout, "%s %d %s.\n", tag, i, strings.Repeat("x", 200))
			}
		}()
	})
	return m
}
