package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Defaults of registers.
const (
	DefaultClients = 8
	DefaultKeys    = 16
	DefaultTimeout = time.Second
)

// How the operations of registers are mixed, in percent; the rest are inserts.
const (
	sharePut = 25
	shareGet = 40
	shareCAS = 25
)

// registers are clients of a service with GET and PUT /registers/KEY. They put, get and compare-and-swap the keys r0 .. rN-1,
// each write with a value that no other has, so that a history can be checked for linearizability key by key; and they insert keys of
// their own that are written once, w-ROUND-CLIENT-N, which Verify reads back through each replica.
//
// A compare-and-swap is by revision. Since every value is written once, that the revision is the one that came with a
// value says the same as that the value is still there, and the history has the value.
type registers struct {
	w       plan.Workload
	env     Env
	set     *replicas.Set
	hist    history
	limiter *rate.Limiter

	mu       sync.Mutex
	inserted []string // keys of every insert that may have left, whatever became of it
	prepared bool
	err      error
}

func newRegisters(w plan.Workload, e Env) (*registers, error) {
	if w.Clients == 0 {
		w.Clients = DefaultClients
	}
	if w.Keys == 0 {
		w.Keys = DefaultKeys
	}
	if w.Timeout == 0 {
		w.Timeout = plan.Duration(DefaultTimeout)
	}
	var errs []error
	if w.Clients < 1 || w.Keys < 1 || w.Timeout < 0 || w.Rate < 0 {
		errs = append(errs, fmt.Errorf("%d clients, %d keys, %v timeout, %v operations a second: each must be positive", w.Clients, w.Keys, w.Timeout, w.Rate))
	}
	set, err := replicas.New(e.Cluster, w.To, 0, e.Ready)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	r := &registers{w: w, env: e, set: set, hist: history{name: w.Name, rec: e.Record, round: e.Round}}
	if w.Rate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(w.Rate), 1)
	}
	return r, nil
}

// Prepare writes every register once, so that whoever reads them finds them, and the history of this round begins with a
// known value whatever an earlier round left in the store.
func (r *registers) Prepare(ctx context.Context) error {
	c := r.client(r.w.Clients, r.set.Pool(r.w.Timeout.D())) // a client of its own, whose values no other writes
	defer c.api.close()
	for k := range r.w.Keys {
		key := fmt.Sprintf("r%d", k)
		for {
			o := c.write("put", key, "", nil)
			r.hist.add(o)
			if o.Outcome == record.OK {
				break
			}
			if !pause(ctx, 100*time.Millisecond) {
				r.err = fmt.Errorf("writing the first value of %s: %s", key, o.Error)
				return fmt.Errorf("workload %s: %w", r.w.Name, r.err)
			}
		}
	}
	r.prepared = true
	return nil
}

// Run lets the clients work.
func (r *registers) Run(ctx context.Context) error {
	if !r.prepared {
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := r.Prepare(limited); err != nil {
			return err
		}
	}
	var clients sync.WaitGroup
	for n := range r.w.Clients {
		clients.Go(func() {
			c := r.client(n, r.set.Pool(r.w.Timeout.D()))
			defer c.api.close()
			c.work(ctx)
		})
	}
	clients.Wait()
	return nil
}

// client is one client; it does one operation at a time.
type client struct {
	*registers
	n      int
	api    *api
	rng    *rand.Rand
	writes int
	seen   map[string]register // the last answer for each key
}

func (r *registers) client(n int, pool *replicas.Pool) *client {
	return &client{
		registers: r, n: n,
		api:  newAPI(pool, r.set.Host(), r.w.Timeout.D()),
		rng:  rand.New(rand.NewPCG(r.w.Seed, uint64(r.env.Round)<<32|uint64(n))),
		seen: map[string]register{},
	}
}

func (c *client) work(ctx context.Context) {
	for c.turn(ctx) {
		o := c.one()
		c.hist.add(o)
		// A service that refuses does so thousands of times a second; as many failures say no more than a few.
		if o.Outcome != record.OK && !pause(ctx, 10*time.Millisecond) {
			return
		}
	}
}

// turn waits for the workload's rate.
func (c *client) turn(ctx context.Context) bool {
	if c.limiter == nil {
		return ctx.Err() == nil
	}
	return c.limiter.Wait(ctx) == nil
}

func (c *client) one() record.Op {
	key := fmt.Sprintf("r%d", c.rng.IntN(c.w.Keys))
	last, known := c.seen[key]
	switch x := c.rng.IntN(100); {
	case x < sharePut:
		return c.write("put", key, "", nil)
	case x < sharePut+shareCAS && known:
		return c.write("cas", key, last.Value, &last.Revision)
	case x < sharePut+shareCAS+shareGet:
		return c.get(key)
	}
	var none int64
	o := c.write("insert", fmt.Sprintf("w-%d-%d-%d", c.env.Round, c.n, c.writes), "", &none)
	c.mu.Lock()
	c.inserted = append(c.inserted, o.Key)
	c.mu.Unlock()
	return o
}

