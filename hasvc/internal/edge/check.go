package edge

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// checkEvery is short against the drain delay: a gateway that leaves must be left in time.
	checkEvery = 100 * time.Millisecond
	// checkMargin is what a check may take beyond the time in which the gateway asks its own dependencies.
	checkMargin = 100 * time.Millisecond
)

// checker asks gateways whether they are ready, each in a goroutine of its own, so that one that hangs delays no other.
type checker struct {
	client  *http.Client
	timeout time.Duration
	log     *zap.Logger
	running sync.WaitGroup
}

func newChecker(ready time.Duration, log *zap.Logger) *checker {
	timeout := ready + checkMargin
	// Connections of its own: a check must not wait behind requests, nor use one that only looks alive.
	transport := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: idleTimeout}
	return &checker{client: &http.Client{Transport: transport, Timeout: timeout}, timeout: timeout, log: log}
}

// watch checks a gateway until stop is called.
func (c *checker) watch(g *gateway) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c.running.Go(func() {
		t := time.NewTicker(checkEvery)
		defer t.Stop()
		for {
			ready := c.ask(ctx, g.addr)
			if ctx.Err() != nil {
				return
			}
			if g.ready.Swap(ready) != ready {
				c.log.Info("a gateway changed", zap.String("addr", g.addr), zap.Bool("ready", ready))
			}
			g.doubt.Store(false)
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	return cancel
}

// ask reports whether /readyz answers 200 in time. One answer is enough in both directions: a gateway that wavers is better
// left out, and one that is back is needed.
func (c *checker) ask(ctx context.Context, addr string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection can be used again
	return resp.StatusCode == http.StatusOK
}

// close waits for checks whose stop was called.
func (c *checker) close() {
	c.running.Wait()
	c.client.CloseIdleConnections()
}
