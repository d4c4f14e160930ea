package record

import "time"

// LongestStep is how far apart two scrapes may be, in intervals, for the time between to count as watched: one may be missed, and the next
// may be late by half an interval.
const LongestStep = 2.5

// Metrics answers PromQL from the time series of a run. Package scrape implements it on the directory metrics/ of a run; times are
// offsets from the start of the run.
type Metrics interface {
	// At evaluates an expression at a moment. A scalar is one Sample without labels.
	At(expr string, at time.Duration) ([]Sample, error)
	// Range evaluates it at from, from+step, ... to, both ends included.
	Range(expr string, from, to, step time.Duration) ([]Series, error)
	// Names are the metrics that there are, sorted.
	Names() ([]string, error)
	// Interval between two scrapes, as planned.
	Interval() time.Duration
	// Gaps are the stretches longer than LongestStep intervals in which a node that ran was not scraped.
	Gaps(from, to time.Duration) ([]Gap, error)
}

// Sample is one value of a vector.
type Sample struct {
	Labels map[string]string // with __name__ where the expression keeps it
	Value  float64
}

// Series is what one element of a vector was over time.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Point of a series.
type Point struct {
	T     time.Duration
	Value float64
}

// What a Gap names in the place of a node. No node can be called so.
const (
	OfHarness = "(harness)" // the figures of the harness itself and of the loads
	OfNodes   = "(nodes)"   // what nodes use, gauntlet_node_*, which the harness reads from outside
)

// Gap is a stretch without a scrape of a node.
type Gap struct {
	Node     string
	From, To time.Duration
}
