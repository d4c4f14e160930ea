package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/require"
)

// fake is a cluster without processes: nodes are states, links are rules, and everything done to it is noted.
type fake struct {
	mu      sync.Mutex
	spec    *cluster.Spec
	states  map[string]cluster.State
	started map[string]time.Time
	rules   map[cluster.RuleID]fakeRule
	next    cluster.RuleID
	notes   []string
	observe func(cluster.Event)
	done    chan struct{}
	listens map[string]string // address -> node
	broken  map[string]error  // verb + " " + node -> the error it gives
	exec    func(ctx context.Context, node string, p cluster.Process) (cluster.Exit, error)
	left    []string
	away    map[string]bool   // nodes that were scaled away
	members map[string]string // node -> the loopback address that answers for it, whatever the port
	dir     string
	scale   func(service string, n int) error
}

type fakeRule struct {
	links []cluster.Link
	rule  cluster.Rule
}

// fakeDriver brings a fake up.
type fakeDriver struct {
	c    *fake
	caps cluster.Capabilities
	err  error
	opt  cluster.Options // of the last Up
}

func (d *fakeDriver) Name() string                       { return "fake" }
func (d *fakeDriver) Capabilities() cluster.Capabilities { return d.caps }
func (d *fakeDriver) Up(ctx context.Context, spec *cluster.Spec, opt cluster.Options) (cluster.Cluster, error) {
	d.opt = opt
	if d.err != nil {
		return nil, d.err
	}
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	d.c.spec, d.c.observe, d.c.dir = spec, opt.Observe, opt.Dir
	for _, n := range cluster.Planned(spec) {
		d.c.states[n.Name] = cluster.StateRunning
		d.c.started[n.Name] = time.Now()
	}
	return d.c, nil
}

func newFake() *fakeDriver {
	everything := cluster.Capabilities{}
	for _, c := range []cluster.Capability{cluster.PacketRules, cluster.PacketDelay, cluster.Toxics, cluster.Signals} {
		everything[c] = nil
	}
	return &fakeDriver{caps: everything, c: &fake{
		states: map[string]cluster.State{}, started: map[string]time.Time{}, rules: map[cluster.RuleID]fakeRule{},
		done: make(chan struct{}), listens: map[string]string{}, broken: map[string]error{},
		away: map[string]bool{}, members: map[string]string{},
	}}
}

func (f *fake) note(verb, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, verb+" "+node)
	return f.broken[verb+" "+node]
}

func (f *fake) Nodes() []cluster.NodeInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	ns := slices.DeleteFunc(cluster.Planned(f.spec), func(n cluster.NodeInfo) bool { return f.away[n.Name] })
	for i := range ns {
		ns[i].Log = f.log(ns[i].Name)
	}
	slices.SortFunc(ns, func(a, b cluster.NodeInfo) int { return cmpString(a.Name, b.Name) })
	return ns
}

func (f *fake) log(node string) string { return filepath.Join(f.dir, "logs", node+".log") }

// print appends to a node's log.
func (f *fake) print(t *testing.T, node, text string) {
	t.Helper()
	f.mu.Lock()
	path := f.log(node)
	f.mu.Unlock()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	w, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	_, err = w.WriteString(text)
	require.NoError(t, errors.Join(err, w.Close()))
}

func cmpString(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

func (f *fake) Spec() *cluster.Spec { return f.spec }
func (f *fake) Status(n string) (cluster.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.states[n]
	if !ok || f.away[n] {
		return cluster.Status{}, &cluster.UnknownNodeError{Name: n}
	}
	return cluster.Status{State: s, Ready: s == cluster.StateRunning, Started: f.started[n]}, nil
}

func (f *fake) set(n string, s cluster.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[n] = s
	if s == cluster.StateRunning {
		f.started[n] = time.Now()
	}
}

func (f *fake) Kill(_ context.Context, n string) (cluster.Exit, error) {
	err := f.note("kill", n)
	f.set(n, cluster.StateExited)
	return cluster.Exit{Code: -1, Signal: "SIGKILL", At: time.Now()}, err
}
func (f *fake) Start(_ context.Context, n string) error {
	err := f.note("start", n)
	if err == nil {
		f.set(n, cluster.StateRunning)
	}
	return err
}
func (f *fake) Stop(_ context.Context, n string) (cluster.Exit, error) {
	err := f.note("stop", n)
	f.set(n, cluster.StateExited)
	return cluster.Exit{}, err
}
func (f *fake) Restart(_ context.Context, n string, _ map[string]string) error {
	err := f.note("restart", n)
	f.set(n, cluster.StateRunning)
	return err
}
func (f *fake) Pause(_ context.Context, n string) error {
	err := f.note("pause", n)
	f.set(n, cluster.StatePaused)
	return err
}
func (f *fake) Resume(_ context.Context, n string) error {
	err := f.note("resume", n)
	if err == nil {
		f.set(n, cluster.StateRunning)
	}
	return err
}
func (f *fake) Signal(_ context.Context, n, sig, _ string) (int, error) {
	return 1, f.note("signal "+sig, n)
}
func (f *fake) AwaitReady(ctx context.Context, n string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states[n] != cluster.StateRunning {
		return fmt.Errorf("%s is %s", n, f.states[n])
	}
	return nil
}
func (f *fake) Hold(string) func() { return func() {} }

type fakeExecution struct {
	done chan struct{}
	exit cluster.Exit
	err  error
}

func (x *fakeExecution) Wait() (cluster.Exit, error) { <-x.done; return x.exit, x.err }
func (x *fakeExecution) Signal(string) error         { return nil }

func (f *fake) Exec(ctx context.Context, n string, p cluster.Process) (cluster.Execution, error) {
	if err := f.note("exec "+p.Argv[0], n); err != nil {
		return nil, err
	}
	x := &fakeExecution{done: make(chan struct{})}
	go func() {
		defer close(x.done)
		if f.exec != nil {
			x.exit, x.err = f.exec(ctx, n, p)
		}
	}()
	return x, nil
}

func (f *fake) Apply(_ context.Context, links []cluster.Link, r cluster.Rule) (cluster.RuleID, error) {
	if err := f.note("apply", links[0].String()); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	f.rules[f.next] = fakeRule{links, r}
	return f.next, nil
}
func (f *fake) Remove(_ context.Context, id cluster.RuleID) error {
	f.mu.Lock()
	l := f.rules[id].links[0]
	f.mu.Unlock()
	if err := f.note("remove", l.String()); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.rules, id)
	return nil
}

