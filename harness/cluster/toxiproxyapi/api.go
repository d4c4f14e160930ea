// Package toxiproxyapi speaks toxiproxy's HTTP API for a running topology, so that its clients and its command line drive
// it: https://github.com/Shopify/toxiproxy#http-api. A proxy is a link that goes through the link core. Which there are
// was decided when the topology was started, so proxies are neither created nor deleted here; toxics are.
//
// Beside toxiproxy's types of toxics there are http_error and grpc_error, error replies in the server's place.
//
// It takes what toxiproxy takes, but for what can only be a mistake: there an attribute that the toxic does not have is ignored, and
// a misspelt one leaves a toxic that does nothing; so does a toxicity below 0, and one above 1 is no share. Here they are refused.
package toxiproxyapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Version is that of toxiproxy whose API this is.
const Version = "2.12.0"

const (
	changeTimeout = 10 * time.Second // of each change, and of the body that asks for it: no call waits for ever
	maxBody       = 1 << 20
)

// Proxy is a link as toxiproxy's clients see it.
type Proxy struct {
	Name     string  `json:"name"`
	Listen   string  `json:"listen"`   // where the client's end can be reached, or the node it is
	Upstream string  `json:"upstream"` // the other end
	Enabled  bool    `json:"enabled"`
	Toxics   []Toxic `json:"toxics"`
}

// Toxic is one on a proxy.
type Toxic struct {
	Attributes map[string]any `json:"attributes"` // int64 and string
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
}

// Name is that of a link's proxy: node names have no underscore in them, as a rule, and every character is one of a URL.
func Name(l cluster.Link) string { return l.From + "_" + l.To }

// Linker is what the API needs of a topology.
type Linker interface {
	Apply(ctx context.Context, links []cluster.Link, r cluster.Rule) (cluster.RuleID, error)
	Remove(ctx context.Context, id cluster.RuleID) error
}

// API is the handler. Changes are made one at a time.
type API struct {
	linker  Linker
	replied map[cluster.Link]bool
	seed    uint64
	mux     http.ServeMux

	mu      sync.Mutex
	made    uint64 // toxics so far
	proxies map[string]*proxy
}

type proxy struct {
	Proxy
	link   cluster.Link
	rules  []cluster.RuleID // of the toxics, in their order; noRule for one that never acts
	closed cluster.RuleID   // what a disabled one is closed by
}

// noRule stands for the rule of a toxic whose toxicity is 0: it is on the list, and nothing is done.
const noRule cluster.RuleID = 0

// New returns the API for links that go through the core. The requests of those that are replied on are read, so that error replies
// can be given on them. end says how an end of a link is called; what toxics draw comes from the seed.
func New(linker Linker, links, replied []cluster.Link, seed uint64, end func(cluster.Link) (listen, upstream string)) (*API, error) {
	a := &API{linker: linker, replied: map[cluster.Link]bool{}, seed: seed, proxies: map[string]*proxy{}}
	for _, l := range replied {
		a.replied[l] = true
	}
	for _, l := range links {
		name := Name(l)
		if other := a.proxies[name]; other != nil {
			return nil, fmt.Errorf("the links %s and %s would both be the proxy %s", other.link, l, name)
		}
		listen, upstream := end(l)
		a.proxies[name] = &proxy{link: l, Proxy: Proxy{Name: name, Listen: listen, Upstream: upstream, Enabled: true, Toxics: []Toxic{}}}
	}
	for _, r := range []struct {
		pattern string
		do      func(context.Context, *http.Request) (int, any, error)
	}{
		{"GET /version", func(context.Context, *http.Request) (int, any, error) {
			return http.StatusOK, map[string]string{"version": Version}, nil
		}},
		{"POST /reset", a.reset},
		{"GET /proxies", a.list},
		{"POST /proxies", a.refuse},
		{"POST /populate", a.refuse},
		{"DELETE /proxies/{proxy}", a.refuse},
		{"GET /proxies/{proxy}", a.show},
		{"POST /proxies/{proxy}", a.update},
		{"PATCH /proxies/{proxy}", a.update},
		{"GET /proxies/{proxy}/toxics", a.toxics},
		{"POST /proxies/{proxy}/toxics", a.add},
		{"GET /proxies/{proxy}/toxics/{toxic}", a.toxic},
		{"POST /proxies/{proxy}/toxics/{toxic}", a.change},
		{"PATCH /proxies/{proxy}/toxics/{toxic}", a.change},
		{"DELETE /proxies/{proxy}/toxics/{toxic}", a.remove},
	} {
		a.mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			// A client that goes away half way must not leave a toxic that nobody knows of.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), changeTimeout)
			defer cancel()
			if err := readBody(w, req); err != nil {
				reply(w, 0, nil, err)
				return
			}
			a.mu.Lock()
			status, answer, err := r.do(ctx, req)
			body, merr := json.Marshal(answer)
			a.mu.Unlock()
			reply(w, status, body, errors.Join(err, merr))
		})
	}
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), "Mozilla/") { // as toxiproxy does: a page in a browser must not break a topology
		http.Error(w, "User agent not allowed", http.StatusForbidden)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// apiError is an error with its status, as toxiproxy's clients read it.
type apiError struct {
	Message string `json:"error"`
	Status  int    `json:"status"`
}

func (e *apiError) Error() string { return e.Message }

func fail(status int, format string, args ...any) error {
	return &apiError{fmt.Sprintf(format, args...), status}
}

func reply(w http.ResponseWriter, status int, body []byte, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		var e *apiError
		if !errors.As(err, &e) {
			e = &apiError{err.Error(), http.StatusInternalServerError}
		}
		status, body = e.Status, nil
		body, _ = json.Marshal(e) // two plain fields
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = w.Write(append(body, '\n')) // whoever asked has gone
	}
}

