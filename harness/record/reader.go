package record

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
)

// Run is a run directory, read. Requests and histories are read when they are asked for, once for all rounds, and kept.
type Run struct {
	Dir      string
	Meta     Meta
	Plan     *plan.Plan
	Events   []Event // in the order of time
	Rounds   []*Round
	Complete bool // the event run.end is there, and no write had failed
	Torn     int  // lines of events.jsonl that were cut off; Lost tells of the other files
	// Metrics of the run; nil when it has none. Whoever opened the run sets it.
	Metrics Metrics

	expected map[string]int // rows by file, as run.end says

	mu           sync.Mutex
	requests     map[string]*parts[Request]
	histories    map[string]*parts[Op]
	leaders      *parts[LeaderPoll]
	readiness    *parts[Readiness]
	calls        *parts[Call]
	surroundings *parts[Surroundings]
}

// parts are the rows of a file by round.
type parts[T any] struct {
	byRound map[int][]T
	rows    int
	torn    int
	err     error
}

// Open reads a run directory.
func Open(dir string) (*Run, error) {
	r := &Run{Dir: dir, requests: map[string]*parts[Request]{}, histories: map[string]*parts[Op]{}}
	if err := readJSON(dir, metaFile, Version, &r.Meta); err != nil {
		return nil, err
	}
	r.Plan = &plan.Plan{}
	if err := readJSON(dir, planFile, plan.Version, r.Plan); err != nil {
		return nil, err
	}
	events, torn, err := readLines[Event](filepath.Join(dir, eventsFile))
	if err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	r.Events, r.Torn = events, torn
	// Several goroutines observe: an event may be written after one that came later.
	slices.SortStableFunc(r.Events, func(a, b Event) int { return cmp.Compare(a.T, b.T) })
	byRound := map[int][]Event{}
	for _, e := range r.Events {
		if e.Kind == RunEnd {
			r.Complete = e.Error == ""
			var d EndData
			if json.Unmarshal(e.Data, &d) == nil {
				r.expected = d.Rows
			}
		}
		if e.Round > 0 {
			byRound[e.Round] = append(byRound[e.Round], e)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(byRound)) {
		r.Rounds = append(r.Rounds, &Round{N: n, Events: byRound[n], run: r})
	}
	return r, nil
}

// readJSON reads a file that carries a version, and says what to do about another one.
func readJSON(dir, name string, version int, v any) error {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not a run directory, or its run ended before it began: %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	var head struct {
		Version int    `json:"version"`
		Tool    string `json:"tool"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Join(dir, name), err)
	}
	if head.Version != version {
		by := "the gauntlet that wrote it"
		if head.Tool != "" {
			by += " (" + head.Tool + ")"
		}
		return fmt.Errorf("%s has version %d of its format and this program reads version %d: read it with %s",
			filepath.Join(dir, name), head.Version, version, by)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// readLines reads a file of JSON lines. A file that is not there has none; lines that are no objects of the right
// shape are counted.
func readLines[T any](path string) (rows []T, torn int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	br := bufio.NewReaderSize(f, 1<<16)
	for {
		line, err := readLine(br)
		if err == io.EOF {
			return rows, torn, nil
		}
		if err != nil {
			return rows, torn, err
		}
		var v T
		if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &v) != nil {
			torn++
			continue
		}
		rows = append(rows, v)
	}
}

// split sorts rows and cuts them by round, without copying them.
func split[T any](rows []T, torn int, err error, round func(*T) int, order func(a, b *T) int) *parts[T] {
	p := &parts[T]{byRound: map[int][]T{}, rows: len(rows), torn: torn, err: err}
	compare := func(a, b T) int {
		if c := cmp.Compare(round(&a), round(&b)); c != 0 {
			return c
		}
		return order(&a, &b)
	}
	if !slices.IsSortedFunc(rows, compare) {
		slices.SortStableFunc(rows, compare)
	}
	for from := 0; from < len(rows); {
		n := round(&rows[from])
		to := from + 1
		for to < len(rows) && round(&rows[to]) == n {
			to++
		}
		p.byRound[n] = rows[from:to:to]
		from = to
	}
	return p
}

func (r *Run) load(name string) *parts[Request] {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.requests[name]
	if !ok {
		bin, side := requestFiles(name)
		rows, torn, err := readRequests(filepath.Join(r.Dir, bin), filepath.Join(r.Dir, side), r.Meta.Start, r.expected[bin])
		p = split(rows, torn, err, func(q *Request) int { return q.Round }, func(a, b *Request) int {
			return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Seq, b.Seq))
		})
		r.requests[name] = p
	}
	return p
}

func (r *Run) history(name string) *parts[Op] {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.histories[name]
	if !ok {
		rows, torn, err := readLines[Op](filepath.Join(r.Dir, historyFile(name)))
		p = split(rows, torn, err, func(o *Op) int { return o.Round }, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
		r.histories[name] = p
	}
	return p
}

func (r *Run) polls() *parts[LeaderPoll] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaders == nil {
		rows, torn, err := readLines[LeaderPoll](filepath.Join(r.Dir, leadersFile))
		r.leaders = split(rows, torn, err, func(p *LeaderPoll) int { return p.Round }, func(a, b *LeaderPoll) int { return cmp.Compare(a.T, b.T) })
	}
	return r.leaders
}

func (r *Run) changes() *parts[Readiness] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readiness == nil {
		rows, torn, err := readLines[Readiness](filepath.Join(r.Dir, readinessFile))
		r.readiness = split(rows, torn, err, func(p *Readiness) int { return p.Round }, func(a, b *Readiness) int { return cmp.Compare(a.T, b.T) })
	}
	return r.readiness
}

// Lost reads every file of the plan's loads and workloads, the polls and the readiness, and says which of them lost rows, one
// sentence each. A record that was cut off lost what was not flushed, which nobody can count.
func (r *Run) Lost() []string {
	var lost []string
	check := func(file string, rows, torn int, err error) {
		want, counted := r.expected[file]
		switch {
		case err != nil:
			lost = append(lost, fmt.Sprintf("%s cannot be read: %v", file, err))
		case counted && rows != want:
			lost = append(lost, fmt.Sprintf("%s has %d of the %d rows that were written", file, rows, want))
		case torn > 0:
			lost = append(lost, fmt.Sprintf("%s has %d torn rows", file, torn))
		}
	}
	if r.Torn > 0 {
		lost = append(lost, fmt.Sprintf("%s has %d torn rows", eventsFile, r.Torn))
	}
	for _, l := range r.Plan.Loads {
		p := r.load(l.Name)
		check(RequestFile(l.Name), p.rows, p.torn, p.err)
	}
	for _, w := range r.Plan.Workloads {
		p := r.history(w.Name)
		check(HistoryFile(w.Name), p.rows, p.torn, p.err)
	}
	p := r.polls()
	check(leadersFile, p.rows, p.torn, p.err)
	c := r.changes()
	check(readinessFile, c.rows, c.torn, c.err)
	k := r.callRows()
	check(callsFile, k.rows, k.torn, k.err)
	s := r.surroundingRows()
	check(surroundingsFile, s.rows, s.torn, s.err)
	return lost
}

// RequestFile, HistoryFile, LeadersFile and EventsFile are paths in a run directory, for evidence.
func RequestFile(load string) string { bin, _ := requestFiles(load); return bin }

// HistoryFile is the file of a workload's operations.
func HistoryFile(workload string) string { return historyFile(workload) }

// LeadersFile is the file of polls of leaders.
func LeadersFile() string { return leadersFile }

// EventsFile is the file of events.
func EventsFile() string { return eventsFile }

// Round is one round of a Run.
type Round struct {
	N      int
	Events []Event // of this round

	run *Run
}

// Run is the run that the round belongs to.
func (r *Round) Run() *Run { return r.run }

// Requests of a load in this round, in the order of their due times. The rows are shared: do not change them.
func (r *Round) Requests(load string) ([]Request, error) {
	p := r.run.load(load)
	return p.byRound[r.N], p.err
}

// History of a workload in this round, in the order of call times. The rows are shared: do not change them.
func (r *Round) History(workload string) ([]Op, error) {
	p := r.run.history(workload)
	return p.byRound[r.N], p.err
}

// Leaders returns the polls of a group in this round, in the order of time.
func (r *Round) Leaders(group string) ([]LeaderPoll, error) {
	p := r.run.polls()
	var polls []LeaderPoll
	for _, q := range p.byRound[r.N] {
		if q.Group == group {
			polls = append(polls, q)
		}
	}
	return polls, p.err
}

// Readiness returns the changes of readiness of this round, in the order of time. The rows are shared: do not change them.
func (r *Round) Readiness() ([]Readiness, error) {
	p := r.run.changes()
	return p.byRound[r.N], p.err
}

// Phase returns the window of a phase, or ok false when the round never reached it. A phase that never ended ends
// with the round's last event.
func (r *Round) Phase(name string) (from, to time.Duration, ok bool) {
	for _, e := range r.Events {
		switch {
		case e.Phase != name:
		case e.Kind == PhaseBegin && !ok:
			from, ok = e.T, true
			to = r.Events[len(r.Events)-1].T
		case e.Kind == PhaseEnd && ok:
			return from, e.T, true
		}
	}
	return from, to, ok
}

// Ended reports whether the phase came to its end, and was not cut off.
func (r *Round) Ended(phase string) bool {
	return slices.ContainsFunc(r.Events, func(e Event) bool { return e.Kind == PhaseEnd && e.Phase == phase && e.Error == "" })
}

// Moment returns the time of a step in the life of a fault's first occurrence.
func (r *Round) Moment(ref plan.EventRef) (time.Duration, bool) {
	kind := EventKind("fault." + string(ref.Event))
	for _, e := range r.Events {
		if e.Kind == kind && e.Fault == ref.Fault && e.Occurrence <= 1 {
			return e.T, true
		}
	}
	return 0, false
}
