package plane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// The methods by which the harness reaches the Router of a plane.
const (
	methodApply     = "router.apply"
	methodRemove    = "router.remove"
	methodCounters  = "router.counters"
	methodReset     = "router.reset"
	methodRefuse    = "router.refuse"
	methodNotes     = "router.notes"
	methodProvoke   = "router.provoke"
	methodRelease   = "router.release"
	methodIntercept = "router.intercept"
	methodAudit     = "router.audit"
	methodObserve   = "router.observe"
	methodProbe     = "router.probe"
	methodCalls     = "router.calls"
	methodCallsEnd  = "router.calls.end"
)

type applyBody struct {
	Links []AddrLink   `json:"links"`
	Rule  cluster.Rule `json:"rule"`
}

type ruleBody struct {
	ID cluster.RuleID `json:"id"`
}

type linksBody struct {
	Links []AddrLink `json:"links"`
}

type observeBody struct {
	Links   []AddrLink `json:"links"`
	Replied bool       `json:"replied"`
}

type probeBody struct {
	At      netip.AddrPort `json:"at"`
	Listens bool           `json:"listens"`
}

type refusalBody struct {
	ID uint64 `json:"id"`
}

type socketsBody struct {
	Sockets []Socket `json:"sockets"`
}

// Handlers returns the handlers by which a RemoteRouter reaches r. A driver adds its own to them.
func (r *Router) Handlers() map[string]Handler {
	return HandlersOf(func() (*Router, error) { return r, nil })
}

// HandlersOf returns the handlers for a Router that a later call makes: router returns it, or why there is none.
func HandlersOf(router func() (*Router, error)) map[string]Handler {
	return map[string]Handler{
		methodApply: routed(router, func(_ context.Context, r *Router, b applyBody) (any, error) {
			id, err := r.Apply(b.Links, b.Rule)
			return ruleBody{id}, err
		}),
		methodRemove: routed(router, func(_ context.Context, r *Router, b ruleBody) (any, error) {
			return nil, r.Remove(b.ID)
		}),
		methodCounters: routed(router, func(_ context.Context, r *Router, b ruleBody) (any, error) {
			return r.Counters(b.ID)
		}),
		methodReset: routed(router, func(ctx context.Context, r *Router, b linksBody) (any, error) {
			return r.Reset(ctx, b.Links)
		}),
		methodRefuse: routed(router, func(ctx context.Context, r *Router, b linksBody) (any, error) {
			id, err := r.refuse(ctx, b.Links)
			return refusalBody{id}, err
		}),
		methodNotes: routed(router, func(ctx context.Context, r *Router, _ struct{}) (any, error) {
			return r.notes(ctx)
		}),
		methodProvoke: routed(router, func(ctx context.Context, r *Router, b socketsBody) (any, error) {
			return nil, r.provoke(ctx, b.Sockets)
		}),
		methodRelease: routed(router, func(ctx context.Context, r *Router, b refusalBody) (any, error) {
			return nil, r.release(ctx, b.ID)
		}),
		methodIntercept: routed(router, func(_ context.Context, r *Router, b linksBody) (any, error) {
			return nil, r.Intercept(b.Links)
		}),
		methodObserve: routed(router, func(_ context.Context, r *Router, b observeBody) (any, error) {
			return nil, r.Observe(b.Links, b.Replied)
		}),
		methodProbe: routed(router, func(_ context.Context, r *Router, b probeBody) (any, error) {
			return nil, r.Probe(b.At, b.Listens)
		}),
		methodCalls: routed(router, func(_ context.Context, r *Router, _ struct{}) (any, error) {
			return r.Calls(), nil
		}),
		methodCallsEnd: routed(router, func(ctx context.Context, r *Router, _ struct{}) (any, error) {
			return r.CallsEnd(ctx), nil
		}),
		methodAudit: routed(router, func(_ context.Context, r *Router, _ struct{}) (any, error) {
			return r.Audit()
		}),
	}
}

// routed makes a Handler of a function that works on the Router.
func routed[T any](router func() (*Router, error), f func(context.Context, *Router, T) (any, error)) Handler {
	return Method(func(ctx context.Context, in T) (any, error) {
		r, err := router()
		if err != nil {
			return nil, err
		}
		return f(ctx, r, in)
	})
}

