package scenarios

import (
	"cmp"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/hasvc/gauntlet/harness/plan"
)

func (v *validator) workloads() {
	for _, name := range inOrder(v.f.Workloads, v.root.get("workloads")) {
		w := v.f.Workloads[name]
		at := p("workloads", name)
		has := func(key string) bool { return v.has("workloads", name, key) }
		v.keyword(at, "workload", name)
		if !v.mapping(at...) {
			continue
		}
		kind := w.kind()
		if has("kind") {
			v.name(sub(at, "kind"), "kind of workload", w.Kind, []string{"registers", "exec"})
		} else if !has("exec") {
			v.key(at, "workload %s: what is it? give it kind: registers, or exec: [program, ...]", name)
		}
		switch kind {
		case "exec":
			if !has("exec") {
				v.key(at, "workload %s: which program? give it exec: [program, ...]", name)
			} else if v.root.find(sub(at, "exec")...).kind == listNode {
				v.argv(sub(at, "exec"), w.Exec)
			}
			v.in(sub(at, "in"), w.In)
			for _, k := range []string{"clients", "keys", "rate", "timeout"} {
				if has(k) {
					v.key(sub(at, k), "%s is for the built-in workloads; give a program of yours its own arguments", k)
				}
			}
		case "registers":
			if !has("to") {
				v.key(at, "workload %s: what does it work on? give it to: a service, group or node", name)
			}
			for _, k := range []string{"exec", "in"} {
				if has(k) {
					v.key(sub(at, k), "%s is for workloads of the kind exec", k)
				}
			}
			if has("rate") && w.Rate == 0 {
				v.at(sub(at, "rate"), "a workload of 0/s does nothing; leave rate out for %d/s", DefaultRate)
			}
			v.within(sub(at, "clients"), w.Clients, 1, 10_000)
			v.within(sub(at, "keys"), w.Keys, 1, 1_000_000)
			if has("timeout") && w.Timeout <= 0 {
				v.at(sub(at, "timeout"), "a timeout of %v leaves no time", w.Timeout)
			}
		}
		if has("to") {
			v.to(sub(at, "to"), w.To, w.kind() == "exec")
		}
	}
}

func (w Workload) kind() string {
	if w.Kind == "" && len(w.Exec) > 0 {
		return "exec"
	}
	return w.Kind
}

// within checks a number that was given.
func (v *validator) within(path []any, n, lo, hi int) {
	if v.has(path...) && v.root.find(path...).kind == numberNode && (n < lo || n > hi) {
		v.at(path, "%v is %d; it is %d to %d", path[len(path)-1], n, lo, hi)
	}
}

// to checks where a load or workload goes: a service, a group (all its services) or a node; ported when it names its port.
func (v *validator) to(path []any, name string, ported bool) {
	v.ofTopology(path, "service, group or node", name, slices.Concat(v.services, v.groups, v.nodes))
	if !ported && slices.Contains(v.closed, name) {
		v.at(path, "%s exposes no port; give it ports or expose in the topology", name)
	}
}

func (v *validator) loads() {
	for _, name := range inOrder(v.f.Load, v.root.get("load")) {
		l := v.f.Load[name]
		at := p("load", name)
		has := func(key string) bool { return v.has("load", name, key) }
		v.keyword(at, "load", name)
		if !v.mapping(at...) {
			continue
		}
		if !has("to") {
			v.key(at, "load %s: where does it go? give it to: a service, group or node", name)
		} else {
			v.to(sub(at, "to"), l.To, has("port"))
		}
		v.within(sub(at, "port"), l.Port, 1, 65535)
		if has("timeout") && l.Timeout <= 0 {
			v.at(sub(at, "timeout"), "a timeout of %v leaves no time", l.Timeout)
		}
		switch {
		case !has("idle"):
		case l.GRPC != nil:
			v.key(sub(at, "idle"), "gRPC calls share one connection to each replica, which is kept to the end; leave idle out")
		case l.KeepAlive != nil && !*l.KeepAlive:
			v.key(sub(at, "idle"), "with keepalive: false no connection is ever idle; give one of them")
		case l.Idle <= 0:
			v.at(sub(at, "idle"), "an idle time of %v keeps none; write keepalive: false", l.Idle)
		}
		if l.HTTP2 && l.GRPC != nil {
			v.key(sub(at, "http2"), "gRPC calls go over HTTP/2 anyway; leave http2 out")
		}
		switch given(has("rate"), has("stages")) {
		case 0:
			v.key(at, "load %s: how much? give it rate: 200/s, or stages", name)
		case 2:
			v.key(sub(at, "stages"), "rate is short for one stage; give rate or stages")
		}
		if has("rate") && l.Rate == 0 {
			v.at(sub(at, "rate"), "a load of 0/s sends nothing")
		}
		v.stages(at, l)
		switch given(has("requests"), has("targets")) {
		case 0:
			v.key(at, "load %s: what is sent? give it requests or targets", name)
		case 2:
			v.key(sub(at, "targets"), "requests and targets: give one of them")
		}
		if has("requests") && len(l.Requests) == 0 && v.root.find("load", name, "requests").kind == listNode {
			v.at(sub(at, "requests"), "the list of requests is empty")
		}
		if l.GRPC != nil && has("targets") {
			v.key(sub(at, "targets"), "targets are HTTP requests; a load of gRPC calls needs requests with call")
		}
		if v.has(sub(at, "grpc", "descriptors")...) && l.GRPC != nil && l.GRPC.Descriptors == "" {
			v.at(sub(at, "grpc", "descriptors"), "which file? leave descriptors out to ask the service by server reflection")
		}
		v.requests(at, l)
	}
}

