package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/hasvc/gauntlet/harness/workload/program"
)

// How long a program may take, beside what the scenario says of its operations.
const (
	helloTimeout = 10 * time.Second // from its start to its first line
	stopGrace    = 5 * time.Second  // from stop, plus the timeout of one operation, to done
	exitGrace    = 2 * time.Second  // from the end of its input to its own
)

// clockSlack is how far a program's clock may be from the harness's: it is the same clock, read twice.
const clockSlack = 10 * time.Millisecond

// external is a workload that is a program; PROTOCOL.md says what passes between the two.
type external struct {
	w    plan.Workload
	env  Env
	hist history
	log  *os.File
	tail tail

	hello, grace time.Duration // helloTimeout and stopGrace; tests have less patience

	in     commands
	out    lines
	kill   context.CancelFunc
	exited chan struct{} // closed when the program has ended and its output was read; nil before it was started

	mu     sync.Mutex
	state  state
	begun  time.Time     // when start was sent
	moved  chan struct{} // closed and replaced when state changes
	err    error         // the first thing that went wrong
	closed bool
}

// state is what the program is expected to say next.
type state string

const (
	awaitHello state = "hello"
	idle       state = "nothing"
	working    state = "op"
	stopping   state = "op or done"
	verifying  state = "reads or done"
)

func newExec(w plan.Workload, e Env) (*external, error) {
	if len(w.Exec) == 0 {
		return nil, errors.New("which program? give it exec: [program, ...]")
	}
	if w.In == "" {
		w.In = cluster.Client
	}
	if w.Timeout == 0 {
		w.Timeout = plan.Duration(DefaultTimeout)
	}
	x := &external{w: w, env: e, hist: history{name: w.Name, rec: e.Record, round: e.Round}, state: awaitHello, moved: make(chan struct{}), hello: helloTimeout, grace: stopGrace}
	x.out.handle = x.line
	return x, nil
}

// Prepare starts the program and waits until it says hello.
func (x *external) Prepare(ctx context.Context) error {
	if err := x.start(); err != nil {
		x.fail(err)
		return x.failure()
	}
	return x.await(ctx, idle, x.hello, "it said nothing within %v of its start; its first line is "+`{"type":"hello","version":1}`)
}

func (x *external) start() error {
	dir := filepath.Join(x.env.Record.Dir(), "logs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of its log: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, x.w.Name+".workload.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening its log: %w", err)
	}
	ctx, kill := context.WithCancel(context.Background()) // it outlives Prepare and Run; Close ends it
	x.kill = kill
	p, err := x.env.Cluster.Exec(ctx, x.w.In, cluster.Process{Argv: x.w.Exec, Stdin: &x.in, Stdout: &x.out, Stderr: io.MultiWriter(log, &x.tail)})
	if err != nil {
		x.in.close()
		return errors.Join(fmt.Errorf("starting %s in %s: %w", x.w.Exec[0], x.w.In, err), log.Close())
	}
	x.log, x.exited = log, make(chan struct{})
	go func() { // Close waits for exited
		defer close(x.exited)
		exit, err := p.Wait()
		x.in.close()
		x.out.flush()
		x.ended(exit, err)
	}()
	return nil
}

// ended judges the end of the program: it is right only once Close has asked for it.
func (x *external) ended(exit cluster.Exit, err error) {
	x.mu.Lock()
	asked := x.closed
	x.mu.Unlock()
	how := fmt.Sprintf("with status %d", exit.Code)
	if exit.Signal != "" {
		how = "by " + exit.Signal
	}
	switch {
	case asked:
	case err != nil:
		x.fail(fmt.Errorf("the program ended %s, and reading its output failed: %w", how, err))
	default:
		x.fail(fmt.Errorf("the program ended %s before it was told to%s", how, x.lastWords()))
	}
}

// Run starts the work and, when ctx ends, stops it.
func (x *external) Run(ctx context.Context) error {
	if x.exited == nil {
		if err := x.Prepare(ctx); err != nil {
			return err
		}
	}
	x.mu.Lock()
	x.begun = time.Now()
	x.move(working)
	x.mu.Unlock()
	x.send(x.command())
	if err := x.await(ctx, "", 0, ""); err != nil && ctx.Err() == nil {
		return err
	}
	x.mu.Lock()
	x.move(stopping)
	x.mu.Unlock()
	x.send(program.Command{Type: program.TypeStop})
	return x.await(context.WithoutCancel(ctx), idle, x.w.Timeout.D()+x.grace, "it did not say done within %v of stop")
}