// Method makes a Handler of a function that takes a decoded body and no files.
func Method[T any](f func(context.Context, T) (any, error)) Handler {
	return func(ctx context.Context, body json.RawMessage, files []*os.File) (any, []*os.File, error) {
		closeFiles(files)
		var in T
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, nil, fmt.Errorf("plane: decoding a call: %w", err)
		}
		out, err := f(ctx, in)
		return out, nil, err
	}
}

// RemoteRouter is the Router of a plane, as the harness sees it. Its methods are those of Router.
type RemoteRouter struct{ Client *Client }

// Apply is Router.Apply.
func (r RemoteRouter) Apply(ctx context.Context, links []AddrLink, rule cluster.Rule) (cluster.RuleID, error) {
	var out ruleBody
	_, err := r.Client.Call(ctx, methodApply, applyBody{links, rule}, &out)
	return out.ID, err
}

// Remove is Router.Remove.
func (r RemoteRouter) Remove(ctx context.Context, id cluster.RuleID) error {
	_, err := r.Client.Call(ctx, methodRemove, ruleBody{id}, nil)
	return err
}

// Counters is Router.Counters.
func (r RemoteRouter) Counters(ctx context.Context, id cluster.RuleID) (out []AddrCounter, err error) {
	_, err = r.Client.Call(ctx, methodCounters, ruleBody{id}, &out)
	return out, err
}

// Reset is Router.Reset.
func (r RemoteRouter) Reset(ctx context.Context, links []AddrLink) (n int, err error) {
	_, err = r.Client.Call(ctx, methodReset, linksBody{links}, &n)
	return n, err
}

// ResetListed is Router.Reset for a plane that does not hold the nodes' namespaces: list asks the nodes. The links that
// list gets are those of both directions.
func (r RemoteRouter) ResetListed(ctx context.Context, links []AddrLink, list ListSockets) (int, error) {
	return reset(ctx, r, bothWays(links), list)
}

func (r RemoteRouter) refuse(ctx context.Context, links []AddrLink) (uint64, error) {
	var out refusalBody
	_, err := r.Client.Call(ctx, methodRefuse, linksBody{links}, &out)
	return out.ID, err
}

func (r RemoteRouter) notes(ctx context.Context) (out notes, err error) {
	_, err = r.Client.Call(ctx, methodNotes, struct{}{}, &out)
	return out, err
}

func (r RemoteRouter) provoke(ctx context.Context, live []Socket) error {
	_, err := r.Client.Call(ctx, methodProvoke, socketsBody{live}, nil)
	return err
}

func (r RemoteRouter) release(ctx context.Context, id uint64) error {
	_, err := r.Client.Call(ctx, methodRelease, refusalBody{id}, nil)
	return err
}

// Intercept is Router.Intercept.
func (r RemoteRouter) Intercept(ctx context.Context, links []AddrLink) error {
	_, err := r.Client.Call(ctx, methodIntercept, linksBody{links}, nil)
	return err
}

// Observe is Router.Observe.
func (r RemoteRouter) Observe(ctx context.Context, links []AddrLink, replied bool) error {
	_, err := r.Client.Call(ctx, methodObserve, observeBody{links, replied}, nil)
	return err
}

// Probe is Router.Probe.
func (r RemoteRouter) Probe(ctx context.Context, at netip.AddrPort, listens bool) error {
	_, err := r.Client.Call(ctx, methodProbe, probeBody{at, listens}, nil)
	return err
}

// Calls is Router.Calls.
func (r RemoteRouter) Calls(ctx context.Context) (out Calls, err error) {
	_, err = r.Client.Call(ctx, methodCalls, struct{}{}, &out)
	return out, err
}

// CallsEnd is Router.CallsEnd.
func (r RemoteRouter) CallsEnd(ctx context.Context) (out []Observed, err error) {
	_, err = r.Client.Call(ctx, methodCallsEnd, struct{}{}, &out)
	return out, err
}

// Audit is Router.Audit.
func (r RemoteRouter) Audit(ctx context.Context) (left []string, err error) {
	_, err = r.Client.Call(ctx, methodAudit, struct{}{}, &left)
	return left, err
}
