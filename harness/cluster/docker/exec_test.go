package docker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKillUntil: a program is killed again until it has ended, but not for ever.
func TestKillUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, attempts := make(chan struct{}), 0
		require.NoError(t, killUntil(ended, func() error {
			if attempts++; attempts == 3 {
				close(ended)
			}
			return errors.New("not today")
		}))
		require.Equal(t, 3, attempts)

		began := time.Now()
		err := killUntil(make(chan struct{}), func() error { return errors.New("not today") })
		require.ErrorContains(t, err, "could not be killed")
		require.ErrorContains(t, err, "not today")
		require.InDelta(t, killTime, time.Since(began), float64(2*killAgain))
	})
}
