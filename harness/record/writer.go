package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// flushEvery bounds what a SIGKILL of the harness can lose of requests, operations and polls. Events lose nothing.
const flushEvery = 100 * time.Millisecond

// maxPending is the number of rows of one file that wake the flusher before its time, so that memory stays bounded
// under any rate.
const maxPending = 1 << 15

// Writer writes a run directory as the run goes on. Its methods may be called from several goroutines. A failed write
// is kept and returned by Close; the methods themselves return nothing, so that a full disk does not change what the
// engine does before it can undo its faults.
//
// Rows of requests, operations and polls are queued and encoded by a goroutine of the Writer's own, off the path of the
// load; Close waits for it.
type Writer struct {
	dir   string
	start time.Time // with its monotonic reading
	wall  time.Time // the same moment as meta.json has it
	round atomic.Int64

	eventsMu sync.Mutex // orders events: the offset is taken under it
	events   *appendFile

	queues       sync.Mutex // guards the three maps, not their queues
	requests     map[string]*queue[Request]
	history      map[string]*queue[Op]
	all          []flusher
	leaders      *queue[LeaderPoll]
	ready        *queue[Readiness]
	calls        *queue[Call]
	surroundings *queue[Surroundings]

	onRequest atomic.Pointer[func(load string, r Request)]

	flushing sync.Mutex // one flush at a time
	wake     chan struct{}
	stop     chan struct{}
	done     chan struct{}
	closed   atomic.Bool

	errMu sync.Mutex
	err   error
}

// flusher is a queue, whatever its rows are.
type flusher interface {
	flush() error
	close() error
	name() string
	rows() int
}

// Create makes the directory and writes meta.json, with Start and Version filled, and plan.json. The run's clock starts here. The
// directory must not hold a record yet.
func Create(dir string, m Meta, p *plan.Plan) (*Writer, error) {
	if p == nil {
		return nil, errors.New("creating a record: there is no plan")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating the run directory: %w", err)
	}
	// Whoever creates events.jsonl owns the directory. meta.json comes last: where it is, the rest is.
	f, err := os.OpenFile(filepath.Join(dir, eventsFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s holds a record already; choose another directory or remove it: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("creating the record: %w", err)
	}
	start := time.Now()
	m.Version, m.Start = Version, start.Round(0).UTC()
	err = errors.Join(writeJSON(filepath.Join(dir, planFile), p), writeJSON(filepath.Join(dir, metaFile), m))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating the record: %w", err), f.Close())
	}
	w := &Writer{
		dir: dir, start: start, wall: m.Start,
		events:   &appendFile{f: f},
		requests: map[string]*queue[Request]{}, history: map[string]*queue[Op]{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	w.leaders = newQueue(w, leadersFile, lines[LeaderPoll](filepath.Join(dir, leadersFile)))
	w.ready = newQueue(w, readinessFile, lines[Readiness](filepath.Join(dir, readinessFile)))
	w.calls = newQueue(w, callsFile, lines[Call](filepath.Join(dir, callsFile)))
	w.surroundings = newQueue(w, surroundingsFile, lines[Surroundings](filepath.Join(dir, surroundingsFile)))
	w.all = []flusher{w.leaders, w.ready, w.calls, w.surroundings}
	go w.run()
	return w, nil
}

// writeJSON writes a file in one step, so that a reader finds all of it or nothing.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", filepath.Base(path), err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// run flushes until Close.
func (w *Writer) run() {
	defer close(w.done)
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-t.C:
		case <-w.wake:
		}
		w.flush()
	}
}

// flush writes what is queued.
func (w *Writer) flush() {
	w.flushing.Lock()
	defer w.flushing.Unlock()
	for _, q := range w.snapshot() {
		w.keep(q.flush())
	}
}

func (w *Writer) snapshot() []flusher {
	w.queues.Lock()
	defer w.queues.Unlock()
	return append([]flusher(nil), w.all...)
}

// Dir is the run directory.
func (w *Writer) Dir() string { return w.dir }

// Start is the wall clock of offset 0, as meta.json has it.
func (w *Writer) Start() time.Time { return w.wall }

// Now is the offset of this moment.
func (w *Writer) Now() time.Duration { return time.Since(w.start) }

// At is the offset of a moment with a monotonic reading.
func (w *Writer) At(t time.Time) time.Duration { return t.Sub(w.start) }

// SetRound sets the round that is written where a row leaves it out.
func (w *Writer) SetRound(n int) { w.round.Store(int64(n)) }

