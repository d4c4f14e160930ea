package assertions

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/record"
)

// scrape is what a metric of a node was when the node was scraped.
type scrape struct {
	at    time.Duration
	value float64
}

// nodeLabel is the label by which the metrics of a run say whose they are.
const nodeLabel = "node"

// scrapes returns the values of a selector by node, where each has one series.
func scrapes(run *record.Run, selector string, from, to time.Duration) (map[string][]scrape, error) {
	all, err := scraped(run, selector, from, to)
	if err != nil {
		return nil, err
	}
	out := map[string][]scrape{}
	for _, node := range slices.Sorted(maps.Keys(all)) {
		names := slices.Sorted(maps.Keys(all[node]))
		if len(names) > 1 {
			return nil, fmt.Errorf("%s has several series in %s, such as {%s} and {%s}, and one was expected", selector, node, names[0], names[1])
		}
		out[node] = all[node][names[0]]
	}
	return out, nil
}

// scraped returns the values of a selector by node and series, each at the moment of its scrape, from the last one before from to the last
// one before to. A counter that says when it began has a 0 there, at a moment at which nothing was scraped.
//
// A range query answers at moments of its own; the moment of the scrape is what timestamp() says.
func scraped(run *record.Run, selector string, from, to time.Duration) (map[string]map[string][]scrape, error) {
	m := run.Metrics
	if m == nil {
		return nil, fmt.Errorf("the run has no metrics")
	}
	if m.Interval() <= 0 {
		return nil, fmt.Errorf("the metrics of the run have no interval")
	}
	// Two questions in each interval, so that none of the scrapes falls between two of them.
	step := m.Interval() / 2
	values, err := m.Range(selector, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", selector, err)
	}
	stamps, err := m.Range("timestamp("+selector+")", from, to, step)
	if err != nil {
		return nil, fmt.Errorf("reading the times of %s: %w", selector, err)
	}
	when := map[string]map[time.Duration]float64{}
	for _, s := range stamps {
		at := map[time.Duration]float64{}
		for _, p := range s.Points {
			at[p.T] = p.Value
		}
		when[seriesName(s.Labels)] = at
	}
	start := float64(run.Meta.Start.UnixNano()) / 1e9
	found := map[string]map[string][]scrape{}
	for _, s := range values {
		node, name := s.Labels[nodeLabel], seriesName(s.Labels)
		if node == "" {
			return nil, fmt.Errorf("a series of %s has no label %s", selector, nodeLabel)
		}
		var own []scrape
		for _, p := range s.Points {
			stamp, ok := when[name][p.T]
			// Timestamps are milliseconds.
			at := time.Duration(math.Round((stamp-start)*1e3)) * time.Millisecond
			if !ok || at > p.T+2*time.Millisecond || at < p.T-time.Hour {
				return nil, fmt.Errorf("the times of %s in %s are not those of the run", selector, node)
			}
			if n := len(own); n == 0 || at > own[n-1].at {
				own = append(own, scrape{at, p.Value})
			}
		}
		if found[node] == nil {
			found[node] = map[string][]scrape{}
		}
		found[node][name] = own
	}
	return found, nil
}

// seriesName writes the labels of a series but for the metric's name, which timestamp() drops.
func seriesName(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k != "__name__" {
			parts = append(parts, fmt.Sprintf("%s=%q", k, labels[k]))
		}
	}
	return strings.Join(parts, ",")
}

// gaps says where a node that ran was not scraped.
func gaps(run *record.Run, whose func(node string) bool, from, to time.Duration) error {
	all, err := run.Metrics.Gaps(from, to)
	if err != nil {
		return fmt.Errorf("reading the gaps between scrapes: %w", err)
	}
	for _, g := range all {
		if whose(g.Node) {
			return fmt.Errorf("%s was not scraped from %s to %s", g.Node, seconds(g.From), seconds(g.To))
		}
	}
	return nil
}
