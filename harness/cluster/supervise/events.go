package supervise

import (
	"context"
	"sync"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// events hands what happens to the observer, in order, from one goroutine. Emitting never blocks, so it may be done
// under a node's lock, which keeps the order of a node's events that of its states.
type events struct {
	observe func(cluster.Event)
	ended   chan struct{}

	mu        sync.Mutex
	changed   sync.Cond
	queue     []cluster.Event
	emitted   uint64
	delivered uint64
	closed    bool
}

func newEvents(observe func(cluster.Event)) *events {
	e := &events{observe: observe, ended: make(chan struct{})}
	e.changed.L = &e.mu
	go e.deliver() // owned by close
	return e
}

func (e *events) emit(ev cluster.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.queue = append(e.queue, ev)
	e.emitted++
	e.changed.Broadcast()
}

func (e *events) deliver() {
	defer close(e.ended)
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		for len(e.queue) == 0 && !e.closed {
			e.changed.Wait()
		}
		if len(e.queue) == 0 {
			return
		}
		ev := e.queue[0]
		e.queue = e.queue[1:]
		e.mu.Unlock()
		if e.observe != nil {
			e.observe(ev)
		}
		e.mu.Lock()
		e.delivered++
		e.changed.Broadcast()
	}
}

// flush waits until what was emitted so far was observed: who killed a node finds its death in the record.
func (e *events) flush(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.changed.Broadcast()
	})
	defer stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for upTo := e.emitted; e.delivered < upTo && ctx.Err() == nil; {
		e.changed.Wait()
	}
}

// close delivers what is left and ends.
func (e *events) close() {
	e.mu.Lock()
	e.closed = true
	e.changed.Broadcast()
	e.mu.Unlock()
	<-e.ended
}
