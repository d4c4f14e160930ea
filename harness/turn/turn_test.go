package turn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestTurnsAreTakenOneAfterTheOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turn")
	var in, most, turns atomic.Int32
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			release, err := takeAt(t.Context(), file, func() {})
			if !assert.NoError(t, err) {
				return
			}
			most.Store(max(most.Load(), in.Add(1)))
			time.Sleep(5 * time.Millisecond)
			turns.Add(1)
			in.Add(-1)
			release()
		})
	}
	running.Wait()
	assert.EqualValues(t, 1, most.Load())
	assert.EqualValues(t, 4, turns.Load())
}

// One that has turn after turn, as the tests of a package do, lets others have theirs in between.
func TestWhoWaitsComesBeforeWhoHadATurn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turn")
	for range 5 {
		release, err := takeAt(t.Context(), file, func() {})
		require.NoError(t, err)
		waits, had := make(chan struct{}), make(chan struct{})
		go func() {
			r, err := takeAt(t.Context(), file, func() { close(waits) })
			close(had)
			if assert.NoError(t, err) {
				r()
			}
		}()
		<-waits
		release()
		release, err = takeAt(t.Context(), file, func() {})
		require.NoError(t, err)
		select {
		case <-had:
		default:
			t.Error("who waited has not had a turn")
		}
		release()
		<-had
	}
}

func TestWhoWaitsForATurnIsToldOnceAndCanBeInterrupted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turn")
	release, err := takeAt(t.Context(), file, func() { t.Error("nobody else has it") })
	require.NoError(t, err)
	told := 0
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted by the user")
	time.AfterFunc(120*time.Millisecond, func() { cancel(why) })
	_, err = takeAt(ctx, file, func() { told++ })
	require.ErrorIs(t, err, why)
	assert.Equal(t, 1, told)
	release()
	again, err := takeAt(t.Context(), file, func() { t.Error("it was given back") })
	require.NoError(t, err)
	again()
}

func TestTurnOnAFileThatOthersMayOnlyRead(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	file := filepath.Join(t.TempDir(), "turn")
	release, err := takeAt(t.Context(), file, func() {})
	require.NoError(t, err)
	release()
	st, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o444), st.Mode().Perm())
	_, err = takeAt(t.Context(), filepath.Join(t.TempDir(), "no", "turn"), func() {})
	require.ErrorContains(t, err, "wait for a turn")
}