// Verify lets the program read back what it wrote.
func (x *external) Verify(ctx context.Context) error {
	if err := x.failure(); err != nil {
		return err
	}
	x.mu.Lock()
	x.move(verifying)
	x.mu.Unlock()
	x.send(program.Command{Type: program.TypeVerify, Members: x.members()})
	if err := x.await(ctx, idle, 0, ""); err != nil {
		if ctx.Err() != nil {
			x.fail(fmt.Errorf("verify did not end: %w", context.Cause(ctx)))
		}
		return x.failure()
	}
	return nil
}

// Acked is the number of acknowledged operations.
func (x *external) Acked() int64 { return x.hist.acked() }

// Close ends the program, by the end of its input and, when that is not enough, by SIGKILL, and records the figures.
func (x *external) Close() error {
	x.mu.Lock()
	again := x.closed
	x.closed = true
	x.mu.Unlock()
	if again {
		return nil
	}
	var errs []error
	if x.exited != nil {
		x.in.close()
		t := time.NewTimer(exitGrace)
		select {
		case <-x.exited:
		case <-t.C: // a program that does not end by itself has done its work all the same
		}
		t.Stop()
		x.kill()
		<-x.exited
		errs = append(errs, x.log.Close())
	}
	x.mu.Lock()
	err := x.err
	x.mu.Unlock()
	return errors.Join(append(errs, x.hist.end(err))...)
}

// command is the start command.
func (x *external) command() program.Command {
	c := program.Command{
		Type: program.TypeStart, Version: program.Version,
		Name: x.w.Name, Run: x.env.RunID, Round: x.env.Round, Seed: x.w.Seed, To: x.w.To,
		Timeout: int64(x.w.Timeout),
	}
	ports := map[string]int{}
	for _, s := range x.env.Cluster.Spec().Services {
		if len(s.Expose) > 0 {
			ports[s.Name] = s.Expose[0]
		}
	}
	for _, n := range x.env.Cluster.Nodes() {
		node := program.Node{Name: n.Name, Service: n.Service, Group: n.Group, Zone: n.Zone, Port: ports[n.Service]}
		if n.Addr.IsValid() {
			node.Address = n.Addr.String()
		}
		c.Nodes = append(c.Nodes, node)
	}
	return c
}

// members are the nodes that verify is to read: those of `to`, or all, whose program runs.
func (x *external) members() []string {
	out := []string{}
	for _, n := range x.env.Cluster.Nodes() {
		if to := x.w.To; to != "" && to != n.Service && to != n.Group && to != n.Name {
			continue
		}
		if s, err := x.env.Cluster.Status(n.Name); err == nil && (s.State == cluster.StateRunning || s.State == cluster.StatePaused) {
			out = append(out, n.Name)
		}
	}
	return out
}

func (x *external) send(c program.Command) {
	b, err := json.Marshal(c)
	if err != nil {
		x.fail(fmt.Errorf("writing a command: %w", err))
		return
	}
	x.in.add(append(b, '\n'))
}

// move changes the state; mu is held.
func (x *external) move(s state) {
	x.state = s
	close(x.moved)
	x.moved = make(chan struct{})
}

// fail keeps the first error and ends the program.
func (x *external) fail(err error) {
	x.mu.Lock()
	if x.err == nil {
		x.err = err
		x.move(idle)
	}
	x.mu.Unlock()
	if x.kill != nil {
		x.kill()
	}
}

// failure is the first error, with the workload's name.
func (x *external) failure() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		return nil
	}
	return fmt.Errorf("workload %s: %w", x.w.Name, x.err)
}

// lastWords is what the program said last on its standard error, to stand after an error.
func (x *external) lastWords() string {
	if s := x.tail.last(); s != "" {
		return fmt.Sprintf("; logs/%s.workload.log ends with: %s", x.w.Name, s)
	}
	return ""
}

// await waits until the state is want, something failed or ctx ended; limit 0 is none. A want of "" waits for the latter two.
func (x *external) await(ctx context.Context, want state, limit time.Duration, late string) error {
	var timer <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		timer = t.C
	}
	for {
		x.mu.Lock()
		reached, failed, moved := x.state == want, x.err != nil, x.moved
		x.mu.Unlock()
		if failed {
			return x.failure()
		}
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("workload %s: %w", x.w.Name, context.Cause(ctx))
		case <-timer:
			x.fail(fmt.Errorf(late+"%s", limit, x.lastWords()))
		}
	}
}

