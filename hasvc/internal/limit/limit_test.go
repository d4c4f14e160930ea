package limit

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
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

func limiter(kind string, defects ...defect.Name) *Limiter { return limiterOf(kind, 10, defects...) }

func limiterOf(kind string, rate float64, defects ...defect.Name) *Limiter {
	cfg := config.Config{Limit: config.Limit{Kind: kind, Rate: rate, Burst: 5, Clients: 3}, Defects: defect.Set{}}
	for _, d := range defects {
		cfg.Defects[d] = true
	}
	return New(cfg, prometheus.NewRegistry())
}

func from(client string) *http.Request {
	r := httptest.NewRequest("GET", "/orders/x", nil)
	r.Header.Set("X-Client-ID", client)
	return r
}

// passed is how many of n requests pass that come at the same distance.
func passed(l *Limiter, client string, n int, every time.Duration) int {
	got := 0
	for range n {
		if _, ok := l.take(asker{client, "r"}, time.Now()); ok {
			got++
		}
		time.Sleep(every)
	}
	return got
}

// Ten seconds of ten times the rate: the rate passes, whatever the policy, and the first burst besides.
func TestRate(t *testing.T) {
	for kind := range policies {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limiter(kind)
				assert.InDelta(t, 100, passed(l, "a", 1000, 10*time.Millisecond), 10)
				assert.InDelta(t, 100, passed(l, "b", 100, 100*time.Millisecond), 11, "who keeps to the rate is served")
			})
		})
	}
}

// A rate of one and below, and one that is no whole number, are rates too.
func TestLowRates(t *testing.T) {
	for kind := range policies {
		for _, rate := range []float64{0.1, 0.5, 1, 1.9, 2} {
			t.Run(fmt.Sprint(kind, rate), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := limiterOf(kind, rate)
					each := time.Duration(float64(time.Second) / rate)
					assert.GreaterOrEqual(t, passed(l, "a", 200, each+each/20), 198, "who keeps to the rate is served")
					assert.InDelta(t, 200, passed(l, "b", 2000, each/10), 10, "who asks for ten times the rate gets it, and the first burst besides")
				})
			})
		}
	}
}

// What a burst of 100 requests at once gets, the second of two such bursts around the end of a window, and after a rest.
func TestBursts(t *testing.T) {
	for kind, want := range map[string][3]int{
		"counter": {10, 10, 10}, // twice the rate around the window's end
		"sliding": {10, 1, 10},
		"token":   {5, 2, 5},
		"leaky":   {6, 2, 6}, // one goes on, five wait
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limiter(kind)
				time.Sleep(900 * time.Millisecond)
				assert.Equal(t, want[0], passed(l, "a", 100, 0))
				time.Sleep(200 * time.Millisecond)
				assert.Equal(t, want[1], passed(l, "a", 100, 0))
				time.Sleep(10 * time.Second)
				assert.Equal(t, want[2], passed(l, "a", 100, 0))
			})
		})
	}
}

// Who comes back when told to is served.
func TestRetryAfterIsTrue(t *testing.T) {
	for kind := range policies {
		for _, rate := range []float64{0.5, 1, 10} {
			synctest.Test(t, func(t *testing.T) {
				l := limiterOf(kind, rate)
				time.Sleep(300 * time.Millisecond)
				passed(l, "a", 30, 30*time.Millisecond)
				for range 20 {
					wait, ok := l.take(asker{"a", "r"}, time.Now())
					if ok {
						continue
					}
					require.Positive(t, wait)
					require.LessOrEqual(t, wait, time.Duration(2/min(rate, 1)*float64(time.Second))+time.Millisecond)
					time.Sleep(wait + time.Millisecond)
					_, ok = l.take(asker{"a", "r"}, time.Now())
					assert.True(t, ok, "%s of %v after %s", kind, rate, wait)
				}
			})
		}
	}
}

// Leaky lets requests wait, for a place each.
func TestLeakyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter("leaky")
		begin := time.Now()
		ends := make(chan time.Duration, 10)
		for range 10 {
			go func() {
				if l.Wait(t.Context(), from("a"), "r") == nil {
					ends <- time.Since(begin)
				}
			}()
		}
		for n := range 6 {
			assert.Equal(t, time.Duration(n)*100*time.Millisecond, <-ends)
		}
		synctest.Wait()
		assert.Empty(t, ends)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.NoError(t, l.Wait(ctx, from("b"), "r"))
		require.ErrorIs(t, l.Wait(ctx, from("b"), "r"), context.DeadlineExceeded)
	})
}

func TestNoLimit(t *testing.T) {
	for _, test := range []struct {
		kind    string
		defects []defect.Name
		refused bool
	}{{"token", nil, true}, {"token", []defect.Name{defect.NoLimit}, false}, {"off", nil, false}} {
		l := limiter(test.kind, test.defects...)
		var last error
		for range 10 {
			last = l.Wait(t.Context(), from("a"), "r")
		}
		if !test.refused {
			require.NoError(t, last)
			continue
		}
		var p *reply.Problem
		require.ErrorAs(t, last, &p)
		assert.Equal(t, http.StatusTooManyRequests, p.Status)
		assert.Positive(t, p.RetryAfter)
		assert.Positive(t, testutil.ToFloat64(l.limited.WithLabelValues("r", "token")))
		require.NoError(t, l.Wait(t.Context(), from("b"), "r"), "another client")
		require.NoError(t, l.Wait(t.Context(), from("a"), "other"), "another route")
	}
}

func TestClientsAreBounded(t *testing.T) {
	l := limiter("token")
	for n := range 1000 {
		require.NoError(t, l.Wait(t.Context(), from(fmt.Sprint(n)), "r"))
	}
	assert.Equal(t, 3, l.asking.Len())
	for _, route := range []string{"r", "s", "t", "u"} {
		require.NoError(t, l.Wait(t.Context(), from("a"), route))
	}
	assert.Equal(t, 3, l.asking.Len(), "one client, once for every route")
	r := httptest.NewRequest("GET", "/", nil)
	assert.Equal(t, "192.0.2.1", Client(r))
}

// A wall clock that is set back refuses nobody for as long as it takes to come there again. (The other policies do not go by it.)
func TestClockSetBack(t *testing.T) {
	for _, kind := range []string{"counter", "sliding"} {
		t.Run(kind, func(t *testing.T) {
			l, now := limiter(kind), time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
			for range 20 {
				l.take(asker{"a", "r"}, now)
			}
			now = now.Add(-time.Hour)
			got := 0
			for range 100 { // ten seconds at the rate
				if _, ok := l.take(asker{"a", "r"}, now); ok {
					got++
				}
				now = now.Add(100 * time.Millisecond)
			}
			assert.InDelta(t, 100, got, 11)
		})
	}
}
