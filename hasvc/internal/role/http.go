package role

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
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
	server *http.Server
	done   chan struct{}
}

func serveHTTP(l net.Listener, h http.Handler, log *zap.Logger, failed func(error)) (*httpServer, error) {
	std, err := zap.NewStdLogAt(log.Named("http"), zap.WarnLevel)
	if err != nil {
		return nil, fmt.Errorf("making the HTTP server's log: %w", err)
	}
	s := &httpServer{
		server: &http.Server{
			Handler: h, ErrorLog: std,
			ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("serving HTTP on %s: %w", l.Addr(), err))
		}
	}()
	return s, nil
}

// finish waits for requests in flight.
func (s *httpServer) finish(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		s.abort()
		return fmt.Errorf("waiting for HTTP requests in flight: %w", err)
	}
	<-s.done
	return nil
}

func (s *httpServer) abort() {
	_ = s.server.Close() // what is cut off does not matter any more
	<-s.done
}