// Counters pretend that traffic went over every link since they were last asked.
func (f *fake) Counters(_ context.Context, id cluster.RuleID) ([]cluster.Counter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.rules[id]
	if !ok {
		return nil, &cluster.UnknownRuleError{ID: id}
	}
	f.next++
	var cs []cluster.Counter
	for _, l := range r.links {
		cs = append(cs, cluster.Counter{Link: l, Packets: uint64(f.next), Probes: 1})
	}
	return cs, nil
}
func (f *fake) Reset(context.Context, []cluster.Link) (int, error) { return 1, nil }
func (f *fake) Scale(_ context.Context, service string, n int) error {
	if f.scale != nil {
		return f.scale(service, n)
	}
	return nil
}
func (f *fake) Down(context.Context) ([]string, error) {
	f.note("down", "")
	return f.left, nil
}
func (f *fake) Done() <-chan struct{} { return f.done }
func (f *fake) Err() error            { return errors.New("it was ended") }

// Listen and Dial meet on loopback; a dropped link gives no answer.
func (f *fake) Listen(_ context.Context, n string) (net.Listener, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err == nil {
		f.mu.Lock()
		f.listens[l.Addr().String()] = n
		f.mu.Unlock()
	}
	return l, err
}
func (f *fake) Dial(ctx context.Context, from, network, addr string) (net.Conn, error) {
	f.mu.Lock()
	to := f.listens[addr]
	var dropped, rejected bool
	for _, r := range f.rules {
		for _, l := range r.links {
			if l.From == from && l.To == to || l.From == to && l.To == from {
				dropped = dropped || r.rule.Drop
				rejected = rejected || r.rule.Reject
			}
		}
	}
	f.mu.Unlock()
	switch {
	case dropped:
		<-ctx.Done()
		return nil, ctx.Err()
	case rejected:
		return nil, syscall.ECONNREFUSED
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}
func (f *fake) DialPlane(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	at, ok := f.members[host]
	f.mu.Unlock()
	if !ok {
		return nil, io.ErrUnexpectedEOF
	}
	var d net.Dialer
	return d.DialContext(ctx, network, at)
}

// three is a topology of three members and a front.
func three() *cluster.Spec {
	s := &cluster.Spec{Name: "three"}
	for _, n := range []string{"db-1", "db-2", "db-3"} {
		s.Services = append(s.Services, cluster.Service{Name: n, Replicas: 1, Group: "db"})
	}
	s.Services = append(s.Services, cluster.Service{Name: "api", Replicas: 2, Scaled: true})
	return s
}

// job runs a plan on the fake and returns what was recorded.
func job(t *testing.T, ctx context.Context, d cluster.Driver, p *plan.Plan) (*record.Run, error) {
	t.Helper()
	return jobWith(t, ctx, three(), Parts{Driver: d}, p)
}

func jobWith(t *testing.T, ctx context.Context, spec *cluster.Spec, parts Parts, p *plan.Plan) (*record.Run, error) {
	t.Helper()
	if p.Timeout == 0 {
		p.Timeout = plan.Duration(20 * time.Second)
	}
	dir := t.TempDir() + "/run"
	w, err := record.Create(dir, record.Meta{Tool: "test", Driver: "fake"}, p)
	require.NoError(t, err)
	runErr := Execute(ctx, Job{Plan: p, Spec: spec, Record: w, Parts: parts})
	require.NoError(t, w.Close())
	run, err := record.Open(dir)
	require.NoError(t, err)
	return run, runErr
}

// once is a fault with one occurrence.
func fault(id, kind, params string, at, dur time.Duration) plan.Fault {
	return plan.Fault{ID: id, Kind: kind, At: plan.Trigger{Offset: plan.Duration(at)},
		Occurrences: []plan.Occurrence{{For: plan.Duration(dur), Seed: 7, Params: []byte(params)}}}
}

func planOf(fs ...plan.Fault) *plan.Plan {
	return &plan.Plan{Version: plan.Version, Name: "test", Rounds: []plan.Round{{N: 1, Faults: fs}}}
}

// kinds lists a fault's events in order.
func kinds(r *record.Run, id string) (ks []record.EventKind) {
	for _, e := range r.Events {
		if e.Fault == id && e.Kind != record.Bound {
			ks = append(ks, e.Kind)
		}
	}
	return ks
}

func has(r *record.Run, k record.EventKind) *record.Event {
	for i := range r.Events {
		if r.Events[i].Kind == k {
			return &r.Events[i]
		}
	}
	return nil
}
