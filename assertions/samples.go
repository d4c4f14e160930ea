package assertions

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Source says whose answers are measured: the requests of a load or the operations of a workload.
type Source struct {
	Load     string `json:"load,omitempty" desc:"A load; or give workload."`
	Workload string `json:"workload,omitempty" desc:"A workload; or give load."`
	Request  string `json:"request,omitempty" desc:"Only this one: the id of a request of the load, or an operation of the workload (put, get, cas, insert). Left out: all."`
}

// operations are the kinds that a workload does under load.
var operations = []string{"put", "get", "cas", "insert"}

func (s Source) validate(scope Scope) error {
	switch {
	case s.Load == "" && s.Workload == "":
		return errors.New("load or workload is missing: say whose answers are meant")
	case s.Load != "" && s.Workload != "":
		return errors.New("load and workload exclude each other")
	case s.Workload != "":
		err := oneOf("workload", s.Workload, workloadNames(scope.Plan))
		if s.Request != "" {
			err = errors.Join(err, oneOf("operation", s.Request, operations))
		}
		return err
	}
	for _, l := range scope.Plan.Loads {
		if l.Name != s.Load {
			continue
		}
		if s.Request == "" || l.Targets != "" {
			return nil
		}
		var ids []string
		for _, q := range l.Requests {
			ids = append(ids, q.ID)
		}
		return oneOf("request of load "+s.Load, s.Request, ids)
	}
	return oneOf("load", s.Load, loadNames(scope.Plan))
}

// String is what the samples are called in summaries: "requests of orders (create)".
func (s Source) String() string {
	what := "requests of " + s.Load
	if s.Load == "" {
		what = "operations of " + s.Workload
	}
	if s.Request != "" {
		what += " (" + s.Request + ")"
	}
	return what
}

func (s Source) file() string {
	if s.Load != "" {
		return record.RequestFile(s.Load)
	}
	return record.HistoryFile(s.Workload)
}

// sample is one answer under judgement.
type sample struct {
	due     time.Duration // when the request was due, or the operation was called
	latency time.Duration // from then on
	ok      bool
	lag     time.Duration // the part of the latency that went by before the load sent the request; an operation has none
}

func sampleOf(q *record.Request) sample {
	return sample{q.Due, q.Latency(), q.OK, max(0, q.Sent-q.Due)}
}

// asSent is what samples would be had each request been sent when it was due.
func asSent(ss []sample) []sample {
	out := slices.Clone(ss)
	for i := range out {
		out[i].latency -= out[i].lag
	}
	return out
}

// lateness is the reason why what breaks a bound counted from the due time, and keeps it counted from when the requests were sent, is
// not held against the service. The premise of a punctual generator is about the whole round: a stall that is short there can fill
// a window. It is asked only of what is broken, so that no service passes by it.
func lateness(ss []sample) string {
	worst := time.Duration(0)
	for _, s := range ss {
		worst = max(worst, s.lag)
	}
	return fmt.Sprintf("the generator was late here, by up to %s; counted from when the requests were sent", seconds(worst))
}

// samples returns the answers to what was due in [w.From, w.To), in the order of time. Failed ones are among them, with the
// time they took: none is ever left out.
//
// An operation of a workload is due when it is called: workloads are closed loops, which ask less of a service that is
// slow. A compare-and-swap that the service answered with "the value is another one" is a good answer.
func (s Source) samples(r *record.Round, w Window) ([]sample, error) {
	if s.Load != "" {
		return s.requests(r, w)
	}
	ops, err := r.History(s.Workload)
	if err != nil {
		return nil, err
	}
	var out []sample
	for i := range ops {
		o := &ops[i]
		if o.Verify || o.Call < w.From || o.Call >= w.To || (s.Request != "" && o.Kind != s.Request) {
			continue
		}
		refused := o.Kind == "cas" && o.Outcome == record.Failed && o.Error == ""
		out = append(out, sample{due: o.Call, latency: o.Return - o.Call, ok: o.Outcome == record.OK || refused})
	}
	return out, nil
}