func (v *validator) stages(load []any, l Stream) {
	if v.has(sub(load, "stages")...) && len(l.Stages) == 0 && v.root.find(sub(load, "stages")...).kind == listNode {
		v.at(sub(load, "stages"), "the list of stages is empty")
	}
	silent := len(l.Stages) > 0
	for i, s := range l.Stages {
		at := sub(load, "stages", i)
		silent = silent && s.Rate == 0 && s.From == 0 && s.To == 0 && v.readAll(at, "rate", "from", "to")
		if !v.mapping(at...) {
			continue
		}
		has := func(key string) bool { return v.has(sub(at, key)...) }
		linear := has("from") || has("to")
		switch {
		case has("rate") && linear:
			v.at(at, "a stage has a constant rate, or goes from one rate to another: give rate, or from and to")
		case linear && !(has("from") && has("to")):
			v.at(at, "a rate that changes has from and to")
		case !linear && !has("rate"):
			v.at(at, "how much? give the stage a rate, or from and to")
		}
		switch last := i == len(l.Stages)-1; {
		case has("for"):
			if s.For <= 0 && v.root.find(sub(at, "for")...).scalar() {
				v.at(sub(at, "for"), "a stage of %v is none", s.For)
			}
		case !last:
			v.at(at, "how long? only the last stage may leave out for: it holds to the end of recovery")
		case linear:
			v.at(at, "how long? a rate that changes needs for; at its end the last rate holds")
		}
	}
	if silent {
		v.at(sub(load, "stages"), "a load whose stages are all of 0/s sends nothing")
	}
}

// readAll reports whether a mapping has one of these keys, and each that it has could be read.
func (v *validator) readAll(at []any, keys ...string) (some bool) {
	for _, k := range keys {
		if !v.has(sub(at, k)...) {
			continue
		}
		if n := v.root.find(sub(at, k)...); v.unread[[2]int{n.line, n.col}] {
			return false
		}
		some = true
	}
	return some
}