// line takes a line of the program's output, number n from 1.
func (x *external) line(n int, b []byte, problem error) {
	at := time.Now()
	x.mu.Lock()
	over := x.closed || x.err != nil
	x.mu.Unlock()
	if over {
		return
	}
	err := problem
	if err == nil {
		var m program.Message
		if m, err = program.Parse(b); err == nil {
			err = x.take(m, at)
		}
	}
	if err != nil {
		x.fail(fmt.Errorf("line %d of the program's output: %w: %s", n, err, clip(b)))
	}
}

// take acts on a message that came at a moment.
func (x *external) take(m program.Message, at time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	unexpected := func() error { return fmt.Errorf("%s comes when %s is expected", m.Type, x.state) }
	switch m.Type {
	case program.TypeHello:
		if x.state != awaitHello {
			return unexpected()
		}
		x.move(idle)
	case program.TypeError:
		return errors.New("the program gave up")
	case program.TypeDone:
		if x.state != stopping && x.state != verifying {
			return unexpected()
		}
		x.move(idle)
	case program.TypeOp:
		if x.state == awaitHello || x.state == idle || (m.Op == program.Read) != (x.state == verifying) {
			return unexpected()
		}
		o, err := x.operation(m, at)
		if err != nil {
			return err
		}
		x.hist.add(o)
	}
	return nil
}

// operation turns a message into a row of the history. The program's times are wall clock; they become offsets by way of the
// moment of receipt, for which both clocks are known, so that a step of the wall clock does not stay in the record.
func (x *external) operation(m program.Message, at time.Time) (record.Op, error) {
	call, ret := at.Add(time.Duration(m.Call-at.UnixNano())), at.Add(time.Duration(m.Return-at.UnixNano()))
	if d := x.begun.Sub(call); d > clockSlack {
		return record.Op{}, fmt.Errorf("it was called %v before the start; are these nanoseconds of Unix time, from this machine's clock", d)
	}
	if d := ret.Sub(at); d > clockSlack {
		return record.Op{}, fmt.Errorf("it returned %v after it was received; are these nanoseconds of Unix time, from this machine's clock", d)
	}
	return record.Op{
		Client: m.Client, Kind: m.Op, Key: m.Key, Value: m.Value, Old: m.Old, Found: m.Found, Count: m.Count,
		Call: x.env.Record.At(call), Return: x.env.Record.At(ret),
		Outcome: record.Outcome(m.Outcome), Verify: m.Op == program.Read, Member: m.Member, Error: m.Error,
	}, nil
}

// lines cuts what is written to it into lines.
type lines struct {
	handle func(n int, line []byte, problem error)

	mu   sync.Mutex
	n    int
	part []byte
	long bool // the present line is too long, and was reported
}

// Write is io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		rest = after
		if !l.long {
			l.part = append(l.part, line...)
		}
		if len(l.part) > program.MaxLine && !l.long {
			l.long = true
			l.handle(l.n+1, l.part, fmt.Errorf("it has more than %d bytes", program.MaxLine))
			l.part = nil
		}
		if !whole {
			break
		}
		l.n++
		if !l.long {
			l.handle(l.n, l.part, nil)
		}
		l.part, l.long = l.part[:0], false
	}
	return len(p), nil
}

// flush reports a last line without an end.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 && !l.long {
		l.handle(l.n+1, l.part, errors.New("it was cut off"))
	}
}

// commands is the program's input: a queue without bound, so that a program that does not read cannot hold the harness up.
type commands struct {
	once sync.Once
	mu   sync.Mutex
	more *sync.Cond
	buf  []byte
	end  bool
}

func (c *commands) init() { c.once.Do(func() { c.more = sync.NewCond(&c.mu) }) }

func (c *commands) add(b []byte) {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = append(c.buf, b...)
	c.more.Broadcast()
}

func (c *commands) close() {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = true
	c.more.Broadcast()
}

// Read is io.Reader.
func (c *commands) Read(p []byte) (int, error) {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.buf) == 0 && !c.end {
		c.more.Wait()
	}
	if len(c.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.buf)
	c.buf = c.buf[n:]
	return n, nil
}

// tail keeps the end of what a program wrote to its standard error.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 2048

// Write is io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailSize {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-tailSize:]...)
	}
	return len(p), nil
}

// last is the last lines, on one.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ls := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	return strings.Join(ls[max(0, len(ls)-3):], " | ")
}
