// Api is the smallest service that can be restarted without a dropped request.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var draining atomic.Bool
	mux := http.NewServeMux()
	hello := func(w http.ResponseWriter, r *http.Request) {
		if draining.Load() {
			// A connection that is kept alive would be cut in the middle of the next request.
			w.Header().Set("Connection", "close")
		}
		host, _ := os.Hostname()
		fmt.Fprintln(w, "hello from", host)
	}
	mux.HandleFunc("GET /{$}", hello)
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(40 * time.Millisecond) // as a service does that works, or asks another
		hello(w, r)
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
		}
	})
	s := &http.Server{Addr: ":8080", Handler: mux, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan error, 1)
	go func() { served <- s.ListenAndServe() }()
	select {
	case err := <-served:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case <-ctx.Done():
	}
	draining.Store(true)
	time.Sleep(400 * time.Millisecond) // until everyone who asks for readiness has asked
	limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(limited); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
