package sandbox

import (
	"fmt"
	"time"
)

// auditTime is how long the kernel may take to clear what is no longer used.
const auditTime = 5 * time.Second

// process names a process of this machine for ever.
type process struct {
	pid   int
	start uint64
}

// snapshot lists a process and its descendants.
func snapshot(root int) (list []process) {
	for _, pid := range processTree(root) {
		if start, err := startTime(pid); err == nil {
			list = append(list, process{pid, start})
		}
	}
	return list
}

// awaitGone waits until the processes are gone and names those that are not.
func awaitGone(list []process) (left []string) {
	deadline := time.Now().Add(auditTime)
	for {
		left = left[:0]
		for _, p := range list {
			if start, err := startTime(p.pid); err == nil && start == p.start {
				left = append(left, fmt.Sprintf("process %d", p.pid))
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(2 * time.Millisecond) // these are not children of ours: the kernel tells nobody
	}
}
