package scrape

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/hasvc/gauntlet/harness/record"
)

// lookback is how old the last value of a series may be to be its present one. Prometheus's five minutes are longer
// than a run.
const lookback = time.Second

// queryTimeout bounds one query.
const queryTimeout = 30 * time.Second

// maxSamples bounds the memory of one query: about 16 bytes each.
const maxSamples = 10_000_000

func newEngine() *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		MaxSamples: maxSamples, Timeout: queryTimeout, LookbackDelta: lookback, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return Interval.Milliseconds() },
		Parser:                   newParser(),
	})
}

// querier evaluates expressions on the data of a run.
type querier struct {
	engine *promql.Engine
	data   storage.Queryable
	start  time.Time // offset 0 as a wall clock
}

func (q *querier) at(ctx context.Context, expr string, at time.Duration) ([]record.Sample, error) {
	if err := q.known(ctx, expr); err != nil {
		return nil, err
	}
	x, err := q.engine.NewInstantQuery(ctx, q.data, nil, expr, q.start.Add(at))
	if err != nil {
		return nil, &ExprError{expr, err}
	}
	defer x.Close()
	res := x.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", expr, res.Err)
	}
	switch v := res.Value.(type) {
	case promql.Scalar:
		return []record.Sample{{Value: v.V}}, nil
	case promql.Vector:
		var out []record.Sample
		for _, s := range v {
			if s.H != nil {
				return nil, errHistogram(expr)
			}
			out = append(out, record.Sample{Labels: owned(s.Metric), Value: s.F})
		}
		slices.SortFunc(out, func(a, b record.Sample) int { return strings.Compare(text(a.Labels), text(b.Labels)) })
		return out, nil
	default:
		return nil, &ExprError{expr, fmt.Errorf("it is a %s, and it takes a vector or a number", res.Value.Type())}
	}
}

func (q *querier) between(ctx context.Context, expr string, from, to, step time.Duration) ([]record.Series, error) {
	if step <= 0 || to < from {
		return nil, fmt.Errorf("evaluate %s: from %v to %v by %v is no range", expr, from, to, step)
	}
	if err := q.known(ctx, expr); err != nil {
		return nil, err
	}
	x, err := q.engine.NewRangeQuery(ctx, q.data, nil, expr, q.start.Add(from), q.start.Add(to), step)
	if err != nil {
		return nil, &ExprError{expr, err}
	}
	defer x.Close()
	res := x.Exec(ctx)
	if res.Err != nil {
		return nil, fmt.Errorf("evaluate %s: %w", expr, res.Err)
	}
	m, err := res.Matrix()
	if err != nil {
		return nil, &ExprError{expr, err}
	}
	var out []record.Series
	for _, s := range m {
		if len(s.Histograms) > 0 {
			return nil, errHistogram(expr)
		}
		series := record.Series{Labels: owned(s.Metric)}
		for _, p := range s.Floats {
			series.Points = append(series.Points, record.Point{T: q.offset(p.T), Value: p.F})
		}
		out = append(out, series)
	}
	slices.SortFunc(out, func(a, b record.Series) int { return strings.Compare(text(a.Labels), text(b.Labels)) })
	return out, nil
}

func errHistogram(expr string) error {
	return &ExprError{expr, errors.New("it is a histogram: take a figure of it, such as histogram_quantile(0.99, ...)")}
}

// offset is a time of the database on the run's clock.
func (q *querier) offset(ms int64) time.Duration {
	return time.UnixMilli(ms).Sub(q.start.Truncate(time.Millisecond))
}

// text orders label sets.
func text(m map[string]string) string { return labels.FromMap(m).String() }

func (q *querier) names(ctx context.Context) ([]string, error) {
	s, err := q.data.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	names, _, err := s.LabelValues(ctx, model.MetricNameLabel, nil)
	for i := range names {
		names[i] = strings.Clone(names[i])
	}
	return names, err
}

// owned copies labels: what a block gives is its file in memory, and is gone with it when the block is closed.
func owned(ls labels.Labels) map[string]string {
	m := map[string]string{}
	ls.Range(func(l labels.Label) { m[strings.Clone(l.Name)] = strings.Clone(l.Value) })
	return m
}

// known says which metric of an expression is none.
func (q *querier) known(ctx context.Context, expr string) error {
	e, err := Parse(expr)
	if err != nil {
		return err
	}
	names, err := q.names(ctx)
	if err != nil {
		return fmt.Errorf("list the metrics of the run: %w", err)
	}
	for _, m := range e.Metrics {
		if !slices.Contains(names, m) {
			return &UnknownMetricError{Name: m, Nearest: nearest(m, names), Count: len(names)}
		}
	}
	return nil
}

// UnknownMetricError is the error of an expression with a metric that nobody exposed.
type UnknownMetricError struct {
	Name    string
	Nearest []string
	Count   int // of metrics that there are
}

func (e *UnknownMetricError) Error() string {
	s := fmt.Sprintf("no metric is called %s", e.Name)
	switch {
	case e.Count == 0:
		return s + "; there is none at all"
	case len(e.Nearest) == 0:
		return s + fmt.Sprintf("; none of the %d that there are is like it", e.Count)
	}
	return s + "; there is " + strings.Join(e.Nearest, ", ")
}

// ExprError is the error of an expression that cannot be evaluated whatever the data.
type ExprError struct {
	Expr string
	Err  error
}

func (e *ExprError) Error() string { return fmt.Sprintf("%s: %v", e.Expr, e.Err) }
func (e *ExprError) Unwrap() error { return e.Err }

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }
