package docker

import (
	"fmt"
	"sync"
	"time"
)

// progressEvery is how often making nodes is reported: a few are made in less.
const progressEvery = 2 * time.Second

// progress reports what an Up is doing, where that takes long.
type progress struct {
	say   func(line string) // nil: nobody asked
	nodes int               // to be made

	mu   sync.Mutex
	made int
	last time.Time // when it said so, or began
}

// line reports one thing.
func (p *progress) line(format string, args ...any) {
	if p.say != nil {
		p.say(fmt.Sprintf(format, args...))
	}
}

// nodeMade counts one more, those that scaling adds to a running topology apart.
func (p *progress) nodeMade(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	if p.made <= p.nodes && now.Sub(p.last) >= progressEvery {
		p.last = now
		p.line("%d of %d nodes are made", p.made, p.nodes)
	}
}
