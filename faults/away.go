package faults

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// proof is Effect.Prove or Effect.Gone, or what Effect.Healed returns.
type proof = func(context.Context) (string, error)

// away are those of the nodes that were scaled away while a fault held them: what it did to them went with them.
func away(c cluster.Cluster, nodes []string) (gone []string) {
	there := map[string]bool{cluster.Client: true}
	for _, n := range c.Nodes() {
		there[n.Name] = true
	}
	for _, n := range nodes {
		if !there[n] && !slices.Contains(gone, n) {
			gone = append(gone, n)
		}
	}
	return gone
}

// unlessAway is the error of bringing a node back. Of one that was scaled away nothing is left to be brought back.
func unlessAway(c cluster.Cluster, node string, err error) error {
	if err != nil && len(away(c, []string{node})) > 0 {
		return nil
	}
	return err
}

// restored proves that nodes are as they were before the fault, but for those that were scaled away.
func restored(env *Env, nodes []string, prove func(*Env, []string) proof) proof {
	return ofThoseHere(env, nodes, func(n string) []string { return []string{n} }, prove)
}

// healed is Effect.Healed: it proves that links are as they were before the fault, but for those of nodes that were scaled away.
func healed(env *Env, prove func(*Env, []cluster.Link) proof) func([]cluster.Link) proof {
	return func(links []cluster.Link) proof {
		return ofThoseHere(env, links, func(l cluster.Link) []string { return []string{l.From, l.To} }, prove)
	}
}

// ofThoseHere proves something of what the fault was on, without that of which a node was scaled away.
func ofThoseHere[T any](env *Env, all []T, nodes func(T) []string, prove func(*Env, []T) proof) proof {
	var held []string
	for _, x := range all {
		held = append(held, nodes(x)...)
	}
	asked, ask := len(all), prove(env, all)
	return func(ctx context.Context) (string, error) {
		gone := away(env.Cluster, held)
		here := slices.DeleteFunc(slices.Clone(all), func(x T) bool {
			return slices.ContainsFunc(nodes(x), func(n string) bool { return slices.Contains(gone, n) })
		})
		if len(here) != asked { // a proof may remember what it has seen: this is another one
			asked, ask = len(here), prove(env, here)
		}
		return withoutAway(ctx, len(here), gone, ask)
	}
}

// withoutAway asks for a proof of what is still there, if anything is, and names what was scaled away.
func withoutAway(ctx context.Context, here int, gone []string, prove proof) (evidence string, err error) {
	if here > 0 {
		evidence, err = prove(ctx)
	}
	switch {
	case errors.As(err, new(*cluster.UnknownNodeError)):
		return "", NotYet("%v", err) // it was scaled away a moment ago
	case err != nil || len(gone) == 0:
		return evidence, err
	case here > 0:
		evidence += "; "
	}
	return evidence + "scaled away meanwhile: " + strings.Join(gone, ", "), nil
}
