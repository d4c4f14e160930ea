package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Limits of a crowd: each of its connections is a descriptor of the harness, and one of a node.
const (
	maxCrowd     = 10_000
	maxPerSecond = 10_000
	crowdDial    = 2 * time.Second
)

// crowd holds connections from the client to nodes open, a fixed number at once. One that ends, whoever ended it, is replaced: as
// those who mean harm do.
type crowd struct {
	env   *Env
	addrs []string // in turn
	count int
	every time.Duration // from one start to the next
	// visit is what is done on a connection. It returns when the connection has ended, or with ctx.
	visit func(ctx context.Context, c net.Conn, n int) error

	rate int // bytes a second that a visit moves; 0: none

	bytes  atomic.Int64 // moved by visits
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu       sync.Mutex
	busy     int // dialled or being dialled
	open     int
	peak     int
	made     int // since the beginning
	ended    int // before the undo
	failed   int
	last     error // why a connection failed or ended
	since    time.Time
	reached  time.Time // when enough were open at once; zero before
	area     float64   // connections times seconds, since then
	measured time.Time // where area ends
	moved    int64     // bytes before it was reached
}

// begin starts to connect. It registers the undo.
func (c *crowd) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.since = cancel, time.Now()
	c.env.Undo(fmt.Sprintf("close %d connections", c.count), func(context.Context) error {
		cancel()
		c.all.Wait() // a dial has a deadline, and whoever visits ends with ctx
		return nil
	})
	c.all.Go(func() { c.gather(ctx) })
}

// gather starts one connection each interval, as long as there are too few. What is late by the clock is made up for, but a
// pause is not: the rate holds for every stretch of time in which somebody is missing.
func (c *crowd) gather(ctx context.Context) {
	next := time.Now()
	for n := 0; ; n++ {
		for !c.admit() {
			if !pause(ctx, max(c.every, time.Millisecond)) {
				return
			}
			next = time.Now()
		}
		if wait := time.Until(next); wait > 0 && !pause(ctx, wait) || ctx.Err() != nil {
			c.mu.Lock()
			c.busy-- // nobody comes on this one
			c.mu.Unlock()
			return
		}
		next = next.Add(c.every)
		c.all.Go(func() { c.connect(ctx, n) })
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *crowd) admit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy >= c.count {
		return false
	}
	c.busy++
	return true
}

func (c *crowd) connect(ctx context.Context, n int) {
	dial, cancel := context.WithTimeout(ctx, crowdDial)
	conn, err := c.env.Cluster.Dial(dial, cluster.Client, "tcp", c.addrs[n%len(c.addrs)])
	cancel()
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy--
		if ctx.Err() == nil {
			c.failed, c.last = c.failed+1, err
		}
		return
	}
	c.note(func() {
		c.open++
		c.made++
		c.peak = max(c.peak, c.open)
		if c.reached.IsZero() && float64(c.open) >= kept*float64(c.count) {
			c.reached = time.Now()
			c.measured, c.moved = c.reached, c.bytes.Load()
		}
	})
	// A read or write that waits ends with the connection.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = c.visit(ctx, conn, n)
	stop()
	conn.Close()
	c.note(func() {
		c.open--
		c.busy--
		if ctx.Err() == nil {
			c.ended++
			if err != nil {
				c.last = err
			}
		}
	})
}

// note changes the number of open connections.
func (c *crowd) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measure()
	change()
}

func (c *crowd) measure() {
	if now := time.Now(); !c.reached.IsZero() {
		c.area += float64(c.open) * now.Sub(c.measured).Seconds()
		c.measured = now
	}
}

// fills is how long it takes at least until all are there.
func (c *crowd) fills() time.Duration { return time.Duration(c.count) * c.every }

// proved says that so many connections are open at once as were asked for.
func (c *crowd) proved(context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reached.IsZero() {
		return "", NotYet("%d of %d connections are open at once%s", c.peak, c.count, c.trouble())
	}
	return fmt.Sprintf("%d of %d connections were open at once after %v", c.peak, c.count, c.reached.Sub(c.since).Round(time.Millisecond)), nil
}

