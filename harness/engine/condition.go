package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// conditionEvery is how often a condition is tested.
const conditionEvery = 25 * time.Millisecond

// execTimeout bounds one run of a condition's program.
const execTimeout = 10 * time.Second

// waiter tests a condition. Lines of logs count from the moment it was made.
type waiter struct {
	rd    *round
	cond  *plan.Condition
	match *regexp.Regexp
	http  *http.Client

	mu      sync.Mutex
	offsets map[string]int64  // log file -> where to read on
	partial map[string][]byte // log file -> a line that has not ended yet
	bad     error
}

func (rd *round) waiter(c *plan.Condition) *waiter {
	w := &waiter{rd: rd, cond: c, offsets: map[string]int64{}, partial: map[string][]byte{}}
	if c.HTTP != "" {
		w.http = planeClient(rd.cluster)
	}
	if c.Log != nil {
		w.match, w.bad = regexp.Compile(c.Log.Matches)
		w.offsets = rd.logEnds()
	}
	return w
}

// logEnds are the present ends of all logs, those of nodes that are not there now too: a replica that comes back goes on
// with its file, as do the nodes of the next round.
func (rd *round) logEnds() map[string]int64 {
	ends := map[string]int64{}
	var files []string
	if dir, err := filepath.Abs(filepath.Join(rd.w.Dir(), "logs")); err == nil {
		entries, _ := os.ReadDir(dir) // before the first program there is none
		for _, e := range entries {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	for _, n := range rd.cluster.Nodes() {
		files = append(files, n.Log)
	}
	for _, f := range files {
		if end, err := logEnd(f); err == nil {
			ends[f] = end
		}
	}
	return ends
}

// longLine is how far back the beginning of an unfinished line is looked for.
const longLine = 64 << 10

// logEnd is where the next line of a log begins: a line that is half written counts as a whole when it ends.
func logEnd(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	from := max(st.Size()-longLine, 0)
	tail := make([]byte, st.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
		return 0, err
	}
	if i := bytes.LastIndexByte(tail, '\n'); i >= 0 || from == 0 {
		return from + int64(i) + 1, nil
	}
	return st.Size(), nil
}

// await tests until the condition holds and returns when it did.
func (w *waiter) await(ctx context.Context, timeout time.Duration) (time.Time, error) {
	ctx, cancel := bounded(ctx, timeout, fmt.Sprintf("%s did not come to hold within %v", describe(w.cond), timeout))
	defer cancel()
	defer w.close()
	var last error
	for {
		ok, said, err := w.test(ctx)
		switch {
		case ok:
			return time.Now(), nil
		case err != nil && ctx.Err() == nil:
			return time.Time{}, fmt.Errorf("%s: %w", describe(w.cond), err)
		case said != "" && ctx.Err() == nil:
			last = errors.New("last seen: " + said)
		}
		if sleep(ctx, conditionEvery) != nil {
			if last != nil {
				return time.Time{}, fmt.Errorf("%w; %w", context.Cause(ctx), last)
			}
			return time.Time{}, context.Cause(ctx)
		}
	}
}

func (w *waiter) close() {
	if w.http != nil {
		w.http.CloseIdleConnections()
	}
}

// testSafely is test for goroutines of their own: a panic is an error.
func (w *waiter) testSafely(ctx context.Context) (ok bool, said string, err error) {
	err = safely(func() (err error) { ok, said, err = w.test(ctx); return err })
	return ok, said, err
}

// test tests once. said describes what was seen; err is an error that waiting cannot mend.
func (w *waiter) test(ctx context.Context) (ok bool, said string, err error) {
	c := w.cond
	if w.bad != nil {
		return false, "", w.bad
	}
	switch {
	case c.HTTP != "":
		ctx, cancel := context.WithTimeout(ctx, pollTimeout*3)
		defer cancel()
		port := 80
		if s := w.rd.serviceOf(c.In); s != "" {
			port = firstPort(w.rd.Spec, s, port)
		}
		if err := getOK(ctx, w.http, c.HTTP, c.In, port); err != nil {
			return false, err.Error(), nil
		}
		return true, "answered with success", nil
	case c.TCP != "":
		ctx, cancel := context.WithTimeout(ctx, pollTimeout*3)
		defer cancel()
		if err := connects(ctx, w.rd.cluster, c.TCP, c.In); err != nil {
			return false, err.Error(), nil
		}
		return true, "accepted a connection", nil
	case c.Log != nil:
		return w.testLog()
	case len(c.Exec) > 0:
		return w.testExec(ctx)
	case c.Workload != nil:
		x := w.rd.workloads[c.Workload.Workload]
		if x == nil {
			return false, "", fmt.Errorf("no workload is called %s", c.Workload.Workload)
		}
		if dead, ok := w.rd.deaths.Load(c.Workload.Workload); ok {
			return false, "", dead.(error)
		}
		n := x.Acked()
		return c.Workload.Acked.Holds(float64(n)), fmt.Sprintf("%d operations acknowledged", n), nil
	case c.Event != nil:
		m := w.rd.life.moments[*c.Event]
		if m == nil {
			return false, "", fmt.Errorf("no fault of this round is called %s", c.Event.Fault)
		}
		select {
		case <-m.reached:
			return true, "it came", nil
		default:
			return false, "it has not come", nil
		}
	}
	return w.testMetric(ctx)
}

// testMetric evaluates an expression on what was scraped so far. Whatever is wrong with it may mend itself: a metric is
// there when its program has exposed it.
func (w *waiter) testMetric(ctx context.Context) (bool, string, error) {
	if w.rd.metrics == nil {
		return false, "", errors.New("this run records no metrics")
	}
	samples, err := w.rd.metrics.At(ctx, w.cond.Metric.Query)
	if err != nil {
		return false, err.Error(), nil
	}
	if len(samples) == 0 {
		return false, "it has no value", nil
	}
	said := ""
	for _, s := range samples {
		if !w.cond.Metric.Is.Holds(s.Value) {
			return false, seen(s), nil
		}
		said = seen(s)
	}
	return true, said, nil
}

// seen writes a value of a metric with its node, where it has one.
func seen(s record.Sample) string {
	text := strconv.FormatFloat(s.Value, 'g', -1, 64)
	if node := s.Labels["node"]; node != "" {
		text += " on " + node
	}
	return text
}

func (w *waiter) testLog() (bool, string, error) {
	var (
		nodes []string
		since map[string]int64 // of the nodes a fault resolved to, lines count from then
	)
	if id, ok := strings.CutPrefix(w.cond.Log.Node, "$"); ok {
		id, _ = strings.CutSuffix(id, ".target")
		w.rd.life.mu.Lock()
		nodes, since = w.rd.life.targets[id], w.rd.life.since[id]
		w.rd.life.mu.Unlock()
	} else {
		nodes = running(w.rd.cluster.Nodes(), w.cond.Log.Node)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.rd.cluster.Nodes() {
		for _, want := range nodes {
			if n.Name != want {
				continue
			}
			if from := since[n.Log]; w.offsets[n.Log] < from {
				w.offsets[n.Log], w.partial[n.Log] = from, nil
			}
			line, err := w.scan(n)
			if err != nil {
				return false, "", err
			}
			if line != "" {
				return true, n.Name + " logged: " + line, nil
			}
		}
	}
	return false, "no line matched", nil
}

// scan reads the new lines of a node's log and returns the first that matches.
func (w *waiter) scan(n cluster.NodeInfo) (string, error) {
	f, err := os.Open(n.Log)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.Seek(w.offsets[n.Log], io.SeekStart); err != nil {
		return "", err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return "", err
	}
	w.offsets[n.Log] += int64(len(b))
	b = append(w.partial[n.Log], b...)
	found := ""
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			break
		}
		if found == "" && w.match.Match(line) {
			found = string(line)
		}
		b = rest
	}
	w.partial[n.Log] = bytes.Clone(b)
	return found, nil
}

func (w *waiter) testExec(ctx context.Context) (bool, string, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	in := w.cond.In
	if in == "" {
		in = cluster.Client
	}
	var out bytes.Buffer
	x, err := w.rd.cluster.Exec(ctx, in, cluster.Process{Argv: w.cond.Exec, Stdout: &out, Stderr: &out})
	if err != nil {
		return false, err.Error(), nil // a node that is down now may be up at the next test
	}
	exit, err := x.Wait()
	if err != nil {
		return false, err.Error(), nil
	}
	said := fmt.Sprintf("%s in %s exited with %d: %s", w.cond.Exec[0], in, exit.Code, lastLine(out.Bytes()))
	return exit.Code == 0 && exit.Signal == "", said, nil
}

func lastLine(b []byte) string {
	b = bytes.TrimSpace(b)
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}

func (rd *round) serviceOf(node string) string {
	for _, n := range rd.cluster.Nodes() {
		if n.Name == node {
			return n.Service
		}
	}
	return ""
}

// describe names a condition in an error.
func describe(c *plan.Condition) string {
	switch {
	case c.HTTP != "":
		return "http " + c.HTTP
	case c.TCP != "":
		return "tcp " + c.TCP
	case c.Log != nil:
		return fmt.Sprintf("log of %s matching %q", c.Log.Node, c.Log.Matches)
	case len(c.Exec) > 0:
		return "exec " + strings.Join(c.Exec, " ")
	case c.Workload != nil:
		return fmt.Sprintf("workload %s acked %s", c.Workload.Workload, c.Workload.Acked)
	case c.Event != nil:
		return c.Event.Fault + "." + string(c.Event.Event)
	}
	return fmt.Sprintf("metric %s %s", c.Metric.Query, c.Metric.Is)
}
