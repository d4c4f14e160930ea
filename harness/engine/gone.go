package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
)

// Of two faults that act between the same two nodes, the first that is undone cannot be seen gone there: a probe meets the other
// one. So it is seen gone where nothing else acts, and the rest is its debt, which the last of them pays: the links are probed when
// nothing acts on them any more, by the measure of each fault that was there.

// debt is a link that a fault left to others.
type debt struct {
	in   *injection
	link cluster.Link
}

// seenGone proves that an injection is gone, and then what others left to it.
func (l *life) seenGone(ctx context.Context, in *injection) (evidence string, err error) {
	proof := in.effect.Gone
	if in.effect.Healed != nil {
		proof = l.healed(in, in.effect.Links)
	}
	var said []string
	if proof != nil {
		evidence, err := l.proveGone(ctx, in, proof)
		if err != nil {
			return "", err
		}
		said = append(said, evidence)
	}
	var failed []error
	for _, d := range l.due() {
		evidence, err := l.proveGone(ctx, d.in, l.healed(d.in, d.links))
		if err != nil {
			failed = append(failed, fmt.Errorf("fault %s: %w", d.in.name(), err))
			continue
		}
		said = append(said, fmt.Sprintf("what %s had left to it: %s", d.in.name(), evidence))
	}
	return strings.Join(said, "; "), errors.Join(failed...)
}

// proveGone waits for a proof, for as long as the topology lives. That it does not come is recorded.
func (l *life) proveGone(ctx context.Context, in *injection, proof func(context.Context) (string, error)) (string, error) {
	alive, stop := l.whileAlive(ctx)
	defer stop()
	evidence, err := prove(alive, goneTimeout, proof)
	if err != nil {
		err = fmt.Errorf("it was undone, but is not gone: %w", err)
		l.rd.w.Event(record.Event{Kind: record.UndoFailed, Fault: in.fault.ID, FaultKind: in.fault.Kind, Occurrence: in.n, Error: err.Error()})
	}
	return evidence, err
}

// healed proves that links are as they were before an injection, where nothing else acts on them.
func (l *life) healed(in *injection, links []cluster.Link) func(context.Context) (string, error) {
	var asked []cluster.Link
	var ask func(context.Context) (string, error)
	return func(ctx context.Context) (string, error) {
		free, others := l.divide(in, links)
		if len(free) == 0 {
			return leftTo(len(links), others), nil
		}
		if ask == nil || !slices.Equal(free, asked) { // a proof may remember what it has seen: this is another one
			asked, ask = free, in.effect.Healed(free)
		}
		evidence, err := ask(ctx)
		if err == nil && len(others) > 0 {
			evidence += "; " + leftTo(len(links)-len(free), others)
		}
		return evidence, err
	}
}

func leftTo(n int, others []string) string {
	return fmt.Sprintf("%d links on which %s acts are left to be seen when it is gone", n, strings.Join(others, ", "))
}

// divide parts links into those on which nothing else acts, and debts to the faults that do.
func (l *life) divide(in *injection, links []cluster.Link) (free []cluster.Link, others []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range links {
		l.debts = slices.DeleteFunc(l.debts, func(d debt) bool { return d == debt{in, k} })
		x := l.actingOn(k)
		if x == nil {
			free = append(free, k)
			continue
		}
		l.debts = append(l.debts, debt{in, k})
		if !slices.Contains(others, x.name()) {
			others = append(others, x.name())
		}
	}
	return free, others
}

// actingOn is a fault that acts between the nodes of a link, one way or the other: a probe goes there and back. life is locked.
func (l *life) actingOn(k cluster.Link) *injection {
	i := slices.IndexFunc(l.active, func(x *injection) bool {
		return x.effect != nil && x.effect.Healed != nil && slices.ContainsFunc(x.effect.Links, func(o cluster.Link) bool {
			return o == k || o == cluster.Link{From: k.To, To: k.From}
		})
	})
	if i < 0 {
		return nil
	}
	return l.active[i]
}

// owed are debts of one injection.
type owed struct {
	in    *injection
	links []cluster.Link
}

// due takes the debts of links on which nothing acts any more off the list, by injection.
func (l *life) due() (all []owed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.debts = slices.DeleteFunc(l.debts, func(d debt) bool {
		if l.actingOn(d.link) != nil {
			return false
		}
		i := slices.IndexFunc(all, func(o owed) bool { return o.in == d.in })
		if i < 0 {
			i, all = len(all), append(all, owed{in: d.in})
		}
		all[i].links = append(all[i].links, d.link)
		return true
	})
	return all
}