// Event writes an event, at once. A zero T is this moment, unless Kind is RunBegin. RunBegin and RunEnd belong to no round.
//
// RunEnd first writes everything that is queued, then itself with the number of rows of each file. Where a write failed it
// says so in Error, and the record does not count as complete.
func (w *Writer) Event(e Event) {
	if w.closed.Load() {
		w.keep(fmt.Errorf("event %s came after the record was closed", e.Kind))
		return
	}
	switch {
	case e.Kind == RunBegin, e.Kind == RunEnd:
	case e.Round == 0:
		e.Round = int(w.round.Load())
	}
	if (e.Kind == RoundBegin || e.Kind == RoundEnd) && e.Data == nil {
		e.Data = w.logMark()
	}
	if e.Kind == RunEnd {
		w.flush()
		e.Data = w.endData()
		if err := w.Err(); err != nil {
			e.Error = err.Error()
		}
	}
	w.eventsMu.Lock()
	defer w.eventsMu.Unlock()
	if e.T == 0 && e.Kind != RunBegin {
		e.T = w.Now()
	}
	b, err := json.Marshal(e)
	if err != nil { // only Data can be at fault: it is somebody else's JSON
		w.keep(fmt.Errorf("encoding the data of event %s: %w", e.Kind, err))
		e.Data = nil
		if b, err = json.Marshal(e); err != nil {
			w.keep(fmt.Errorf("encoding event %s: %w", e.Kind, err))
			return
		}
	}
	w.keep(w.events.append(append(b, '\n')))
}

func (w *Writer) endData() json.RawMessage {
	d := EndData{Rows: map[string]int{}}
	for _, q := range w.snapshot() {
		if n := q.rows(); n > 0 {
			d.Rows[q.name()] = n
		}
	}
	b, err := json.Marshal(d)
	w.keep(err)
	return b
}

// Request writes a request of a load.
func (w *Writer) Request(load string, r Request) {
	if r.Round == 0 {
		r.Round = int(w.round.Load())
	}
	w.requestLog(load).add(r)
	if f := w.onRequest.Load(); f != nil {
		(*f)(load, r)
	}
}

// OnRequest has f told of every request that is written from now on. f is called from several goroutines, on the path
// of the load: it must be quick.
func (w *Writer) OnRequest(f func(load string, r Request)) { w.onRequest.Store(&f) }

// requestLog and historyLog find a queue by a short critical section; their files are created by the first flush.
func (w *Writer) requestLog(load string) *queue[Request] {
	w.queues.Lock()
	defer w.queues.Unlock()
	q, ok := w.requests[load]
	if !ok {
		bin, side := requestFiles(load)
		q = newQueue(w, bin, &requestSink{
			load: load, wall: w.wall,
			binPath: filepath.Join(w.dir, bin), sidePath: filepath.Join(w.dir, side),
		})
		w.requests[load] = q
		w.all = append(w.all, q)
	}
	return q
}

func (w *Writer) historyLog(workload string) *queue[Op] {
	w.queues.Lock()
	defer w.queues.Unlock()
	q, ok := w.history[workload]
	if !ok {
		name := historyFile(workload)
		q = newQueue(w, name, lines[Op](filepath.Join(w.dir, name)))
		w.history[workload] = q
		w.all = append(w.all, q)
	}
	return q
}

// Op writes an operation of a workload.
func (w *Writer) Op(workload string, o Op) {
	if o.Round == 0 {
		o.Round = int(w.round.Load())
	}
	w.historyLog(workload).add(o)
}

// Leader writes a poll.
func (w *Writer) Leader(p LeaderPoll) {
	if p.Round == 0 {
		p.Round = int(w.round.Load())
	}
	w.leaders.add(p)
}

// Ready writes a change of readiness.
func (w *Writer) Ready(r Readiness) {
	if r.Round == 0 {
		r.Round = int(w.round.Load())
	}
	w.ready.add(r)
}

func (w *Writer) keep(err error) {
	if err == nil {
		return
	}
	w.errMu.Lock()
	defer w.errMu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("writing the record: %w", err)
	}
}

// Err is the first write that failed.
func (w *Writer) Err() error {
	w.errMu.Lock()
	defer w.errMu.Unlock()
	return w.err
}

// Close flushes everything and returns the first error. It may be called twice.
func (w *Writer) Close() error {
	if w.closed.Swap(true) {
		<-w.done
		return w.Err()
	}
	close(w.stop)
	<-w.done
	w.flush()
	w.flushing.Lock()
	defer w.flushing.Unlock()
	for _, q := range w.snapshot() {
		w.keep(q.close())
	}
	w.eventsMu.Lock()
	defer w.eventsMu.Unlock()
	w.keep(w.events.f.Close())
	return w.Err()
}
