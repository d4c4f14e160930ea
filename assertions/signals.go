package assertions

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/hasvc/gauntlet/harness/record"
)

// signal is a moment at which a node, or the system, was meant to be caught with requests in hand.
type signal struct {
	node string // empty: no one node
	what string // "it was sent SIGTERM"
	at   Window // from then until the program ended, or the fault did

	then  int // requests in hand at the moment
	until int // and from then to the end of the window
}

// signals are the moments of a window: each signal that was to stop a program, with the program's end, and each pause; where the
// harness sent none, each time that a fault came into effect.
func signals(r *record.Round, ws []Window) []signal {
	last := ws[len(ws)-1].To
	var out []signal
	open := map[string]int{} // node -> index of what has not come to its end
	begin := func(e record.Event, what string) {
		if _, begun := open[e.Node]; begun || !within(ws, e.T) {
			return
		}
		open[e.Node] = len(out)
		out = append(out, signal{node: e.Node, what: what, at: Window{e.T, last}})
	}
	for _, e := range r.Events {
		switch e.Kind {
		case record.NodeSignalled:
			begin(e, "it was sent "+e.Signal)
		case record.NodePaused:
			begin(e, "it was paused")
		case record.NodeExited, record.NodeResumed:
			if e.Kind == record.NodeExited && e.Announced {
				begin(e, "it was ended") // records that are older than node.signalled
			}
			if i, begun := open[e.Node]; begun {
				out[i].at.To = min(out[i].at.To, e.T)
				delete(open, e.Node)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, e := range r.Events {
		if e.Kind == record.FaultInEffect && within(ws, e.T) {
			out = append(out, signal{what: e.Fault + " came into effect", at: Window{e.T, last}})
		}
	}
	return out
}

// count counts the requests in hand: at the node, by the connection of their client or by the node's own log, or, where neither
// can say, anywhere. They can say where they do of any replica of its service: then a node of which nothing is told had none. One that
// no server began on is in nobody's hand; that its client chose the node all the same tells that clients go there by themselves.
func (s *signal) count(reqs []*record.Request, logs *serverLog, nodes []record.Node) {
	known := false
	if s.node != "" {
		service := serviceOf(s.node, nodes)
		known = slices.ContainsFunc(reqs, func(q *record.Request) bool { return q.Node != "" && serviceOf(q.Node, nodes) == service })
		for _, ls := range logs.byID {
			known = known || slices.ContainsFunc(ls, func(l *logLine) bool { return l.service == service && l.what == accepted && l.timed })
		}
	}
	for _, q := range reqs {
		switch end := ending(q); {
		case end == record.Refused || end == record.Missed:
		case !known || q.Node == s.node:
			s.tally(q.Sent, q.Done)
		default:
			s.tally(held(logs.byID[q.ID], s.node))
		}
	}
}

// held is when a node had a request in hand, by its log. What it never ended it holds for ever; what it never took, never.
func held(lines []*logLine, node string) (from, to time.Duration) {
	const never = time.Duration(-1)
	from, to = never, never
	for _, l := range lines {
		switch {
		case l.node != node || !l.timed:
		case l.what == accepted && from == never:
			from, to = l.at, 1<<62
		case (l.what == done || l.what == aborted) && from != never:
			to = l.at
		}
	}
	return from, to
}

func (s *signal) tally(from, to time.Duration) {
	if from < 0 || from > s.at.To || to < s.at.From {
		return
	}
	s.until++
	if from <= s.at.From {
		s.then++
	}
}

// says is the message of a line that is no request's.
func (l *logLine) says() string {
	var j jsonLine
	if json.Unmarshal([]byte(l.text), &j) == nil && j.Msg != "" {
		return j.Msg
	}
	return l.text[:min(len(l.text), 80)]
}
