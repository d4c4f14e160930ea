package plane

import (
	"slices"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// stage is a toxic in one direction of one connection. It outlives the chains it is part of.
type stage struct {
	of      *toxicLink
	wrapper *toxics.ToxicWrapper
	state   any // of a stateful toxic
}

// holder is a toxic that keeps the chunk it holds when it is interrupted, instead of passing it on early.
type holder interface {
	takeHeld() *stream.StreamChunk
}

// chain runs stages one behind the other. Chunks go in at the head and come out at the tail.
//
// toxiproxy changes its chains while they run, and hangs when a toxic is blocked by the one behind it. Here a chain is
// never changed: it is stopped from the tail to the head, each stage's output being taken meanwhile, and what was on
// its way is put into the next chain at the place where it was. So nothing is lost, overtaken, or let go early.
type chain struct {
	stages []*stage
	// links[i] leads into stage i, the last one out of the chain. A stage closes the one behind it when the stream
	// has ended.
	links []chan *stream.StreamChunk
	stubs []*toxics.ToxicStub // nil for a stage that the stream's end has passed
	done  []chan struct{}
}

// flow is what is on its way in a chain.
type flow struct {
	held  [][]*stream.StreamChunk // held[i] waits before stage i, the last one at the tail
	ended int                     // the stream's end waits behind held[ended]; nothing comes before it. -1: it has not ended
}

// newChain starts the stages with what is on its way.
func newChain(stages []*stage, f flow) *chain {
	n := len(stages)
	c := &chain{stages: stages, links: make([]chan *stream.StreamChunk, n+1), stubs: make([]*toxics.ToxicStub, n), done: make([]chan struct{}, n)}
	for i := range c.links {
		room := len(f.held[i])
		if i < n {
			room = max(room, stages[i].wrapper.BufferSize)
		}
		c.links[i] = make(chan *stream.StreamChunk, room)
		for _, x := range f.held[i] {
			c.links[i] <- x
		}
		if i == f.ended {
			close(c.links[i])
		}
	}
	for i := max(f.ended, 0); i < n; i++ {
		stub := toxics.NewToxicStub(c.links[i], c.links[i+1])
		stub.State = stages[i].state
		done := make(chan struct{})
		c.stubs[i], c.done[i] = stub, done
		go func() { // ended by stop, which waits for it
			defer close(done)
			stub.Run(stages[i].wrapper)
		}()
	}
	return c
}

func (c *chain) head() chan<- *stream.StreamChunk { return c.links[0] }
func (c *chain) tail() <-chan *stream.StreamChunk { return c.links[len(c.links)-1] }

// stop ends the stages and returns what is on its way in those of next: a stage that is not among them gives up what
// it holds. Nobody else may use head or tail any more.
func (c *chain) stop(next []*stage) flow {
	f := flow{held: make([][]*stream.StreamChunk, len(c.links)), ended: -1}
	for i := len(c.stages) - 1; i >= 0; i-- {
		if c.stubs[i] != nil {
			c.stopStage(i, &f)
		}
		c.drain(i+1, &f)
		if h, ok := c.stages[i].wrapper.Toxic.(holder); ok && !slices.Contains(next, c.stages[i]) {
			if x := h.takeHeld(); x != nil {
				f.held[i+1] = append(f.held[i+1], x)
			}
		}
	}
	c.drain(0, &f)
	return c.rearrange(f, next)
}

// stopStage interrupts stage i and waits for it, taking what it puts out meanwhile.
func (c *chain) stopStage(i int, f *flow) {
	interrupt, out := c.stubs[i].Interrupt, c.links[i+1]
	for {
		select {
		case <-c.done[i]:
			return
		case interrupt <- struct{}{}:
			interrupt = nil
		case x, ok := <-out:
			if !ok {
				f.ended, out = max(f.ended, i+1), nil
				continue
			}
			f.held[i+1] = append(f.held[i+1], x)
		}
	}
}

// drain takes what is left in a link.
func (c *chain) drain(i int, f *flow) {
	for {
		select {
		case x, ok := <-c.links[i]:
			if !ok {
				f.ended = max(f.ended, i)
				return
			}
			f.held[i] = append(f.held[i], x)
		default:
			return
		}
	}
}

// rearrange moves what waits before stages that go to the next one that stays. Stages that are new come last, so
// what has passed all others waits before the first of them.
func (c *chain) rearrange(f flow, next []*stage) flow {
	g := flow{held: make([][]*stream.StreamChunk, len(next)+1), ended: -1}
	for i := len(c.links) - 1; i >= 0; i-- { // what is nearer to the tail goes first
		to := 0 // stages of next that this has passed
		for _, s := range c.stages[:i] {
			if slices.Contains(next, s) {
				to++
			}
		}
		g.held[to] = append(g.held[to], f.held[i]...)
		if i == f.ended {
			g.ended = to
			break // what a toxic cut off goes no further
		}
	}
	return g
}