func (s Source) requests(r *record.Round, w Window) ([]sample, error) {
	all, err := r.Requests(s.Load)
	if err != nil {
		return nil, err
	}
	from := sort.Search(len(all), func(i int) bool { return all[i].Due >= w.From })
	to := max(from, sort.Search(len(all), func(i int) bool { return all[i].Due >= w.To }))
	out := make([]sample, 0, to-from)
	for i := from; i < to; i++ {
		q := &all[i]
		if s.Request == "" || q.Request == s.Request {
			out = append(out, sampleOf(q))
		}
	}
	return out, nil
}

// over returns the answers in several windows that do not overlap.
func (s Source) over(r *record.Round, ws []Window) ([]sample, error) {
	var all []sample
	for _, w := range ws {
		part, err := s.samples(r, w)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = part
			continue
		}
		all = append(all, part...)
	}
	return all, nil
}

// phases under load, by name.
var phases = []string{plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery}

// loaded is the time under load: from the beginning of the baseline to the end of recovery.
func loaded(r *record.Round) (Window, error) {
	from, _, ok := r.Phase(plan.PhaseBaseline)
	_, to, ended := r.Phase(plan.PhaseRecovery)
	if !ok || !ended {
		return Window{}, fmt.Errorf("the round did not get through its phases under load")
	}
	return Window{from, to}, nil
}

// inHand is how long before the first fault the baseline ends for judging: what is due later may still be in hand when
// the fault begins, and says nothing about a system that is whole. What takes longer than this in the baseline counts.
const inHand = 100 * time.Millisecond

func phase(r *record.Round, name string) (Window, error) {
	from, to, ok := r.Phase(name)
	if !ok {
		return Window{}, fmt.Errorf("the round did not reach the phase %s", name)
	}
	if name == plan.PhaseBaseline {
		if i := slices.IndexFunc(r.Events, func(e record.Event) bool { return e.Kind == record.FaultStarted }); i >= 0 {
			to = max(from, min(to, r.Events[i].T-inHand))
		}
	}
	return Window{from, to}, nil
}

// during returns the windows that a word means: nothing for the whole time under load, a phase, or a fault. A fault's
// windows go from the start of each of its occurrences to the moment it was undone, or, where there is nothing to undo, was over;
// one that is held goes to the end of recovery. Overlapping ones are one.
func during(word string, r *record.Round) ([]Window, error) {
	switch {
	case word == "":
		w, err := loaded(r)
		return []Window{w}, err
	case slices.Contains(phases, word):
		w, err := phase(r, word)
		return []Window{w}, err
	}
	all, err := loaded(r)
	if err != nil {
		return nil, err
	}
	var ws []Window
	open := map[int]int{} // occurrence -> index in ws
	for _, e := range r.Events {
		if e.Fault != word {
			continue
		}
		i, begun := open[e.Occurrence]
		switch {
		case e.Kind == record.FaultStarted && !begun:
			open[e.Occurrence] = len(ws)
			ws = append(ws, Window{e.T, max(e.T, all.To)})
		case (e.Kind == record.FaultUndone || e.Kind == record.FaultGone) && begun:
			ws[i].To = min(ws[i].To, e.T) // undone comes before gone
		}
	}
	if len(ws) == 0 {
		return nil, fmt.Errorf("the fault %s never began", word)
	}
	return union(ws), nil
}

// ofAll is what evidence adds that has the first of several windows.
func ofAll(ws []Window) string {
	if len(ws) == 1 {
		return ""
	}
	return fmt.Sprintf(", occurrence 1 of %d; count and values are of all", len(ws))
}

// union merges windows that overlap or touch.
func union(ws []Window) []Window {
	slices.SortFunc(ws, func(a, b Window) int { return int(a.From - b.From) })
	out := ws[:1]
	for _, w := range ws[1:] {
		if last := &out[len(out)-1]; w.From <= last.To {
			last.To = max(last.To, w.To)
		} else {
			out = append(out, w)
		}
	}
	return out
}

// within reports whether one of the windows has the moment in it.
func within(ws []Window, t time.Duration) bool {
	return slices.ContainsFunc(ws, func(w Window) bool { return t >= w.From && t < w.To })
}

// length is the time that windows cover.
func length(ws []Window) time.Duration {
	var d time.Duration
	for _, w := range ws {
		d += w.To - w.From
	}
	return d
}
