package assertions

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// Bounds are what is asked of answers. A bound that is left out is not judged.
//
// A quantile is taken over all answers by nearest rank, failed ones included with the time they took: an answer that
// failed fast is fast, which is why a bound on latency belongs beside one on success.
type Bounds struct {
	Success    plan.Bound `json:"success,omitzero" desc:"The share of good answers, such as >= 99.9%."`
	P50        plan.Bound `json:"p50,omitzero" desc:"The median latency, such as <= 20ms or <= 3x baseline."`
	P90        plan.Bound `json:"p90,omitzero" desc:"Likewise."`
	P95        plan.Bound `json:"p95,omitzero" desc:"Likewise."`
	P99        plan.Bound `json:"p99,omitzero" desc:"Likewise."`
	P999       plan.Bound `json:"p99.9,omitzero" desc:"Likewise."`
	Throughput plan.Bound `json:"throughput,omitzero" desc:"Good answers a second, by when they were due, such as >= 190/s."`
}

// figure is one of the bounds that were given.
type figure struct {
	name     string
	bound    plan.Bound
	permille int // of a quantile; 0 for the others
}

func (f figure) String() string { return f.name + " " + f.bound.String() }

func (b Bounds) figures() []figure {
	var fs []figure
	for _, f := range []figure{
		{"success", b.Success, 0},
		{"p50", b.P50, 500}, {"p90", b.P90, 900}, {"p95", b.P95, 950}, {"p99", b.P99, 990}, {"p99.9", b.P999, 999},
		{"throughput", b.Throughput, 0},
	} {
		if !f.bound.IsZero() {
			fs = append(fs, f)
		}
	}
	return fs
}

func (b Bounds) validate() error {
	fs := b.figures()
	if len(fs) == 0 {
		return errors.New("no bound is given: one of success, p50, p90, p95, p99, p99.9, throughput")
	}
	var errs []error
	for _, f := range fs {
		want, such := plan.Seconds, "<= 100ms"
		switch f.name {
		case "success":
			want, such = plan.Ratio, ">= 99.9%"
		case "throughput":
			want, such = plan.PerSec, ">= 50/s"
		}
		if f.bound.Unit != want && f.bound.Unit != plan.Times {
			errs = append(errs, fmt.Errorf("%s %q: write it as %q or as a multiple of the baseline", f.name, f.bound, such))
		}
		errs = append(errs, asks(f.name, f.bound))
		if f.permille > 0 && f.bound.Op == "=" {
			errs = append(errs, fmt.Errorf("%s %q: no latency is exactly that; use <= or >=", f.name, f.bound))
		}
	}
	return errors.Join(errs...)
}

// relative reports whether a bound is a multiple of the baseline.
func (b Bounds) relative() bool {
	return slices.ContainsFunc(b.figures(), func(f figure) bool { return f.bound.Unit == plan.Times })
}

// need is the least number of samples on which the figure can be judged.
//
// A quantile q needs 10/(1-q), so that ten samples lie beyond it. A share needs as many as let the bound tell one
// failure from none, 1/(1-share), but at least 10 and at most 100: ">= 99.9%" of 20 answers says nothing, of 100 or more it says that none failed.
func (f figure) need() int {
	if f.permille > 0 {
		return (10*1000 + 999 - f.permille) / (1000 - f.permille)
	}
	if f.name == "success" && f.bound.Unit == plan.Ratio {
		if f.bound.Value >= 0.99 {
			return 100
		}
		return max(10, int(math.Ceil(1/(1-f.bound.Value)-1e-9)))
	}
	return 10
}

// rank is the number of samples that are at most the quantile, of n.
func rank(permille, n int) int { return max(1, (n*permille+999)/1000) }

// measure computes a figure of samples in windows of this length. latencies are sorted.
func (f figure) measure(good int, latencies []time.Duration, length time.Duration) float64 {
	n := len(latencies)
	switch {
	case f.permille > 0:
		return latencies[rank(f.permille, n)-1].Seconds()
	case f.name == "throughput":
		return float64(good) / length.Seconds()
	}
	return float64(good) / float64(n)
}

// holds compares a value with the bound; base is the same figure in the baseline, used by a relative bound.
func (f figure) holds(value, base float64) bool {
	if f.bound.Unit == plan.Times {
		// 0.3/0.1 is more than 3 in floating point.
		value = math.Round(value/base*1e9) / 1e9
	}
	return f.bound.Holds(value)
}

// late says that a quantile breaks its bound only because the generator was late. Empty: it is broken either way.
func (f figure) late(ss []sample, base float64) string {
	if f.permille == 0 {
		return ""
	}
	v := f.measure(0, summarise(asSent(ss), 0).latencies, 0)
	if !f.holds(v, base) {
		return ""
	}
	return fmt.Sprintf("%s, %s is %s", lateness(ss), f.name, f.show(v))
}

// show writes a value with its unit.
func (f figure) show(v float64) string {
	switch {
	case f.permille > 0:
		return seconds(time.Duration(v * float64(time.Second)))
	case f.name == "throughput":
		return number(v) + "/s"
	}
	return percent(v)
}

// summary of samples, sorted once for all figures.
type summary struct {
	good      int
	latencies []time.Duration
	length    time.Duration
}

func summarise(ss []sample, length time.Duration) summary {
	s := summary{latencies: make([]time.Duration, len(ss)), length: length}
	for i, x := range ss {
		s.latencies[i] = x.latency
		if x.ok {
			s.good++
		}
	}
	slices.Sort(s.latencies)
	return s
}

func (s summary) n() int { return len(s.latencies) }

// figure computes f, or says why it cannot be.
func (s summary) figure(f figure) (float64, error) {
	if need := f.need(); s.n() < need {
		return 0, fmt.Errorf("%s needs %d samples and there are %d", f, need, s.n())
	}
	return f.measure(s.good, s.latencies, s.length), nil
}

// bases are the figures of the baseline that relative bounds refer to, by name.
func (b Bounds) bases(src Source, r *record.Round) (map[string]float64, Window, error) {
	w, err := phase(r, plan.PhaseBaseline)
	if err != nil {
		return nil, w, err
	}
	ss, err := src.samples(r, w)
	if err != nil {
		return nil, w, err
	}
	sum := summarise(ss, w.To-w.From)
	m := map[string]float64{}
	for _, f := range b.figures() {
		if f.bound.Unit != plan.Times {
			continue
		}
		v, err := sum.figure(f)
		if err == nil && v == 0 {
			err = fmt.Errorf("%s is 0 there", f.name)
		}
		if err != nil {
			return nil, w, fmt.Errorf("in the baseline %w", err)
		}
		m[f.name] = v
	}
	return m, w, nil
}
