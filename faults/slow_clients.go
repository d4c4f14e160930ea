package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// SlowClients are clients that take their time, many at once: each holds a connection, and with it what the server keeps for
// one, for as long as the server lets it.
type SlowClients struct {
	Door
	Connections int    `json:"connections,omitempty"` // at once; default 50
	Mode        string `json:"mode,omitempty"`        // headers (the default: never done with them) | body (likewise) | reader (of the answer)
	Rate        int    `json:"rate,omitempty"`        // bytes per second of each; default 10
	Path        string `json:"path,omitempty"`        // default /; for reader, one with a large answer
}

// Validate returns every error.
func (s *SlowClients) Validate() error {
	errs := []error{s.validate()}
	if s.Connections < 0 || s.Connections > maxCrowd {
		errs = append(errs, fmt.Errorf("connections %d: 1 to %d at once", s.Connections, maxCrowd))
	}
	switch s.Mode {
	case "", "headers", "body", "reader":
	default:
		errs = append(errs, fmt.Errorf("mode %q: headers, body or reader", s.Mode))
	}
	if s.Rate < 0 || s.Rate > 1<<20 {
		errs = append(errs, fmt.Errorf("rate %d: 1 to %d bytes a second", s.Rate, 1<<20))
	}
	if s.Path != "" && (!strings.HasPrefix(s.Path, "/") || strings.ContainsAny(s.Path, " \r\n")) {
		errs = append(errs, fmt.Errorf("path %q: it begins with a slash and has no spaces", s.Path))
	}
	return errors.Join(errs...)
}

// Inject begins to connect.
func (s *SlowClients) Inject(ctx context.Context, env *Env) (*Effect, error) {
	nodes, addrs, err := s.find(ctx, env)
	if err != nil {
		return nil, err
	}
	count := s.Connections
	if count == 0 {
		count = 50
	}
	c := &crowd{env: env, addrs: addrs, count: count, every: 2 * time.Millisecond, rate: s.rate()}
	c.visit = func(ctx context.Context, conn net.Conn, _ int) error { return s.visit(ctx, conn, &c.bytes) }
	c.begin()
	return c.effect(nodes), nil
}

func (s *SlowClients) rate() int {
	if s.Rate == 0 {
		return 10
	}
	return s.Rate
}

func (s *SlowClients) visit(ctx context.Context, c net.Conn, moved *atomic.Int64) error {
	path := s.Path
	if path == "" {
		path = "/"
	}
	every := time.Second / time.Duration(s.rate())
	method, more := "GET", "X-Slow: " // its value has no end
	switch s.Mode {
	case "reader":
		// What the kernel takes in beforehand is not read slowly: let it be little.
		if b, ok := c.(interface{ SetReadBuffer(bytes int) error }); ok {
			b.SetReadBuffer(4096)
		}
		more = "\r\n"
	case "body":
		method, more = "POST", fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n\r\n\"", 1<<20)
	}
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n%s", method, path, s.To, more); err != nil {
		return err
	}
	if s.Mode == "reader" {
		return slowly(ctx, every, func(b []byte) error { n, err := c.Read(b); moved.Add(int64(n)); return err })
	}
	// An answer, such as 408, or the end: nobody waits for the rest.
	ended := make(chan error, 1)
	answered, stop := context.WithCancel(ctx)
	go func() {
		_, err := c.Read(make([]byte, 1))
		if err == nil {
			err = errors.New("the server answered before it had the whole request")
		}
		ended <- err
		stop()
	}()
	err := slowly(answered, every, func(b []byte) error { b[0] = 'x'; n, err := c.Write(b); moved.Add(int64(n)); return err })
	c.SetDeadline(time.Unix(1, 0))
	if e := <-ended; err == nil || answered.Err() != nil {
		err = e
	}
	stop()
	return err
}

// slowly does one byte each interval. Intervals shorter than a tick are gathered.
func slowly(ctx context.Context, every time.Duration, do func(b []byte) error) error {
	const tick = 10 * time.Millisecond
	n := max(1, int(tick/every))
	t := time.NewTicker(every * time.Duration(n))
	defer t.Stop()
	b := make([]byte, 1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for range n {
			if err := do(b); err != nil {
				return err
			}
		}
	}
}
