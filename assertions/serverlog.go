package assertions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/record"
)

// LogPatterns say how the lines of a service tell of requests. Left out as a whole, lines are JSON objects as hasvc writes them: msg is
// accepted, done, aborted or "order stored", requestId and traceId are the ids, time is RFC 3339.
type LogPatterns struct {
	Accepted string `json:"accepted,omitempty" desc:"A regular expression (RE2) of the line that is written when the handling of a request begins, with the request's id as a named group: (?P<id>...). Groups called time (RFC 3339), trace, status and order are understood too."`
	Done     string `json:"done,omitempty" desc:"Likewise, when the answer was written."`
	Aborted  string `json:"aborted,omitempty" desc:"Likewise, when the handling ended without an answer."`
	Stored   string `json:"stored,omitempty" desc:"Likewise, when the effect was made that must be made once."`
	ID       string `json:"id,omitempty" desc:"The name of the group that is the request's id. Default id."`
}

// saying is what a line says of a request.
type saying string

const (
	accepted saying = "accepted"
	done     saying = "done"
	aborted  saying = "aborted"
	stored   saying = "order stored"
	other    saying = "" // something else, with the request's id
)

func (p *LogPatterns) group() string { return cmp.Or(p.ID, "id") }

func (p *LogPatterns) patterns() []struct {
	what saying
	text string
} {
	return []struct {
		what saying
		text string
	}{{stored, p.Stored}, {accepted, p.Accepted}, {done, p.Done}, {aborted, p.Aborted}}
}

// compile reads the patterns. All errors come joined.
func (p *LogPatterns) compile() (map[saying]*regexp.Regexp, error) {
	out := map[saying]*regexp.Regexp{}
	var errs []error
	for _, x := range p.patterns() {
		if x.text == "" {
			continue
		}
		re, err := regexp.Compile(x.text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("log, %s: %w", x.what, err))
		case re.SubexpIndex(p.group()) < 0:
			errs = append(errs, fmt.Errorf("log, %s: %q has no group called %s; the id of the request is written (?P<%s>...)", x.what, x.text, p.group(), p.group()))
		default:
			out[x.what] = re
		}
	}
	if p.Accepted == "" && p.Done == "" {
		errs = append(errs, errors.New("log has neither accepted nor done: what does the service write when it takes or has answered a request?"))
	}
	return out, errors.Join(errs...)
}

// logLine is a line that tells of a request, or, without an id, of the node itself.
type logLine struct {
	node, service string
	n             int // in the file
	what          saying
	text          string
	id, trace     string
	route, order  string
	at            time.Duration // offset from the start of the run, by the clock of whoever wrote it
	timed         bool
	failed        bool // done, with an answer that says that nothing was
}

func (l *logLine) where() string { return record.LogFile(l.node) + ":" + strconv.Itoa(l.n) }

// serverLog is what the servers logged in a round.
type serverLog struct {
	byID     map[string][]*logLine // in the order of time; of one node in the order of its lines
	own      map[string][]*logLine // by node: lines with a time and without a request
	said     map[saying]int
	services map[string]int // lines that tell of requests, by service
	nodes    []string       // that have any line
	lines    int
}

// tells reports whether any line tells of a request.
func (s *serverLog) tells() bool { return s.said[accepted]+s.said[done]+s.said[aborted] > 0 }

// tellsOf says of which requests of a load the logs would have a line if a server had taken them: those whose connection went to a
// service that logs requests, and to a node of which no process was killed meanwhile with lines that it had yet to write. Where the record does
// not say which node that was, it must be so of each to which the load goes.
func (s *serverLog) tellsOf(r *record.Round, to string) func(*record.Request) bool {
	nodes := r.Run().Meta.Nodes
	goes := nodesOf(r.Run(), to)
	var all []string
	for _, n := range nodes {
		if goes(n.Name) {
			all = append(all, n.Name)
		}
	}
	if len(all) == 0 {
		all = []string{to}
	}
	kills := map[string][]time.Duration{}
	for _, e := range r.Events {
		if e.Signal == "SIGKILL" && slices.Contains([]record.EventKind{record.NodeSignalled, record.ProcessSignalled, record.NodeExited}, e.Kind) {
			kills[e.Node] = append(kills[e.Node], e.T)
		}
	}
	return func(q *record.Request) bool {
		at := all
		if q.Node != "" {
			at = []string{q.Node}
		}
		return !slices.ContainsFunc(at, func(node string) bool {
			killed := slices.ContainsFunc(kills[node], func(t time.Duration) bool { return t >= q.Sent && t <= q.Done })
			return killed || s.services[serviceOf(node, nodes)] == 0
		})
	}
}

// jsonLine are the fields of hasvc's log.
type jsonLine struct {
	Time      string `json:"time"`
	Msg       string `json:"msg"`
	RequestID string `json:"requestId"`
	TraceID   string `json:"traceId"`
	Route     string `json:"route"`
	Method    string `json:"method"`
	OrderID   string `json:"orderId"`
	Status    int    `json:"status"`
	Code      any    `json:"code"` // a number or gRPC's word
}

