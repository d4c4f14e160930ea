package docker

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster/procs"
)

// daemons are the names of engines' programs. Each container has one more above its first process, which is found there.
var daemons = []string{"dockerd", "containerd", "podman"}

// engineTime counts the processor time that the engine's own programs use: all that a topology's nodes say to the harness goes through
// them. What they do for others meanwhile cannot be told apart.
type engineTime struct {
	mu   sync.Mutex
	seen map[int]time.Duration // by process id, as seen last
	idle time.Duration         // what the daemons had used before
}

// newEngineTime begins to count, with daemons of these names.
func newEngineTime(daemons ...string) (*engineTime, error) {
	all, err := procs.All()
	if err != nil {
		return nil, err
	}
	e := &engineTime{seen: map[int]time.Duration{}}
	for pid, p := range all {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && slices.Contains(daemons, strings.TrimSpace(string(name))) { // an error: it has ended
			e.seen[pid] = p.CPU
			e.idle += p.CPU
		}
	}
	return e, nil
}

// used returns what the daemons used since, and what stands above the first processes of containers since it was started. It never falls.
// What these have waited for is not counted: the containers' own processes are among it.
func (e *engineTime) used(first []int) (sum time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, pid := range first {
		if p, ok := procs.Read(pid); ok && p.Parent > 1 {
			if _, known := e.seen[p.Parent]; !known {
				e.seen[p.Parent] = 0
			}
		}
	}
	for pid, was := range e.seen {
		if p, ok := procs.Read(pid); ok && p.CPU > was {
			e.seen[pid], was = p.CPU, p.CPU
		}
		sum += was
	}
	return sum - e.idle
}