// full is when the crowd was there: its first connection is no crowd.
func (c *crowd) full() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reached
}

// held says that they stayed open, one in the place of another, for the time of the fault.
func (c *crowd) held(context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reached.IsZero() {
		return "", NotYet("%d of %d connections were open at once%s", c.peak, c.count, c.trouble())
	}
	c.measure()
	took := c.measured.Sub(c.reached)
	mean := float64(c.open)
	if took > 0 {
		mean = c.area / took.Seconds()
	}
	said := fmt.Sprintf("%.4g of %d connections were open on average over %v; %d were made, and %d of these ended early%s",
		mean, c.count, took.Round(time.Millisecond), c.made, c.ended, c.trouble())
	if mean < kept*float64(c.count) {
		return "", NotYet("%s", said)
	}
	if c.rate == 0 {
		return said, nil
	}
	moved := c.bytes.Load() - c.moved
	said += fmt.Sprintf("; %d bytes went over them", moved)
	// Half, less one each: a busy machine is slow too, and the first byte comes after an interval.
	if float64(moved) < c.area*float64(c.rate)/2-float64(c.count) {
		return "", NotYet("%s, and %.0f were to go", said, c.area*float64(c.rate))
	}
	return said, nil
}

func (c *crowd) trouble() string {
	switch {
	case c.last == nil:
		return ""
	case c.failed > 0:
		return fmt.Sprintf("; %d could not be made; the last trouble: %v", c.failed, c.last)
	}
	return fmt.Sprintf("; the last trouble: %v", c.last)
}

// gone says that every connection is closed.
func (c *crowd) gone(context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open > 0 || c.busy > 0 {
		return "", NotYet("%d connections are still open", c.open)
	}
	return fmt.Sprintf("all %d connections that were made are closed", c.made), nil
}

// effect is what a crowd is as a fault.
func (c *crowd) effect(nodes []string) *Effect {
	return &Effect{Targets: nodes, Prove: c.proved, Since: c.full, Patience: c.fills() + crowdDial, Bitten: c.held, Gone: c.gone}
}

// Door is what connections go to.
type Door struct {
	To   string `json:"to"`             // a node, service or group; its nodes in turn
	Port int    `json:"port,omitempty"` // default: the first that the service exposes
}

func (d Door) validate() error {
	var errs []error
	if d.To == "" {
		errs = append(errs, errors.New("to is missing: a node, service or group"))
	}
	if d.To == cluster.Client {
		errs = append(errs, errors.New("to is the client, which the connections come from"))
	}
	if d.Port < 0 || d.Port > 65535 {
		errs = append(errs, fmt.Errorf("port %d: 1 to 65535", d.Port))
	}
	return errors.Join(errs...)
}

// Targets are the nodes.
func (d Door) Targets() []plan.Target { return []plan.Target{{Any: d.To}} }

// find resolves the door to nodes and their addresses.
func (d Door) find(ctx context.Context, env *Env) (nodes, addrs []string, err error) {
	nodes, err = env.Resolve(ctx, plan.Target{Any: d.To})
	if err != nil {
		return nil, nil, err
	}
	if len(nodes) == 0 {
		return nil, nil, fmt.Errorf("%s has no node", d.To)
	}
	first := map[string]int{} // node -> port
	if d.Port == 0 {
		services := map[string]int{}
		for _, s := range env.Cluster.Spec().Services {
			if len(s.Expose) > 0 {
				services[s.Name] = s.Expose[0]
			}
		}
		for _, n := range env.Cluster.Nodes() {
			first[n.Name] = services[n.Service]
		}
	}
	for _, n := range nodes {
		port := d.Port
		if port == 0 {
			port = first[n]
		}
		if port == 0 {
			return nil, nil, fmt.Errorf("%s exposes no port; name one with port", n)
		}
		addrs = append(addrs, net.JoinHostPort(n, strconv.Itoa(port)))
	}
	return nodes, addrs, nil
}

// drain reads until the other end closes, and says how it ended.
func drain(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	if err == nil {
		err = io.EOF
	}
	return err
}