// readLogs reads the logs of a round. p is nil for hasvc's.
func readLogs(ctx context.Context, r *record.Round, p *LogPatterns) (*serverLog, error) {
	var res map[saying]*regexp.Regexp
	if p != nil {
		var err error
		if res, err = p.compile(); err != nil {
			return nil, err
		}
	}
	nodes, err := r.Run().Logged()
	if err != nil {
		return nil, err
	}
	out := &serverLog{byID: map[string][]*logLine{}, own: map[string][]*logLine{}, said: map[saying]int{}, services: map[string]int{}}
	for _, node := range nodes {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		lines, err := r.Logs(node)
		if err != nil {
			return nil, err
		}
		if len(lines) > 0 {
			out.nodes = append(out.nodes, node)
		}
		out.lines += len(lines)
		service := serviceOf(node, r.Run().Meta.Nodes)
		for _, raw := range lines {
			l := logLine{node: node, service: service, n: raw.N, text: raw.Text}
			if p == nil {
				l.json(r.Run().Meta.Start)
			} else {
				l.match(p, res, r.Run().Meta.Start)
			}
			out.add(&l)
		}
	}
	for _, ls := range out.byID {
		slices.SortStableFunc(ls, func(a, b *logLine) int { return cmp.Compare(a.at, b.at) })
	}
	return out, nil
}

func (s *serverLog) add(l *logLine) {
	switch {
	case l.id != "":
		s.byID[l.id] = append(s.byID[l.id], l)
		if l.what != other {
			s.said[l.what]++
			s.services[l.service]++
		}
	case l.timed:
		s.own[l.node] = append(s.own[l.node], l)
	}
}

// json reads a line of hasvc's.
func (l *logLine) json(start time.Time) {
	var j jsonLine
	if json.Unmarshal([]byte(l.text), &j) != nil {
		return
	}
	l.id, l.trace, l.order = j.RequestID, j.TraceID, j.OrderID
	l.route = cmp.Or(j.Route, j.Method)
	switch what := saying(j.Msg); what {
	case accepted, done, aborted, stored:
		l.what = what
	}
	code := fmt.Sprint(j.Code)
	l.failed = j.Status >= 400 || j.Code != nil && code != "0" && !strings.EqualFold(code, "ok")
	l.clock(j.Time, start)
}

// match reads a line by patterns.
func (l *logLine) match(p *LogPatterns, res map[saying]*regexp.Regexp, start time.Time) {
	for _, x := range p.patterns() {
		re := res[x.what]
		if re == nil {
			continue
		}
		m := re.FindStringSubmatch(l.text)
		if m == nil {
			continue
		}
		group := func(name string) string {
			if i := re.SubexpIndex(name); i >= 0 {
				return m[i]
			}
			return ""
		}
		l.what, l.id, l.trace, l.order = x.what, group(p.group()), group("trace"), group("order")
		if status, err := strconv.Atoi(group("status")); err == nil {
			l.failed = status >= 400
		}
		l.clock(group("time"), start)
		break
	}
	if !l.timed {
		var j struct {
			Time string `json:"time"`
		}
		if json.Unmarshal([]byte(l.text), &j) == nil {
			l.clock(j.Time, start)
		}
	}
}

func (l *logLine) clock(text string, start time.Time) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		l.at, l.timed = t.Sub(start), true
	}
}

// serviceOf is the service of a node, also of one that came later.
func serviceOf(node string, nodes []record.Node) string {
	service := ""
	for _, n := range nodes {
		if n.Name == node {
			return n.Service
		}
		if belongs(node, n.Service) && len(n.Service) > len(service) {
			service = n.Service
		}
	}
	return cmp.Or(service, node)
}

// clockSlack is how far a clock may be off before it counts as that of another machine. What is compared is ordered by cause and
// effect, so that a busy machine does not use it up; what does is a clock that is being corrected.
const clockSlack = 100 * time.Millisecond

// clocks says which nodes log by another clock than the harness's. A line outside of the round shows it, and one that accepts a
// request before it was sent; so does a node that accepts most of what it accepts after the answer was there. (Some may be: what
// was given up and tried again can arrive late.)
func (s *serverLog) clocks(r *record.Round, reqs []*record.Request) []string {
	from, to := r.Events[0].T, r.Events[len(r.Events)-1].T
	type tally struct {
		outside, early, late, joined int
		line                         int // the first that shows it
		example                      string
	}
	by := map[string]*tally{}
	of := func(node string) *tally {
		if by[node] == nil {
			by[node] = &tally{}
		}
		return by[node]
	}
	show := func(t *tally, l *logLine, format string, a ...any) {
		if t.line == 0 || l.n < t.line {
			t.line, t.example = l.n, l.where()+fmt.Sprintf(format, a...)
		}
	}
	look := func(l *logLine) {
		if l.timed && (l.at < from-clockSlack || l.at > to+clockSlack) {
			t := of(l.node)
			t.outside++
			show(t, l, " is dated %s, and the round went from %s to %s", seconds(l.at), seconds(from), seconds(to))
		}
	}
	for _, ls := range s.byID {
		for _, l := range ls {
			look(l)
		}
	}
	for _, ls := range s.own {
		for _, l := range ls {
			look(l)
		}
	}
	for _, q := range reqs {
		for _, l := range s.byID[q.ID] {
			if l.what != accepted || !l.timed {
				continue
			}
			t := of(l.node)
			t.joined++
			switch {
			case l.at < q.Sent-clockSlack:
				t.early++
				show(t, l, " accepts %s at %s, and it was sent at %s", q.ID, seconds(l.at), seconds(q.Sent))
			case q.OK && l.at > q.Done+clockSlack:
				t.late++
			}
		}
	}
	var why []string
	for _, node := range s.nodes {
		t := by[node]
		switch {
		case t == nil:
		case t.outside > 0 || t.early > 0:
			why = append(why, fmt.Sprintf("%s logs by another clock than the harness's: %s", node, t.example))
		case 2*t.late > t.joined:
			why = append(why, fmt.Sprintf("%s logs by another clock than the harness's: it accepts %d of %d requests after their answers were there", node, t.late, t.joined))
		}
	}
	return why
}
