package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// drain is how long a front goes on after its stop signal while those before it notice that it is not ready.
const drain = 300 * time.Millisecond

// api is a stateless front.
func api([]string) error {
	var draining atomic.Bool
	members := strings.Split(os.Getenv("MYDB_MEMBERS"), ",")
	m := http.NewServeMux()
	m.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
		}
	})
	m.HandleFunc("POST /put", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		status, err := post(members, body)
		if err != nil {
			status = max(status, http.StatusBadGateway)
		}
		w.WriteHeader(status)
	})
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	log.Printf("api %s", os.Getenv("MYDB_VERSION"))
	return serveUntilTerm(l, m, func() {
		draining.Store(true)
		time.Sleep(drain)
	})
}

// serveUntilTerm ends at SIGTERM: after the drain no connection is taken, and those that were are answered.
// http.Server.Shutdown does not do: it drops connections that were accepted and whose request is still on its way.
func serveUntilTerm(l net.Listener, h http.Handler, drained func()) error {
	var open sync.WaitGroup
	srv := &http.Server{Handler: h, ReadTimeout: 5 * time.Second, ConnState: func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Done()
		}
	}}
	srv.SetKeepAlivesEnabled(false) // a connection that is kept can be closed while a request is on its way
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	closed := make(chan error, 1)
	go func() {
		<-term
		if old() {
			os.Exit(0)
		}
		drained()
		closed <- l.Close()
	}()
	if err := srv.Serve(l); !errors.Is(err, net.ErrClosed) {
		return err
	}
	open.Wait()
	return <-closed
}

// proxy master holds the port and one worker, which inherits it; SIGHUP starts another worker and lets the first one finish.
func proxy(args []string) error {
	if len(args) == 1 && args[0] == "worker" {
		return worker()
	}
	l, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	port, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM)
	var current *exec.Cmd
	start := func() error {
		ready, there, err := os.Pipe()
		if err != nil {
			return err
		}
		defer ready.Close()
		c := exec.Command("/proc/self/exe", "proxy", "worker")
		c.Stdout, c.Stderr, c.ExtraFiles = os.Stdout, os.Stderr, []*os.File{port, there}
		if err := errors.Join(c.Start(), there.Close()); err != nil {
			return err
		}
		if _, err := ready.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("the worker ended before it was ready: %w", err)
		}
		current = c
		return nil
	}
	if err := start(); err != nil {
		return err
	}
	log.Print("proxy is ready")
	for s := range signals {
		before := current
		if s == syscall.SIGTERM {
			return errors.Join(before.Process.Signal(s), before.Wait())
		}
		if err := start(); err != nil {
			return err
		}
		end := syscall.SIGTERM
		if old() {
			end = syscall.SIGKILL
		}
		if err := before.Process.Signal(end); err != nil {
			return err
		}
		go func() { log.Printf("reloaded: the worker before ended: %v", before.Wait()) }()
	}
	return nil
}

// worker passes requests to the replicas of api that are ready.
func worker() error {
	l, err := net.FileListener(os.NewFile(3, "port"))
	if err != nil {
		return err
	}
	var backends atomic.Pointer[[]string]
	look := func() {
		var ready []string
		addrs, err := net.LookupHost("api")
		if err != nil {
			return // the last known ones stay
		}
		for _, a := range addrs {
			c := &http.Client{Timeout: 500 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
			if res, err := c.Get("http://" + a + ":8080/ready"); err == nil {
				res.Body.Close()
				if res.StatusCode == http.StatusOK {
					ready = append(ready, a)
				}
			}
		}
		backends.Store(&ready)
	}
	look()
	go func() {
		for ; ; time.Sleep(50 * time.Millisecond) {
			look()
		}
	}()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		err := errors.New("no replica of api is ready")
		if ready := backends.Load(); ready != nil && len(*ready) > 0 {
			first := rand.IntN(len(*ready))
			for i := range *ready { // a connection that was refused carried nothing: another replica may have it
				var c net.Conn
				if c, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, (*ready)[(first+i)%len(*ready)]+":8080"); err == nil {
					return c, nil
				}
			}
		}
		return nil, err
	}
	rp := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "api:8080"})
	rp.Transport = &http.Transport{DialContext: dial, DisableKeepAlives: true}
	there := os.NewFile(4, "ready")
	if _, err := there.Write([]byte{1}); err != nil {
		return err
	}
	return errors.Join(there.Close(), serveUntilTerm(l, rp, func() {}))
}
