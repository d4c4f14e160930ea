package supervise

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// enlist registers the links between the nodes that there are which the link core is wanted for: before their programs
// start, so that no connection of theirs escapes it.
func (t *Topology) enlist(ctx context.Context) error {
	if toxic := t.between(t.cfg.Options.Toxic); len(toxic) > 0 {
		if err := t.carrier.Intercept(ctx, toxic); err != nil {
			return fmt.Errorf("lead links through the link core: %w", err)
		}
	}
	replied := t.between(t.cfg.Options.Replied)
	for _, links := range []struct {
		of      []plane.AddrLink
		replied bool
	}{{t.between(t.cfg.Options.Observed), false}, {replied, true}} {
		if len(links.of) == 0 {
			continue
		}
		if err := t.carrier.Observe(ctx, links.of, links.replied); err != nil {
			return fmt.Errorf("read the calls of links: %w", err)
		}
	}
	return nil
}

// between are the links from a node of each first end to one of the second, among the nodes that are made.
func (t *Topology) between(ends []cluster.Link) (links []plane.AddrLink) {
	for _, e := range ends {
		from, to := t.named(e.From), t.named(e.To)
		for _, a := range from {
			for _, b := range to {
				if a != b {
					links = append(links, plane.AddrLink{From: a.Info.Addr, To: b.Info.Addr})
				}
			}
		}
	}
	return links
}

// named are the nodes that are made and have a name, or belong to the service or group of that name.
func (t *Topology) named(name string) (nodes []*Node) {
	for _, n := range t.all() {
		if n.isOf(name) && n.where() != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (n *Node) isOf(name string) bool {
	return n.Info.Name == name || n.Info.Service == name || n.Info.Group == name
}

// calls brings what the plane reads to whoever wants it.
type calls struct {
	router Router
	tell   func(cluster.CallBatch)
	ended  chan struct{} // run has ended

	mu sync.Mutex // held while a batch is fetched and told
	// zero is the moment of the plane's clock's zero, as the answer that came quickest says: half its way bounds the error.
	zero time.Time
	took time.Duration
	told map[cluster.Link]uint64 // calls
}

// callsEvery is how often calls are fetched: far within what the plane keeps.
const callsEvery = 100 * time.Millisecond

func newCalls(r Router, tell func(cluster.CallBatch)) *calls {
	return &calls{router: r, tell: tell, ended: make(chan struct{}), told: map[cluster.Link]uint64{}}
}

func (c *calls) run(ctx context.Context) {
	defer close(c.ended)
	for range 5 { // to set the clock
		if c.fetch(ctx) != nil {
			return
		}
	}
	every := time.NewTicker(callsEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		if c.fetch(ctx) != nil {
			return // the plane is gone, which others tell; or calls are lost, which end tells
		}
	}
}

// fetch tells of all calls that there are now.
func (c *calls) fetch(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		begin := time.Now()
		got, err := c.router.Calls(ctx)
		if err != nil {
			return err
		}
		if took := time.Since(begin); c.zero.IsZero() || took < c.took {
			c.took, c.zero = took, begin.Add(took/2-got.Now)
		}
		var b cluster.CallBatch
		for _, x := range got.Calls {
			link := cluster.Link{From: x.From, To: x.To}
			c.told[link]++
			b.Calls = append(b.Calls, cluster.Call{
				Begin: c.zero.Add(x.Begin), End: c.zero.Add(x.End), Link: link, Port: x.Port, Conn: x.Conn,
				Proto: x.Proto, Method: x.Method, Path: x.Path, RequestID: x.RequestID, TraceID: x.TraceID,
				Status: x.Status, GRPCStatus: x.GRPCStatus, Injected: x.Injected, Error: x.Error,
			})
		}
		if len(b.Calls) > 0 {
			c.tell(b)
		}
		if !got.More {
			return nil
		}
	}
}

// end tells of what is left, and how much of each link was read. The programs have stopped.
func (c *calls) end(ctx context.Context) {
	<-c.ended
	ctx, cancel := context.WithTimeout(ctx, orderTime) // a plane that does not answer must not hold the end up
	defer cancel()
	read, err := c.router.CallsEnd(ctx)
	if err == nil {
		err = c.fetch(ctx)
	}
	var b cluster.CallBatch
	for _, o := range read {
		link := cluster.Link{From: o.From, To: o.To}
		// The plane takes a batch for told when it is sent, but its message may not have come.
		lost := o.Calls - min(o.Calls, c.told[link])
		b.Read = append(b.Read, cluster.Observed{Link: link, Calls: o.Calls, Dropped: max(o.Dropped, lost), Unreadable: o.Unreadable, Why: o.Why})
	}
	b.Err = err
	c.tell(b)
}
