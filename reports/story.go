package reports

import (
	"encoding/json"
	"slices"
	"sort"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// story is a round of a record, put together for telling: the events of a fault are one life.
type story struct {
	n      int
	from   time.Duration
	to     time.Duration
	phases []span
	lives  []*life
	loads  []loadFigures
	rest   []record.Event // what is neither a phase nor a step of a fault's life
}

// span is a phase.
type span struct {
	name     string
	from, to time.Duration
	ended    bool
}

// life is one injection of a fault. A step that was not reached is nil.
type life struct {
	fault, kind string
	occurrence  int
	of          int           // occurrences that were planned; 0: not known
	plannedFor  time.Duration // how long it was to hold; 0: until something else, or not at all
	held        bool          // to the end of the round
	planned     *time.Duration
	started     *time.Duration
	inEffect    *time.Duration
	undone      *time.Duration
	gone        *time.Duration
	targets     []string
	links       []string
	proof       string // that it took effect
	bit         string // what it acted on
	goneProof   string
	failures    []failure
	bindings    []record.Event
}

// failure is something that went wrong in a fault's life.
type failure struct {
	at   time.Duration
	text string
}

// tell puts a round together.
func tell(p *plan.Plan, r *record.Round) *story {
	s := &story{n: r.N}
	planned := map[string]plan.Fault{}
	for _, pr := range p.Rounds {
		if pr.N == r.N {
			for _, f := range pr.Faults {
				planned[f.ID] = f
			}
		}
	}
	type key struct {
		fault string
		n     int
	}
	lives := map[key]*life{}
	of := func(e record.Event) *life {
		k := key{e.Fault, max(1, e.Occurrence)}
		l, ok := lives[k]
		if !ok {
			l = &life{fault: e.Fault, kind: e.FaultKind, occurrence: k.n}
			if f, known := planned[e.Fault]; known {
				l.kind, l.of, l.held = f.Kind, len(f.Occurrences), f.Held
				if k.n <= len(f.Occurrences) && f.Until == nil && !f.Held {
					l.plannedFor = f.Occurrences[k.n-1].For.D()
				}
			}
			lives[k] = l
			s.lives = append(s.lives, l)
		}
		if len(e.Targets) > 0 && e.Kind != record.Bound {
			l.targets = e.Targets
		}
		if len(e.Links) > 0 {
			l.links = e.Links
		}
		return l
	}
	if len(r.Events) > 0 {
		s.from, s.to = r.Events[0].T, r.Events[len(r.Events)-1].T
	}
	for i := range r.Events {
		e := r.Events[i]
		t := &r.Events[i].T
		switch e.Kind {
		case record.RoundBegin, record.RoundEnd:
		case record.PhaseBegin:
			s.phases = append(s.phases, span{name: e.Phase, from: e.T, to: s.to})
		case record.PhaseEnd:
			for j := range s.phases {
				if s.phases[j].name == e.Phase && !s.phases[j].ended {
					s.phases[j].to, s.phases[j].ended = e.T, e.Error == ""
				}
			}
		case record.FaultStarted:
			l := of(e)
			l.started, l.planned = t, e.Planned
		case record.FaultInEffect:
			l := of(e)
			l.inEffect, l.proof = t, e.Evidence
		case record.FaultUndone:
			l := of(e)
			l.undone, l.bit = t, e.Evidence
		case record.FaultGone:
			l := of(e)
			l.gone, l.goneProof = t, e.Evidence
		case record.FaultFailed, record.UndoFailed, record.FaultUnproved:
			l := of(e)
			l.failures = append(l.failures, failure{e.T, wrong(e)})
		case record.Bound:
			if e.Fault == "" {
				s.rest = append(s.rest, e)
				break
			}
			l := of(e)
			l.bindings = append(l.bindings, e)
		default:
			s.rest = append(s.rest, e)
		}
	}
	for _, load := range p.Loads {
		s.loads = append(s.loads, figures(load.Name, r, s.phases))
	}
	return s
}

// wrong says what went wrong.
func wrong(e record.Event) string {
	switch e.Kind {
	case record.UndoFailed:
		return "could not be undone: " + e.Error
	case record.FaultUnproved:
		return "was not proved: " + e.Error
	}
	return "failed: " + e.Error
}

// phaseAt is the phase that runs at a moment.
func (s *story) phaseAt(t time.Duration) string {
	name := ""
	for _, p := range s.phases {
		if p.from <= t {
			name = p.name
		}
	}
	return name
}

// underLoad are the phases that carry load.
var underLoad = []string{plan.PhaseBaseline, plan.PhaseFault, plan.PhaseRecovery}

// loadFigures are what a load got in each phase.
type loadFigures struct {
	load   string
	phases []phaseFigures
	stats  *record.GeneratorStats
	err    error
}

type phaseFigures struct {
	phase          string
	requests, good int
	rate           float64 // per second, of good answers
	// Quantiles of the time from when a request was due to its answer, of all requests; nil without enough of them.
	p50, p99, worst *time.Duration
}

// minP99 is how many requests a p99 needs: ten beyond it, as the assertions ask.
const minP99 = 1000

// figures sorts the requests of a load by phase.
func figures(load string, r *record.Round, phases []span) loadFigures {
	out := loadFigures{load: load}
	for _, e := range r.Events {
		if e.Kind == record.LoadSummary && e.ID == load {
			var st record.GeneratorStats
			if json.Unmarshal(e.Data, &st) == nil {
				out.stats = &st
			}
		}
	}
	reqs, err := r.Requests(load)
	if err != nil {
		out.err = err
		return out
	}
	for _, p := range phases {
		if !slices.Contains(underLoad, p.name) {
			continue
		}
		f := phaseFigures{phase: p.name}
		var lat []time.Duration
		lo := sort.Search(len(reqs), func(i int) bool { return reqs[i].Due >= p.from })
		for _, q := range reqs[lo:] {
			if q.Due >= p.to {
				break
			}
			f.requests++
			if q.OK {
				f.good++
			}
			lat = append(lat, q.Latency())
		}
		slices.Sort(lat)
		if n := len(lat); n > 0 {
			f.worst = &lat[n-1]
			f.p50 = &lat[(n-1)/2]
			if n >= minP99 {
				f.p99 = &lat[(n*99+99)/100-1]
			}
		}
		if d := (p.to - p.from).Seconds(); d > 0 {
			f.rate = float64(f.good) / d
		}
		out.phases = append(out.phases, f)
	}
	return out
}
