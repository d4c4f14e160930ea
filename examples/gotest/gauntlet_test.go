// Package gotest shows how a project tests its own service with Gauntlet: scenarios as tests, and a topology broken by
// hand.
package gotest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/plan"
)

func TestRollingRestart(t *testing.T) {
	harness.Test(t, "restart.yaml")
}

func TestPartitionByHand(t *testing.T) {
	c := harness.Up(t, "compose.yaml")
	dial := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		conn, err := c.Dial(ctx, "client", "tcp", "api-1:8080")
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Fatalf("before the fault: %v", err)
	}
	undo := c.Inject(t, &faults.Partition{Isolate: plan.Target{Node: "api-1"}, From: "all"})
	var timeout net.Error
	if err := dial(); !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &timeout) && timeout.Timeout()) {
		t.Fatalf("a partition drops packets, so that connecting times out; it gave: %v", err)
	}
	undo()
	if err := dial(); err != nil {
		t.Fatalf("after the heal: %v", err)
	}
}
