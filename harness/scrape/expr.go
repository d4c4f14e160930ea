package scrape

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Expr is what can be said of an expression without data.
type Expr struct {
	Metrics []string // the metrics that it names, sorted
	// Shortest is the shortest range that it looks over, 0 where it looks over none.
	Shortest time.Duration
}

// Parse reads a PromQL expression. It must have a value that can be compared with a bound.
func Parse(expr string) (Expr, error) {
	e, err := newParser().ParseExpr(expr)
	if err != nil {
		return Expr{}, &ExprError{strings.TrimSpace(expr), err}
	}
	if t := e.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		return Expr{}, &ExprError{expr, fmt.Errorf("it is a %s, and it takes a vector or a number", parser.DocumentedType(t))}
	}
	var x Expr
	over := func(d time.Duration) {
		if d > 0 && (x.Shortest == 0 || d < x.Shortest) {
			x.Shortest = d
		}
	}
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			for _, m := range n.LabelMatchers {
				if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
					x.Metrics = append(x.Metrics, m.Value)
				}
			}
		case *parser.MatrixSelector:
			over(n.Range)
		case *parser.SubqueryExpr:
			over(n.Range)
		}
		return nil
	})
	slices.Sort(x.Metrics)
	x.Metrics = slices.Compact(x.Metrics)
	return x, nil
}

// Validate returns the metrics that an expression names, or says what is wrong with it whatever the data.
func Validate(expr string) (metrics []string, err error) {
	e, err := Parse(expr)
	if err != nil {
		return nil, err
	}
	if least := leastScrapes * Interval; e.Shortest > 0 && e.Shortest < least {
		return nil, &ExprError{expr, fmt.Errorf("its range of %v is shorter than four scrapes, %v", e.Shortest, least)}
	}
	return e.Metrics, nil
}

// leastScrapes is how many scrapes a range must span: a rate of fewer is that of two values or of none.
const leastScrapes = 4

// maxNearest is how many names are proposed.
const maxNearest = 3

// nearest are the names that a metric's name was perhaps meant to be.
func nearest(name string, names []string) []string {
	type near struct {
		name string
		far  int
	}
	var found []near
	for _, n := range names {
		far := distance(name, n)
		if strings.Contains(n, name) || strings.Contains(name, n) {
			far = min(far, len(name)/4) // a prefix, or a suffix such as _total, was forgotten
		}
		if far <= len(name)/3 {
			found = append(found, near{n, far})
		}
	}
	slices.SortFunc(found, func(a, b near) int { return cmp.Or(cmp.Compare(a.far, b.far), strings.Compare(a.name, b.name)) })
	var out []string
	for _, f := range found[:min(len(found), maxNearest)] {
		out = append(out, f.name)
	}
	return out
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
