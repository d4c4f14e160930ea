package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/record"
)

func queryCommand(*int) *cobra.Command {
	var q query
	c := &cobra.Command{
		Use:   "query RUN 'PROMQL'",
		Short: "Ask the metrics of a run directory, in PromQL",
		Long: `Ask the metrics of a run directory, in PromQL: over the time from the beginning of the baseline to the end of recovery, or at one
moment with --at. Times are offsets from the start of the run, as in its events. Without an expression, the names of the metrics.

Series carry the labels node, service, group and zone. Beside what the services expose there are gauntlet_node_* (what
each node uses), gauntlet_load_* (what the loads sent and got) and gauntlet_process_* (the harness itself). The node (plane) is
what joins the nodes, and (engine) the container engine, of which only the processor time is known.

The directory metrics/ of a run is a Prometheus TSDB: a Prometheus that is given a copy of it as --storage.tsdb.path shows
the same.`,
		Example: `  gauntlet query runs/store-leader-kill-1
  gauntlet query runs/store-leader-kill-1 'sum by (node) (rate(gauntlet_node_cpu_seconds_total[1s]))'
  gauntlet query runs/store-leader-kill-1 --at 5s 'up'
  gauntlet query runs/store-leader-kill-1 -o json --from 3s --to 7s --step 1s 'go_goroutines'`,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(c, "which run directory? %s", runHint)
			case len(args) > 2:
				return usage(c, "an expression is one argument: put it in quotes")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if q.format != "text" && q.format != "json" {
				return usage(c, "query prints text or json, not %q", q.format)
			}
			for _, f := range []string{"at", "from", "to", "step"} {
				switch {
				case !c.Flags().Changed(f):
				case len(args) == 1:
					return usage(c, "--%s is about an expression, and none is given", f)
				case f != "at" && c.Flags().Changed("at"):
					return usage(c, "--at and --%s exclude each other", f)
				}
			}
			q.instant, q.begins, q.ends = c.Flags().Changed("at"), c.Flags().Changed("from"), c.Flags().Changed("to")
			return harness.WithMetrics(args[0], func(run *record.Run) error {
				if len(args) == 1 {
					return q.names(c.OutOrStdout(), run)
				}
				if err := q.ask(c.OutOrStdout(), run, args[1]); err != nil {
					return &harness.InputError{Err: err}
				}
				return nil
			})
		},
	}
	c.Flags().DurationVar(&q.at, "at", 0, "evaluate at this offset, once")
	c.Flags().DurationVar(&q.from, "from", 0, "evaluate from this offset (default: the beginning of the baseline)")
	c.Flags().DurationVar(&q.to, "to", 0, "evaluate to this offset (default: the end of recovery)")
	c.Flags().DurationVar(&q.step, "step", 0, "the time from one value to the next (default: so that there are about 20)")
	c.Flags().StringVarP(&q.format, "output", "o", "text", "text or json")
	return c
}

// query is what was asked for.
type query struct {
	at, from, to, step    time.Duration
	instant, begins, ends bool
	format                string
}

func (q *query) names(w io.Writer, run *record.Run) error {
	names, err := run.Metrics.Names()
	if err != nil {
		return err
	}
	if q.format == "json" {
		return json.NewEncoder(w).Encode(names)
	}
	_, err = fmt.Fprintln(w, strings.Join(names, "\n"))
	return err
}

func (q *query) ask(w io.Writer, run *record.Run, expr string) error {
	if q.instant {
		samples, err := run.Metrics.At(expr, q.at)
		if err != nil {
			return err
		}
		gaps, err := run.Metrics.Gaps(q.at-3*run.Metrics.Interval(), q.at) // within which one at q.at is long enough to be one
		if err != nil {
			return err
		}
		if q.format == "json" {
			return printJSON(w, answer{Query: expr, At: &q.at, Samples: samples, Gaps: gaps})
		}
		return errors.Join(printSamples(w, samples), printGaps(w, gaps))
	}
	from, to, err := q.window(run)
	if err != nil {
		return err
	}
	step := q.step
	if step == 0 {
		step = max(run.Metrics.Interval(), (to-from).Truncate(20*run.Metrics.Interval())/20)
	}
	series, err := run.Metrics.Range(expr, from, to, step)
	if err != nil {
		return err
	}
	gaps, err := run.Metrics.Gaps(from, to)
	if err != nil {
		return err
	}
	if q.format == "json" {
		return printJSON(w, answer{Query: expr, From: &from, To: &to, Step: &step, Series: series, Gaps: gaps})
	}
	return errors.Join(printSeries(w, series), printGaps(w, gaps))
}

