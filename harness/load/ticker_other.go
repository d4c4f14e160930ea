//go:build !linux

package load

import "time"

// ticker is only to be had on Linux.
type ticker struct{ rang chan struct{} }

func newTicker() *ticker { return nil }

func (*ticker) set(time.Duration) bool { return false }

func (*ticker) close() {}