func (v *validator) requests(load []any, l Stream) {
	seen := map[string]bool{}
	total := 0
	for i, r := range l.Requests {
		at := sub(load, "requests", i)
		if !v.mapping(at...) {
			continue
		}
		has := func(key string) bool { return v.has(sub(at, key)...) }
		id := requestID(r)
		if seen[id] {
			v.at(sub(at, "id"), "the id %q is taken by another request of this load; give each its own", id)
		}
		seen[id] = true
		if r.Weight == nil {
			total++
		} else if total += *r.Weight; *r.Weight < 0 || *r.Weight > 1_000_000 {
			v.at(sub(at, "weight"), "weight is %d; it is 0 to 1000000", *r.Weight)
		}
		if v.call(at, l, r) {
			continue
		}
		if has("method") && !validMethod(r.Method) {
			v.at(sub(at, "method"), "%q is no HTTP method%s", r.Method, suggest(r.Method, methods))
		}
		if !has("path") {
			v.at(at, "path is missing")
		} else if !strings.HasPrefix(r.Path, "/") && !strings.HasPrefix(r.Path, "{{") {
			v.at(sub(at, "path"), "%q: a path begins with /; the service is named by to", r.Path)
		}
		v.template(sub(at, "path"), r.Path)
		for _, h := range inOrder(r.Headers, v.root.find(sub(at, "headers")...)) {
			if !validHeader(h) {
				v.key(sub(at, "headers", h), "%q is no name of a header", h)
			}
			if l.HTTP2 && slices.Contains(ofConnections, http.CanonicalHeaderKey(h)) {
				v.key(sub(at, "headers", h), "%s is about a connection of HTTP/1.1; HTTP/2 does not know it (RFC 9113, 8.2.2)", h)
			}
			v.template(sub(at, "headers", h), r.Headers[h])
		}
		if has("body") {
			v.bodyTemplate(v.root.find(sub(at, "body")...))
		}
		if r.Expect != nil {
			if v.has(sub(at, "expect", "code")...) {
				v.key(sub(at, "expect", "code"), "code is of gRPC; HTTP has status")
			}
			for _, s := range r.Expect.Status {
				if s < 100 || s > 599 {
					v.at(sub(at, "expect", "status"), "%d is no HTTP status", s)
				}
			}
			v.regexp(sub(at, "expect", "matches"), r.Expect.Matches)
		}
	}
	if len(l.Requests) > 0 && total == 0 {
		v.at(sub(load, "requests"), "all weights are 0: nothing would be sent")
	}
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// ofConnections are the headers that may not stand in a request of HTTP/2.
var ofConnections = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"}

func validMethod(m string) bool { return slices.Contains(methods, m) }

func validHeader(h string) bool {
	return h != "" && strings.IndexFunc(h, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}) < 0
}

// bodyTemplate checks the templates in every text of a body.
func (v *validator) bodyTemplate(n *node) {
	if n.kind == stringNode {
		v.templateAt(n, n.text)
	}
	for _, it := range n.items {
		v.bodyTemplate(it)
	}
	for _, e := range n.entries {
		v.templateAt(e.at, e.key)
		v.bodyTemplate(e.val)
	}
}

func (v *validator) template(path []any, text string) { v.templateAt(v.root.find(path...), text) }

// templateAt tries a template as the load does before anything is sent. A loop is not tried: it may be long.
func (v *validator) templateAt(n *node, text string) {
	if !strings.Contains(text, "{{") {
		return
	}
	t, err := plan.ParseTemplate("", text, func() uint64 { return 0 })
	if err != nil {
		v.doc.at(n, "the template cannot be read: %s; it knows .N, .ID, mod and rand", strings.TrimPrefix(err.Error(), "template: :1: "))
		return
	}
	loops, unknown := false, ""
	parts := slices.SortedFunc(slices.Values(t.Templates()), func(a, b *template.Template) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, part := range parts {
		each(part.Root, func(n parse.Node) {
			switch n := n.(type) {
			case *parse.RangeNode, *parse.TemplateNode:
				loops = true
			case *parse.FieldNode:
				if len(n.Ident) != 1 || n.Ident[0] != "N" && n.Ident[0] != "ID" {
					unknown = cmp.Or(unknown, strings.Join(n.Ident, "."))
				}
			}
		})
	}
	if unknown != "" {
		v.doc.at(n, "the template has no .%s%s", unknown, suggest(unknown, []string{"N", "ID"}))
		return
	}
	if loops {
		return
	}
	if err := t.Execute(io.Discard, plan.TemplateData{ID: "id"}); err != nil {
		v.doc.at(n, "the template cannot be carried out: %s", templatePlace.ReplaceAllString(err.Error(), ""))
	}
}

// templatePlace is where package template says that an error is; a template of a scenario is a line with a place of its own.
var templatePlace = regexp.MustCompile(`^template: :\d+:\d+: executing "" at `)

// each calls f for a node of a template and all below it.
func each(n parse.Node, f func(parse.Node)) {
	f(n)
	branch := func(b *parse.BranchNode) {
		each(b.Pipe, f)
		each(b.List, f)
		if b.ElseList != nil {
			each(b.ElseList, f)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, x := range n.Nodes {
			each(x, f)
		}
	case *parse.ActionNode:
		each(n.Pipe, f)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			each(c, f)
		}
	case *parse.CommandNode:
		for _, a := range n.Args {
			each(a, f)
		}
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			each(n.Pipe, f)
		}
	}
}
