package shed

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/reply"
)

// tally of the requests of one priority.
type tally struct{ sent, good, refused int }

// overload sends three times what a service of ten workers and 20 ms each can do, for ten seconds, and counts those of the
// last eight. A tenth is of high priority, three tenths are of low.
func overload(t *testing.T, defects ...defect.Name) (map[string]tally, *Limiter) {
	t.Helper()
	const rate, workers, deadline = 1500, 10, 300 * time.Millisecond
	cfg := config.Config{Shed: true, ShedFirst: 40, Defects: defect.Set{}}
	for _, d := range defects {
		cfg.Defects[d] = true
	}
	l := New(cfg, prometheus.NewRegistry())
	busy := make(chan struct{}, workers)
	work := func(ctx context.Context) error {
		select {
		case busy <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-busy }()
		time.Sleep(15*time.Millisecond + rand.N(10*time.Millisecond))
		return ctx.Err()
	}
	var mu sync.Mutex
	got := map[string]tally{}
	var wg sync.WaitGroup
	begin := time.Now()
	for n := range rate * 10 {
		time.Sleep(time.Until(begin.Add(time.Duration(n) * time.Second / rate)))
		r := httptest.NewRequest("GET", "/", nil)
		switch {
		case n%10 == 0:
			r.Header.Set("X-Priority", "high")
		case n%10 < 4:
			r.Header.Set("X-Priority", "low")
		}
		counts := time.Since(begin) > 2*time.Second
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			err := l.Run(ctx, r, func() error { return work(ctx) })
			if !counts {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			c := got[Priority(r)]
			c.sent++
			var p *reply.Problem
			switch {
			case err == nil:
				c.good++
			case errors.As(err, &p):
				assert.Equal(t, http.StatusServiceUnavailable, p.Status)
				c.refused++
			}
			got[Priority(r)] = c
		})
	}
	wg.Wait()
	return got, l
}

// With three times the load the capacity is used, and high priority hardly notices; with the defect most answers are late.
func TestNoShed(t *testing.T) {
	const capacity = 500 * 8
	synctest.Test(t, func(t *testing.T) {
		got, l := overload(t)
		t.Logf("%+v, the limit is %d", got, l.limiter.Limit())
		good := got["high"].good + got["normal"].good + got["low"].good
		assert.Greater(t, good, capacity*8/10)
		assert.Greater(t, float64(got["high"].good), 0.99*float64(got["high"].sent))
		assert.Less(t, got["low"].good*got["normal"].sent, got["normal"].good*got["low"].sent, "low goes first")
		for p, c := range got {
			assert.Equal(t, c.sent, c.good+c.refused, "what is accepted is answered in time: %s", p)
		}
		assert.Positive(t, testutil.ToFloat64(l.shed.WithLabelValues("low")))
	})
	synctest.Test(t, func(t *testing.T) {
		got, _ := overload(t, defect.NoShed)
		t.Logf("%+v", got)
		assert.Less(t, got["high"].good, got["high"].sent/2)
		assert.Zero(t, got["low"].refused+got["normal"].refused+got["high"].refused)
	})
}

// Off is the default.
func TestOff(t *testing.T) {
	l := New(config.Config{}, prometheus.NewRegistry())
	want := errors.New("x")
	require.ErrorIs(t, l.Run(t.Context(), httptest.NewRequest("GET", "/", nil), func() error { return want }), want)
}

// A request that panics gives back its place.
func TestPanics(t *testing.T) {
	l := New(config.Config{Shed: true, ShedFirst: 40}, prometheus.NewRegistry())
	assert.Panics(t, func() { _ = l.Run(t.Context(), httptest.NewRequest("GET", "/", nil), func() error { panic("x") }) })
	assert.Zero(t, l.limiter.Inflight())
}
