// Package load sends open-loop streams of HTTP requests or gRPC calls: each request is due at a moment that was fixed before the
// start, whatever became of the ones before it, and its latency counts from then. Slow answers do not slow the stream down, so a
// stall of the service shows in full (no coordinated omission).
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// DefaultTimeout is the timeout of a request whose load names none.
const DefaultTimeout = 5 * time.Second

// maxBody is how much of an answer is kept for `expect`; all of it is read.
const maxBody = 1 << 20

// Recorder is the part of a record.Writer that a load writes to.
type Recorder interface {
	At(t time.Time) time.Duration
	Request(load string, r record.Request)
	Event(e record.Event)
}

// Env is what a load needs of the run.
type Env struct {
	Cluster replicas.Topology
	Record  Recorder
	Round   int
	RunID   string                                  // unique among runs
	Ready   func(service string) []cluster.NodeInfo // the nodes of a service that are ready now; nil: none is known to be
	Phase   func() string                           // the phase that runs now; nil: none
}

// Generator sends one load.
type Generator struct {
	load  plan.Load
	env   Env
	sched *Schedule
	src   source
	tr    sender
	alarm func() *alarm

	sent    atomic.Uint64 // requests begun
	running sync.Mutex    // guards pacer and changed
	pacer   *pacer        // nil before Run
	changed bool          // by a fault

	recent recent // by when they were due
	ended  recent // by when they ended

	lag   *hdrhistogram.Histogram // microseconds
	stats record.GeneratorStats
}

// New checks a load against the topology. Nothing is sent before Run.
func New(l plan.Load, e Env) (*Generator, error) {
	g := &Generator{load: l, env: e, alarm: sharpAlarm, lag: hdrhistogram.New(1, time.Hour.Microseconds(), 3)}
	if e.Phase == nil {
		g.env.Phase = func() string { return "" }
	}
	if l.Timeout == 0 {
		g.load.Timeout = plan.Duration(DefaultTimeout)
	}
	var errs []error
	var err error
	if g.sched, err = NewSchedule(l.Stages); err != nil {
		errs = append(errs, err)
	}
	if l.Timeout < 0 {
		errs = append(errs, fmt.Errorf("a timeout of %v", l.Timeout))
	}
	// Every id of the run is another one: rounds share the service's volumes.
	prefix := fmt.Sprintf("%s-%s-%d-", e.RunID, l.Name, e.Round)
	switch {
	case l.GRPC != nil && (l.Targets != "" || len(l.Requests) == 0):
		errs = append(errs, errors.New("a load of gRPC calls needs requests"))
	case l.Targets != "" && len(l.Requests) > 0:
		errs = append(errs, errors.New("it has both requests and targets; give one of them"))
	case l.Targets != "":
		var t *targets
		if t, err = readTargets(l.Targets, prefix); err == nil {
			g.src = t
		}
		errs = append(errs, err)
	case len(l.Requests) > 0:
		var t *templates
		rs := l.Requests
		if l.GRPC != nil {
			rs = httpForm(rs)
		}
		if t, err = newTemplates(rs, mix(l.Seed, uint64(e.Round)), prefix); err == nil {
			g.src = t
		}
		errs = append(errs, err)
	default:
		errs = append(errs, errors.New("it has neither requests nor targets"))
	}
	set, err := replicas.New(e.Cluster, l.To, l.Port, e.Ready)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("load %s: %w", l.Name, err)
	}
	if l.GRPC == nil {
		g.tr = newTransport(g.src, set, g.load)
		return g, nil
	}
	if g.tr, err = newCalls(g.load, g.src.(*templates), set); err != nil {
		return nil, fmt.Errorf("load %s: %w", l.Name, err)
	}
	return g, nil
}

// Run sends from now on. It returns when ctx was cancelled, every request was answered or timed out, all of it was recorded and
// no connection is open. It may be called once.
func (g *Generator) Run(ctx context.Context) error {
	defer g.tr.close()
	// A session's nice value is that of everything in it. In go test that is the compiler too, which would go before every node.
	defer keepPunctual(!testing.Testing())()
	client := &http.Client{Transport: counted{g.tr, &g.sent}}
	// Workers stay unlimited: with a maximum, vegeta counts latency from when a worker was free and hides the wait.
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.MaxBody(maxBody))
	target := func(t *vegeta.Target) error {
		t.Method, t.URL = http.MethodGet, placeholder
		return nil
	}
	wake := g.alarm()
	defer wake.close()
	p := newPacer(ctx, g.sched, wake, g.env.Phase)
	g.running.Lock()
	g.pacer = p
	g.running.Unlock()
	g.recent.begin(p.start)
	g.ended.begin(p.start)
	// Results are taken as they come: a result that waits holds its worker, and vegeta starts another one.
	for r := range attacker.Attack(target, p, 0, "") {
		g.record(p, r)
	}
	g.stats.Missed = p.missed
	return g.summarise()
}