func (c *client) get(key string) record.Op {
	o := c.begin("get", key)
	a := c.api.get(context.Background(), key)
	c.end(&o, a)
	o.Value = a.reg.Value
	if a.outcome == record.OK {
		o.Found = &a.found
	}
	if a.found {
		c.seen[key] = a.reg
	}
	return o
}

func (c *client) write(kind, key, old string, expect *int64) record.Op {
	value := fmt.Sprintf("%s.%d.%d", c.env.RunID, c.n, c.writes)
	c.writes++
	o := c.begin(kind, key)
	a := c.api.put(context.Background(), key, value, expect)
	c.end(&o, a)
	o.Value, o.Old = value, old
	if kind == "insert" {
		return o
	}
	delete(c.seen, key)
	if a.outcome == record.OK && a.reg.Revision != 0 {
		c.seen[key] = register{value, a.reg.Revision}
	}
	return o
}

func (c *client) begin(kind, key string) record.Op {
	return record.Op{Client: c.n, Kind: kind, Key: key, Call: c.env.Record.At(time.Now())}
}

func (c *client) end(o *record.Op, a answer) {
	o.Return, o.Outcome, o.Error = c.env.Record.At(time.Now()), a.outcome, a.err
}

// Verify reads every register and every key that was inserted through each replica.
func (r *registers) Verify(ctx context.Context) error {
	r.mu.Lock()
	keys := append([]string(nil), r.inserted...)
	r.mu.Unlock()
	for k := range r.w.Keys {
		keys = append(keys, fmt.Sprintf("r%d", k))
	}
	var readers sync.WaitGroup
	members := r.running()
	if len(members) == 0 {
		r.unread(keys, fmt.Sprintf("no replica of %s is running", r.w.To))
	}
	for _, n := range members {
		todo := make(chan string, len(keys))
		for _, k := range keys {
			todo <- k
		}
		close(todo)
		m := &member{node: n}
		for i := range r.w.Clients {
			readers.Go(func() {
				c := r.client(i, r.set.PoolTo(n, r.w.Timeout.D()))
				defer c.api.close()
				for key := range todo {
					c.readBack(ctx, m, key)
				}
			})
		}
	}
	readers.Wait()
	return context.Cause(ctx)
}

// running are the replicas whose program runs. One that does not is no witness: what became of it is another finding.
func (r *registers) running() []cluster.NodeInfo {
	var out []cluster.NodeInfo
	for _, n := range r.set.Nodes() {
		if s, err := r.env.Cluster.Status(n.Name); err == nil && (s.State == cluster.StateRunning || s.State == cluster.StatePaused) {
			out = append(out, n)
		}
	}
	return out
}

func (r *registers) unread(keys []string, why string) {
	for _, k := range keys {
		now := r.env.Record.At(time.Now())
		r.hist.add(record.Op{Kind: "read", Key: k, Call: now, Return: now, Outcome: record.Failed, Verify: true, Error: why})
	}
}

// member is a replica that is read.
type member struct {
	node cluster.NodeInfo

	mu   sync.Mutex
	gave string // why it was given up
}

// attempts is how often a read of Verify is tried: the service has recovered, but a busy machine may still be late.
const attempts = 5

// readBack reads a key of a member. Once a member was given up, or ctx has ended, the rest of its keys are unread without being tried.
func (c *client) readBack(ctx context.Context, m *member, key string) {
	if ctx.Err() != nil {
		m.giveUp(fmt.Sprintf("verify ended: %v", context.Cause(ctx)))
	}
	var o record.Op
	for try := 1; ; try++ {
		if o = c.begin("read", key); m.givenUp() == "" {
			a := c.api.get(ctx, key)
			c.end(&o, a)
			o.Value = a.reg.Value
			if a.outcome == record.OK {
				o.Found = &a.found
			}
		} else {
			c.end(&o, answer{outcome: record.Failed, err: "not tried: " + m.givenUp()})
		}
		if o.Outcome == record.OK || m.givenUp() != "" {
			break
		}
		if try == attempts || !pause(ctx, 100*time.Millisecond<<try) {
			m.giveUp(fmt.Sprintf("%s did not answer %d times: %s", m.node.Name, try, o.Error))
			break
		}
	}
	o.Verify, o.Member = true, m.node.Name
	c.hist.add(o)
}

func (m *member) givenUp() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gave
}

func (m *member) giveUp(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gave == "" {
		m.gave = why
	}
}

// Acked is the number of acknowledged operations.
func (r *registers) Acked() int64 { return r.hist.acked() }

// Close records the figures.
func (r *registers) Close() error { return r.hist.end(r.err) }

// pause waits and reports whether ctx is still alive.
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
