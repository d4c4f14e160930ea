package role

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

// Bounds against clients that are slow or send too much.
const (
	headerTimeout = 2 * time.Second
	readTimeout   = 5 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 16 * 1024
)

// httpServer serves until it is shut down; what it ends with otherwise is reported on failed.
type httpServer struct {
	server    *http.Server
	conns     *conns
	departing atomic.Bool
	done      chan struct{}
}

func serveHTTP(l *net.TCPListener, h http.Handler, cfg config.Config, log *zap.Logger, failed func(error)) (*httpServer, error) {
	std, err := zap.NewStdLogAt(log.Named("http"), zap.WarnLevel)
	if err != nil {
		return nil, fmt.Errorf("making the HTTP server's log: %w", err)
	}
	s := &httpServer{conns: newConns(l, patience(cfg)), done: make(chan struct{})}
	s.server = &http.Server{
		Handler: s.telling(h), ErrorLog: std, ConnState: s.conns.state,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(s.conns); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			failed(fmt.Errorf("serving HTTP on %s: %w", l.Addr(), err))
		}
	}()
	return s, nil
}

// telling has answers say that their connection ends, once the server departs. Not by SetKeepAlivesEnabled: a request that follows an
// answer without those words is dropped then.
func (s *httpServer) telling(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.departing.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// depart tells clients to go on elsewhere: at the end idle connections are closed, under the feet of who is about to use one.
func (s *httpServer) depart() { s.departing.Store(true) }

// finish answers what has come, and waits for requests in flight.
func (s *httpServer) finish(ctx context.Context) error {
	s.conns.leave()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	err := s.conns.gone(ctx)
	s.abort()
	if err != nil {
		return fmt.Errorf("waiting for HTTP requests in flight: %w", err)
	}
	return nil
}

func (s *httpServer) abort() {
	s.conns.cut()
	_ = s.server.Close() // what is cut off does not matter any more
	<-s.done
}
