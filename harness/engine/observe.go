package engine

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// ToxicOn are the links on which the round's faults use a toxic, by their ends; in a control without faults, those of the run that it is
// compared with.
func ToxicOn(r plan.Round) []plan.LinkEnds {
	if r.Quiet != nil {
		return r.Quiet.Toxic
	}
	return endsOf(r, faults.ToxicLinks.ToxicLinks)
}

// RepliedOn are those on which they answer requests.
func RepliedOn(r plan.Round) []plan.LinkEnds {
	if r.Quiet != nil {
		return r.Quiet.Replied
	}
	return endsOf(r, faults.ReplyLinks.ReplyLinks)
}

// endsOf are the ends of the round's faults whose parameters are of a kind, each pair once.
func endsOf[T any](r plan.Round, ends func(T) faults.Ends) (links []plan.LinkEnds) {
	for _, f := range r.Faults {
		kind, ok := faults.ByName(f.Kind)
		if !ok {
			continue
		}
		for _, o := range f.Occurrences {
			params, ok := kind.New().(T)
			if !ok || json.Unmarshal(o.Params, params) != nil {
				continue // the fault itself says what is wrong with its parameters
			}
			if l := plan.LinkEnds(ends(params)); !slices.Contains(links, l) {
				links = append(links, l)
			}
		}
	}
	return links
}

// linksOf are links of a plan in the words of a driver.
func linksOf(ends []plan.LinkEnds) (links []cluster.Link) {
	for _, l := range ends {
		links = append(links, cluster.Link(l))
	}
	return links
}

// calls writes what was read on observed links.
func (rd *round) calls(b cluster.CallBatch) {
	for _, c := range b.Calls {
		rd.w.Call(record.Call{
			Round: rd.plan.N, Begin: rd.w.At(c.Begin), End: rd.w.At(c.End), From: c.Link.From, To: c.Link.To, Port: c.Port, Conn: c.Conn,
			Proto: c.Proto, Method: c.Method, Path: c.Path, RequestID: c.RequestID, TraceID: c.TraceID,
			Status: c.Status, GRPCStatus: c.GRPCStatus, Injected: c.Injected, Error: c.Error,
		})
	}
	for _, o := range b.Read {
		data, err := json.Marshal(record.Observed{Calls: o.Calls, Dropped: o.Dropped, Unreadable: o.Unreadable, Why: o.Why})
		if err != nil {
			rd.w.Event(record.Event{Kind: record.Failure, Error: err.Error()})
			continue
		}
		ev := record.Event{Kind: record.ObserveEnd, ID: o.Link.String(), Data: data, Evidence: fmt.Sprintf("%d calls were read", o.Calls)}
		if o.Unreadable > 0 {
			ev.Evidence += fmt.Sprintf("; %d connections could not be read to their end: %s", o.Unreadable, o.Why)
		}
		if o.Dropped > 0 {
			ev.Evidence += fmt.Sprintf("; %d of them are not in the record", o.Dropped)
		}
		rd.w.Event(ev)
	}
	if b.Err != nil {
		rd.w.Event(record.Event{Kind: record.Failure, Error: fmt.Sprintf("the last calls on observed links could not be fetched: %v", b.Err)})
	}
}
