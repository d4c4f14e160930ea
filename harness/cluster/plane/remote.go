package plane

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// The methods by which the harness reaches the Router of a plane.
const (
	methodApply     = "router.apply"
	methodRemove    = "router.remove"
	methodCounters  = "router.counters"
	methodReset     = "router.reset"
	methodIntercept = "router.intercept"
	methodAudit     = "router.audit"
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

// Handlers returns the handlers by which a RemoteRouter reaches r. A driver adds its own to them.
func (r *Router) Handlers() map[string]Handler {
	return map[string]Handler{
		methodApply: method(func(_ context.Context, b applyBody) (any, error) {
			id, err := r.Apply(b.Links, b.Rule)
			return ruleBody{id}, err
		}),
		methodRemove: method(func(_ context.Context, b ruleBody) (any, error) {
			return nil, r.Remove(b.ID)
		}),
		methodCounters: method(func(_ context.Context, b ruleBody) (any, error) {
			return r.Counters(b.ID)
		}),
		methodReset: method(func(ctx context.Context, b linksBody) (any, error) {
			return r.Reset(ctx, b.Links)
		}),
		methodIntercept: method(func(_ context.Context, b linksBody) (any, error) {
			return nil, r.Intercept(b.Links)
		}),
		methodAudit: method(func(context.Context, struct{}) (any, error) {
			return r.Audit()
		}),
	}
}

// method makes a Handler of a function that takes a decoded body and no files.
func method[T any](f func(context.Context, T) (any, error)) Handler {
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

// Intercept is Router.Intercept.
func (r RemoteRouter) Intercept(ctx context.Context, links []AddrLink) error {
	_, err := r.Client.Call(ctx, methodIntercept, linksBody{links}, nil)
	return err
}

// Audit is Router.Audit.
func (r RemoteRouter) Audit(ctx context.Context) (left []string, err error) {
	_, err = r.Client.Call(ctx, methodAudit, struct{}{}, &left)
	return left, err
}
