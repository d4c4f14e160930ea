package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// row is what came of one scenario or control.
type row struct {
	scenario, name string
	by             map[string]*score // by driver
	longest        float64           // seconds
}

// score is how often a verdict was right.
type score struct{ right, of int }

func (s *score) String() string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%d/%d", s.right, s.of)
}

// table is results side by side.
type table struct {
	drivers []string // in the order of their first result
	rows    []*row   // likewise, the controls of a scenario after it
	kernels []string
	engines []string
	from    string // dates
	to      string
}

// tabulate puts results in order.
func tabulate(results []result) *table {
	t := &table{}
	rows := map[string]*row{}
	for _, r := range results {
		t.drivers = with(t.drivers, r.Driver)
		t.kernels = with(t.kernels, r.Kernel)
		if r.Engine != "" {
			t.engines = with(t.engines, r.Engine)
		}
		day := r.Time.UTC().Format("2006-01-02")
		if t.from == "" || day < t.from {
			t.from = day
		}
		t.to = max(t.to, day)
		name := r.name()
		w := rows[name]
		if w == nil {
			w = &row{scenario: r.Scenario, name: name, by: map[string]*score{}}
			rows[name] = w
			t.insert(w)
		}
		s := w.by[r.Driver]
		if s == nil {
			s = &score{}
			w.by[r.Driver] = s
		}
		s.of++
		if r.Right {
			s.right++
		}
		w.longest = max(w.longest, r.Seconds)
	}
	return t
}

// insert puts a row after the last one of its scenario, and the scenario's own before those of its controls.
func (t *table) insert(w *row) {
	at := len(t.rows)
	for i, other := range t.rows {
		if other.scenario == w.scenario {
			at = i + 1
			if w.name == w.scenario {
				at = i
				break
			}
		}
	}
	t.rows = slices.Insert(t.rows, at, w)
}

func with(all []string, one string) []string {
	if slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

// total is a driver's column in one score.
func (t *table) total(driver string) *score {
	var sum *score
	for _, w := range t.rows {
		if s := w.by[driver]; s != nil {
			if sum == nil {
				sum = &score{}
			}
			sum.right += s.right
			sum.of += s.of
		}
	}
	return sum
}

// wrong is how many verdicts were.
func (t *table) wrong() (n int) {
	for _, d := range t.drivers {
		s := t.total(d)
		n += s.of - s.right
	}
	return n
}

// text writes the table for a terminal.
func (t *table) text(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "\nSCENARIO / CONTROL\t%s\tLONGEST\n", strings.ToUpper(strings.Join(t.drivers, "\t")))
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t", r.name)
		for _, d := range t.drivers {
			fmt.Fprintf(w, "%v\t", r.by[d])
		}
		fmt.Fprintf(w, "%.1fs\n", r.longest)
	}
	return w.Flush()
}

// markdown writes the table as a page.
func (t *table) markdown(to io.Writer) error {
	var b strings.Builder
	when := t.from
	if t.to != t.from {
		when += " to " + t.to
	}
	engines := ""
	if len(t.engines) > 0 {
		engines = ", " + strings.Join(t.engines, ", ")
	}
	fmt.Fprintf(&b, `# Verdicts

How often the verdict was right, of how many runs. A scenario is right when it passes; below it are its controls, each the
same run with one thing broken on purpose, which is right when the assertions that it names fail.

%s, Linux %s%s. Written by `+"`go run ./ci/soak -table FILE`"+`, not by hand.

`, when, strings.Join(t.kernels, ", "), engines)
	fmt.Fprintf(&b, "| scenario / control | %s | longest |\n|---|%s--:|\n", strings.Join(t.drivers, " | "), strings.Repeat("--:|", len(t.drivers)))
	line := func(name string, scores func(driver string) *score, longest string) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, d := range t.drivers {
			fmt.Fprintf(&b, " %v |", scores(d))
		}
		fmt.Fprintf(&b, " %s |\n", longest)
	}
	longest := 0.0
	for _, r := range t.rows {
		name := "**" + r.name + "**"
		if control, ok := strings.CutPrefix(r.name, r.scenario+" / "); ok {
			name = "&nbsp;&nbsp;" + strings.ReplaceAll(control, "|", `\|`)
		}
		line(name, func(d string) *score { return r.by[d] }, fmt.Sprintf("%.1f s", r.longest))
		longest = max(longest, r.longest)
	}
	line("all", t.total, fmt.Sprintf("%.1f s", longest))
	_, err := io.WriteString(to, b.String())
	return err
}