func (g *Generator) record(p *pacer, r *vegeta.Result) {
	due := p.due(r.Seq)
	dueAt := p.start.Add(due)
	call := g.tr.done(r.Seq)
	kind, expect := g.src.kind(r.Seq)
	q := record.Request{
		Seq:        r.Seq,
		Round:      g.env.Round,
		Phase:      p.phaseOf(r.Seq),
		Request:    kind,
		ID:         g.src.id(r.Seq),
		Due:        g.env.Record.At(dueAt),
		Sent:       g.env.Record.At(r.Timestamp),
		Done:       g.env.Record.At(r.Timestamp.Add(r.Latency)), // vegeta's Latency starts when a worker took the request
		Code:       int(r.Code),
		Node:       call.node,
		Outcome:    call.outcome,
		RetryAfter: call.retryAfter,
		GRPC:       call.grpc,
		BytesIn:    call.got,
		BytesOut:   uint64(call.bytes),
	}
	switch {
	case r.Code == 0:
		q.Error = reason(r.Error, g.load.Timeout.D())
	case g.load.GRPC != nil:
		q.Error = expect.judgeCall(call, r.Body)
	default:
		q.Error = expect.judge(q.Code, r.Body)
	}
	q.OK = q.Error == ""
	g.env.Record.Request(g.load.Name, q)
	g.recent.add(due, q.OK)
	g.ended.add(r.Timestamp.Add(r.Latency).Sub(p.start), q.OK)

	lag := max(0, r.Timestamp.Sub(dueAt))
	g.stats.Requests++
	g.stats.LagMax = max(g.stats.LagMax, lag)
	// Out of range is an hour: LagMax says so.
	_ = g.lag.RecordValue(min(lag.Microseconds(), time.Hour.Microseconds()))
}

// summarise records the generator's own figures, by which the run is judged fit to be judged.
func (g *Generator) summarise() error {
	g.stats.LagP50 = time.Duration(g.lag.ValueAtQuantile(50)) * time.Microsecond
	g.stats.LagP99 = time.Duration(g.lag.ValueAtQuantile(99)) * time.Microsecond
	data, err := json.Marshal(g.stats)
	if err != nil {
		return fmt.Errorf("load %s: writing its figures: %w", g.load.Name, err)
	}
	g.env.Record.Event(record.Event{Round: g.env.Round, Kind: record.LoadSummary, ID: g.load.Name, Data: data})
	return nil
}

// Stats are the generator's own figures; complete once Run has returned.
func (g *Generator) Stats() record.GeneratorStats { return g.stats }

// Success returns the share of good answers among the requests that were due in the last d and have ended, and how
// many these were. The window has the grain of its buckets, 50 ms.
func (g *Generator) Success(d plan.Duration) (share float64, n int) { return g.recent.success(d.D()) }

// Ended is the same of the requests that ended in the last d, whenever they were due: one that fails by its timeout may have
// been due long before.
func (g *Generator) Ended(d plan.Duration) (share float64, n int) { return g.ended.success(d.D()) }

// recent counts answers by a moment of their requests.
type recent struct {
	mu      sync.Mutex
	start   time.Time
	buckets []counts
}

type counts struct{ good, all uint32 }

const grain = 50 * time.Millisecond

func (w *recent) begin(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start = t
}

func (w *recent) add(at time.Duration, good bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := int(at / grain)
	for len(w.buckets) <= i {
		w.buckets = append(w.buckets, counts{})
	}
	w.buckets[i].all++
	if good {
		w.buckets[i].good++
	}
}

func (w *recent) success(d time.Duration) (float64, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.start.IsZero() {
		return math.NaN(), 0
	}
	from := int(math.Ceil(float64(time.Since(w.start)-d) / float64(grain)))
	var sum counts
	for _, c := range w.buckets[min(max(from, 0), len(w.buckets)):] {
		sum.good += c.good
		sum.all += c.all
	}
	if sum.all == 0 {
		return math.NaN(), 0
	}
	return float64(sum.good) / float64(sum.all), int(sum.all)
}
