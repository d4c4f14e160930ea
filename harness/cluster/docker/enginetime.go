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

// engineTime counts the processor time that the engine's own programs use. All that a topology's nodes say to the harness goes through
// them; what they do for others meanwhile cannot be told apart. What starts a container, or a program beside it, is not counted.
type engineTime struct {
	mu   sync.Mutex
	seen map[int]*engineProcess // by process id
}

// engineProcess is one program of the engine.
type engineProcess struct {
	daemon bool          // what it has waited for is its own work; of others it is the containers' processes
	before time.Duration // what it had used when it was seen first
	now    time.Duration
	ended  bool // another may have its id
}

// look reads the process again.
func (e *engineProcess) look(pid int) {
	p, ok := procs.Read(pid)
	if e.ended = e.ended || !ok; e.ended {
		return
	}
	used := p.CPU
	if e.daemon {
		used += p.Reaped
	}
	e.now = max(e.now, used)
}

// newEngineTime begins to count, with daemons of these names.
func newEngineTime(daemons ...string) (*engineTime, error) {
	all, err := procs.All()
	if err != nil {
		return nil, err
	}
	e := &engineTime{seen: map[int]*engineProcess{}}
	for pid := range all {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && slices.Contains(daemons, strings.TrimSpace(string(name))) { // an error: it has ended
			e.add(pid, true)
		}
	}
	return e, nil
}

func (e *engineTime) add(pid int, daemon bool) {
	p := &engineProcess{daemon: daemon}
	p.look(pid)
	p.before = p.now
	e.seen[pid] = p
}

// used returns what the daemons have used since the beginning, and what stands above the first processes of containers since it was
// seen first. It never falls.
func (e *engineTime) used(first []int) (sum time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, pid := range first {
		if p, ok := procs.Read(pid); ok && p.Parent > 1 && e.seen[p.Parent] == nil {
			e.add(p.Parent, false)
		}
	}
	for pid, p := range e.seen {
		p.look(pid)
		sum += p.now - p.before
	}
	return sum
}
