package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// findCapabilities tries what the driver needs and what its faults need.
func findCapabilities() cluster.Capabilities {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	caps := cluster.Capabilities{}
	var start error
	for _, s := range Doctor(ctx) {
		if s.Err != nil {
			start = fmt.Errorf("%s: %w", s.Name, s.Err)
			break
		}
	}
	for _, c := range []cluster.Capability{cluster.PacketRules, cluster.PacketDelay, cluster.Toxics, cluster.Signals} {
		caps[c] = start
	}
	caps[cluster.CPULimit] = firstError(start, tryCgroup("cpu"))
	caps[cluster.MemoryLimit] = firstError(start, tryCgroup("memory"))
	return caps
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tryCgroup makes a cgroup and removes it.
func tryCgroup(controller string) error {
	g, err := newRunCgroup([]string{controller})
	if err != nil {
		return err
	}
	return g.remove()
}
