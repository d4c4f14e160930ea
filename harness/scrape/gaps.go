package scrape

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// maxGap is how long a stretch without a scrape may be that is none.
const maxGap = time.Duration(record.LongestStep * float64(Interval))

// Gaps implements record.Metrics. What the harness itself exposes has gaps too, by the names of record.OfHarness and
// record.OfNodes. A node that never exposed metrics has none.
func (m *Metrics) Gaps(from, to time.Duration) ([]record.Gap, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, err := m.opened()
	if err != nil {
		return nil, err
	}
	scrapes, err := q.scrapes(m.ms(from-maxGap), m.ms(to+maxGap))
	if err != nil {
		return nil, err
	}
	all, err := q.scrapes(0, m.ms(to+time.Hour))
	if err != nil {
		return nil, err
	}
	var gaps []record.Gap
	for node := range all {
		for _, r := range ran(m.run, node) {
			gaps = append(gaps, holes(node, scrapes[node], max(r.from, from), min(r.to, to))...)
		}
	}
	slices.SortFunc(gaps, func(a, b record.Gap) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Node, b.Node))
	})
	return gaps, nil
}

func (m *Metrics) ms(at time.Duration) int64 { return m.run.Meta.Start.Add(at).UnixMilli() }

// holes are the stretches of [from, to] further than maxGap from one scrape to the next.
func holes(node string, scrapes []time.Duration, from, to time.Duration) (gaps []record.Gap) {
	last := from
	for _, t := range append(slices.Clone(scrapes), to) {
		if t < from {
			continue
		}
		t = min(t, to)
		if t-last > maxGap {
			gaps = append(gaps, record.Gap{Node: node, From: last, To: t})
		}
		last = t
	}
	return gaps
}

// span is a stretch of time.
type span struct{ from, to time.Duration }

// ran are the stretches in which a node ran and its topology was scraped: between up and down.
func ran(run *record.Run, node string) []span {
	var out []span
	for _, r := range run.Rounds {
		_, up, ok := r.Phase(plan.PhaseUp)
		if !ok || len(r.Events) == 0 {
			continue
		}
		down := r.Events[len(r.Events)-1].T
		if from, _, ok := r.Phase(plan.PhaseDown); ok {
			down = from
		}
		begun, runs := up, node == record.OfHarness || node == record.OfNodes
		end := func(at time.Duration) {
			if runs && min(at, down) > begun {
				out = append(out, span{begun, min(at, down)})
			}
			runs = false
		}
		for _, e := range r.Events {
			if e.Node != node {
				continue
			}
			switch e.Kind {
			case record.NodeStarted:
				if !runs {
					begun, runs = max(e.T, up), true
				}
			case record.NodeExited, record.NodeRemoved:
				end(e.T)
			}
		}
		end(down)
	}
	return out
}

// scrapes are the times of the scrapes that succeeded, by node.
func (q *querier) scrapes(mint, maxt int64) (map[string][]time.Duration, error) {
	s, err := q.data.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	out := map[string][]time.Duration{}
	set := s.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "up"))
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		node := series.Labels().Get("node")
		if node == "" {
			node = series.Labels().Get("job") // the harness
		}
		node = strings.Clone(node) // see owned
		it = series.Iterator(it)
		for it.Next() == chunkenc.ValFloat {
			if t, v := it.At(); v == 1 {
				out[node] = append(out[node], q.offset(t))
			}
		}
		if it.Err() != nil {
			return nil, fmt.Errorf("read the scrapes: %w", it.Err())
		}
		if out[node] == nil {
			out[node] = []time.Duration{} // it was tried
		}
	}
	if set.Err() != nil {
		return nil, fmt.Errorf("read the scrapes: %w", set.Err())
	}
	for _, ts := range out {
		slices.Sort(ts)
	}
	return out, nil
}
