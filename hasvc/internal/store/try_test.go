package store

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A request whose own time is over before an attempt had its own has not found the store away: that is said of one that had its time,
// or turned an attempt down.
func TestHurried(t *testing.T) {
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		time, attempt time.Duration
		op            func(context.Context) error
		want          codes.Code
	}{
		"less time than an attempt has": {100 * time.Millisecond, 250 * time.Millisecond, silent, codes.DeadlineExceeded},
		"time for an attempt":           {400 * time.Millisecond, 250 * time.Millisecond, silent, codes.Unavailable},
		"turned down":                   {100 * time.Millisecond, 250 * time.Millisecond, func(context.Context) error { return status.Error(codes.Unavailable, "") }, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Store{attempt: c.attempt}
				err := s.try(within(t, c.time), c.op)
				assert.ErrorIs(t, err, ErrAway, "it may have been done")
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Equal(t, c.want, Code(err), "%v", err)
			})
		})
	}

	t.Run("the timer is late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &Store{attempt: 250 * time.Millisecond}
			err := s.try(late{within(t, 150*time.Millisecond), time.Now().Add(100 * time.Millisecond)}, func(ctx context.Context) error {
				end, _ := ctx.Deadline()
				time.Sleep(time.Until(end) + time.Millisecond)
				return status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL")
			})
			assert.Equal(t, codes.DeadlineExceeded, Code(err), "%v", err)
		})
	})
}

// late is a context that ends later than it says, as one whose timer a full machine has not come to yet.
type late struct {
	context.Context
	end time.Time
}

func (l late) Deadline() (time.Time, bool) { return l.end, true }