// window is the time under load of all rounds, unless it was given.
func (q *query) window(run *record.Run) (from, to time.Duration, err error) {
	from, to = q.from, q.to
	if q.begins && q.ends {
		return from, to, nil
	}
	begin, end, ok := harness.UnderLoad(run)
	if !ok {
		return 0, 0, errors.New("the run did not come to its baseline; say which time is meant, by --at or --from and --to")
	}
	if !q.begins {
		from = begin
	}
	if !q.ends {
		to = end
	}
	return from, to, nil
}

// answer is the output as JSON. Times are offsets from the start of the run in nanoseconds, as everywhere in a record.
// A value that JSON has no number for (NaN, +Inf, -Inf) is a string.
type answer struct {
	Query    string
	At       *time.Duration
	From, To *time.Duration
	Step     *time.Duration
	Samples  []record.Sample
	Series   []record.Series
	Gaps     []record.Gap
}

func printJSON(w io.Writer, a answer) error {
	out := map[string]any{"query": a.Query, "gaps": []any{}}
	for name, d := range map[string]*time.Duration{"at": a.At, "from": a.From, "to": a.To, "step": a.Step} {
		if d != nil {
			out[name] = *d
		}
	}
	if a.At != nil {
		samples := []any{}
		for _, s := range a.Samples {
			samples = append(samples, map[string]any{"labels": nonNil(s.Labels), "value": jsonValue(s.Value)})
		}
		out["samples"] = samples
	} else {
		series := []any{}
		for _, s := range a.Series {
			points := []any{}
			for _, p := range s.Points {
				points = append(points, map[string]any{"t": p.T, "value": jsonValue(p.Value)})
			}
			series = append(series, map[string]any{"labels": nonNil(s.Labels), "points": points})
		}
		out["series"] = series
	}
	gaps := []any{}
	for _, g := range a.Gaps {
		gaps = append(gaps, map[string]any{"node": g.Node, "from": g.From, "to": g.To})
	}
	out["gaps"] = gaps
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func jsonValue(v float64) any {
	if _, err := json.Marshal(v); err != nil {
		return number(v)
	}
	return v
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// printSamples prints a value a line.
func printSamples(w io.Writer, samples []record.Sample) error {
	if len(samples) == 0 {
		_, err := fmt.Fprintln(w, "no value")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range samples {
		fmt.Fprintf(t, "%s\t%s\n", labelText(s.Labels), number(s.Value))
	}
	return t.Flush()
}

// printSeries prints a table: a line for each moment, a column for each series.
func printSeries(w io.Writer, series []record.Series) error {
	if len(series) == 0 {
		_, err := fmt.Fprintln(w, "no value")
		return err
	}
	times := map[time.Duration]bool{}
	values := make([]map[time.Duration]float64, len(series))
	for i, s := range series {
		values[i] = map[time.Duration]float64{}
		for _, p := range s.Points {
			times[p.T], values[i][p.T] = true, p.Value
		}
		if len(series) > 1 {
			fmt.Fprintf(w, "[%d] %s\n", i+1, labelText(s.Labels))
		} else if l := labelText(s.Labels); l != "" {
			fmt.Fprintln(w, l)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "t\t")
	for i := range series {
		if len(series) > 1 {
			fmt.Fprintf(t, "[%d]\t", i+1)
		} else {
			fmt.Fprint(t, "value\t")
		}
	}
	fmt.Fprintln(t)
	for _, at := range slices.Sorted(maps.Keys(times)) {
		fmt.Fprintf(t, "%.1fs\t", at.Seconds())
		for i := range series {
			if v, ok := values[i][at]; ok {
				fmt.Fprintf(t, "%s\t", number(v))
			} else {
				fmt.Fprint(t, "-\t")
			}
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printGaps says where a node that ran was not scraped: a value there is an old one, or none.
func printGaps(w io.Writer, gaps []record.Gap) error {
	const most = 10
	for i, g := range gaps {
		if i == most {
			_, err := fmt.Fprintf(w, "... and %d gaps more\n", len(gaps)-most)
			return err
		}
		if _, err := fmt.Fprintf(w, "gap: %s was not scraped from %.1fs to %.1fs\n", g.Node, g.From.Seconds(), g.To.Seconds()); err != nil {
			return err
		}
	}
	return nil
}

// labelText writes labels as PromQL does.
func labelText(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k != "__name__" {
			parts = append(parts, fmt.Sprintf("%s=%q", k, m[k]))
		}
	}
	name := m["__name__"]
	if len(parts) == 0 {
		return name
	}
	return name + "{" + strings.Join(parts, ", ") + "}"
}