func (a *API) proxy(r *http.Request) (*proxy, error) {
	p := a.proxies[r.PathValue("proxy")]
	if p == nil {
		return nil, fail(http.StatusNotFound, "proxy not found")
	}
	return p, nil
}

// find returns a proxy and the place of one of its toxics.
func (a *API) find(r *http.Request) (*proxy, int, error) {
	p, err := a.proxy(r)
	if err != nil {
		return nil, 0, err
	}
	i := slices.IndexFunc(p.Toxics, func(t Toxic) bool { return t.Name == r.PathValue("toxic") })
	if i < 0 {
		return nil, 0, fail(http.StatusNotFound, "toxic not found")
	}
	return p, i, nil
}

// readBody reads the body of a request before anything waits for it, within changeTimeout.
func readBody(w http.ResponseWriter, r *http.Request) error {
	c := http.NewResponseController(w)
	err := c.SetReadDeadline(time.Now().Add(changeTimeout))
	var body []byte
	if err == nil {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return fail(http.StatusBadRequest, "bad request body: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return fail(http.StatusBadRequest, "bad request body: %v", err)
	}
	return nil
}

func (a *API) refuse(context.Context, *http.Request) (int, any, error) {
	return 0, nil, fail(http.StatusForbidden, "the proxies are the links of the running topology: they are neither created nor deleted here; GET /proxies lists them, and \"gauntlet up --toxic FROM:TO\" chooses them")
}

func (a *API) list(context.Context, *http.Request) (int, any, error) {
	return http.StatusOK, a.proxies, nil
}

func (a *API) show(_ context.Context, r *http.Request) (int, any, error) {
	p, err := a.proxy(r)
	return http.StatusOK, p, err
}

func (a *API) toxics(_ context.Context, r *http.Request) (int, any, error) {
	p, err := a.proxy(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, p.Toxics, nil
}

func (a *API) toxic(_ context.Context, r *http.Request) (int, any, error) {
	p, i, err := a.find(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, p.Toxics[i], nil
}

// update enables or disables a proxy: the connections of a disabled one are reset, and new ones as they come.
func (a *API) update(ctx context.Context, r *http.Request) (int, any, error) {
	p, err := a.proxy(r)
	if err != nil {
		return 0, nil, err
	}
	in := Proxy{Listen: p.Listen, Upstream: p.Upstream, Enabled: p.Enabled}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Listen != p.Listen || in.Upstream != p.Upstream {
		return 0, nil, fail(http.StatusForbidden, "a link has the ends that the topology gave it: listen and upstream cannot be changed")
	}
	return http.StatusOK, p, a.enable(ctx, p, in.Enabled)
}

func (a *API) enable(ctx context.Context, p *proxy, on bool) error {
	if on == p.Enabled {
		return nil
	}
	if on {
		if err := a.linker.Remove(ctx, p.closed); err != nil {
			return err
		}
	} else {
		id, err := a.linker.Apply(ctx, []cluster.Link{p.link}, cluster.Rule{Toxic: &cluster.Toxic{
			Type: "reset_peer", Stream: "upstream", Toxicity: 1, Attributes: json.RawMessage(`{"timeout": 0}`)}})
		if err != nil {
			return err
		}
		p.closed = id
	}
	p.Enabled = on
	return nil
}

// reset enables every proxy and removes every toxic.
func (a *API) reset(ctx context.Context, _ *http.Request) (int, any, error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.proxies)) {
		p := a.proxies[name]
		for len(p.rules) > 0 {
			if err := a.takeOff(ctx, p, len(p.rules)-1); err != nil {
				errs = append(errs, err)
				break
			}
		}
		errs = append(errs, a.enable(ctx, p, true))
	}
	return http.StatusNoContent, nil, errors.Join(errs...)
}

func (a *API) add(ctx context.Context, r *http.Request) (int, any, error) {
	p, err := a.proxy(r)
	if err != nil {
		return 0, nil, err
	}
	in := struct {
		Toxic
		Attributes map[string]json.RawMessage `json:"attributes"`
	}{Toxic: Toxic{Stream: "downstream", Toxicity: 1}}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	t := in.Toxic
	if t.Name == "" {
		t.Name = t.Type + "_" + t.Stream
	}
	if slices.ContainsFunc(p.Toxics, func(x Toxic) bool { return x.Name == t.Name }) {
		return 0, nil, fail(http.StatusConflict, "toxic already exists")
	}
	id, err := a.apply(ctx, p, &t, in.Attributes)
	if err != nil {
		return 0, nil, err
	}
	p.Toxics, p.rules = append(p.Toxics, t), append(p.rules, id)
	return http.StatusOK, t, nil
}

// apply puts a toxic on the link, with attributes in place of those that it has, and completes them.
func (a *API) apply(ctx context.Context, p *proxy, t *Toxic, given map[string]json.RawMessage) (cluster.RuleID, error) {
	kind, ok := kinds[t.Type]
	stream := strings.ToLower(t.Stream) // what is listed is what was given, as with toxiproxy
	switch {
	case !ok:
		return noRule, fail(http.StatusBadRequest, "invalid toxic type")
	case stream != "upstream" && stream != "downstream":
		return noRule, fail(http.StatusBadRequest, "stream was invalid, can be either upstream or downstream")
	case kind.reply != nil && !a.replied[p.link]:
		return noRule, fail(http.StatusBadRequest, "the requests of this link are not read; \"gauntlet up --reply FROM:TO\" has them read from the first connection on")
	}
	changed := *t
	var err error
	if changed.Attributes, err = kind.complete(t.Type, t.Attributes, given); err != nil {
		return noRule, err
	}
	id := noRule
	if t.Toxicity != 0 {
		a.made++
		rule, err := kind.rule(changed, stream, a.seed+a.made)
		if err != nil {
			return noRule, err
		}
		if id, err = a.linker.Apply(ctx, []cluster.Link{p.link}, rule); err != nil {
			if ctx.Err() != nil {
				return noRule, err
			}
			return noRule, fail(http.StatusBadRequest, "%v", err) // what the plane says of impossible values
		}
	}
	*t = changed
	return id, nil
}

// lift takes a toxic's rule off the link.
func (a *API) lift(ctx context.Context, id cluster.RuleID) error {
	if id == noRule {
		return nil
	}
	return a.linker.Remove(ctx, id)
}

// change replaces a toxic by one with other attributes. The new one comes before the old one goes: nothing escapes both,
// and when the new one is refused the old one stays. Connections go on, as with toxiproxy, also those of a timeout; its time
// counts anew, and so do the bytes of a limit_data, which with toxiproxy go on counting.
func (a *API) change(ctx context.Context, r *http.Request) (int, any, error) {
	p, i, err := a.find(r)
	if err != nil {
		return 0, nil, err
	}
	t := p.Toxics[i]
	in := struct {
		Attributes map[string]json.RawMessage `json:"attributes"`
		Toxicity   *float32                   `json:"toxicity"`
	}{Toxicity: &t.Toxicity}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	id, err := a.apply(ctx, p, &t, in.Attributes)
	if err != nil {
		return 0, nil, err
	}
	if err := a.lift(ctx, p.rules[i]); err != nil {
		return 0, nil, errors.Join(err, a.lift(ctx, id))
	}
	p.Toxics[i], p.rules[i] = t, id
	return http.StatusOK, t, nil
}

func (a *API) remove(ctx context.Context, r *http.Request) (int, any, error) {
	p, i, err := a.find(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, a.takeOff(ctx, p, i)
}

func (a *API) takeOff(ctx context.Context, p *proxy, i int) error {
	if err := a.lift(ctx, p.rules[i]); err != nil {
		return err
	}
	p.Toxics, p.rules = slices.Delete(p.Toxics, i, i+1), slices.Delete(p.rules, i, i+1)
	return nil
}
