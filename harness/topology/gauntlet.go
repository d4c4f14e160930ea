package topology

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Extension is the key of what Compose has no word for.
const Extension = "x-gauntlet"

// ExtensionKey is a key of x-gauntlet.
type ExtensionKey struct{ Name, Doc string }

// ExtensionKeys is the table of the keys of x-gauntlet, for the reference.
var ExtensionKeys = []ExtensionKey{
	{"go", "PACKAGE[@VERSION]: build this Go program and run it instead of the image's entrypoint. Without a version, a package of the module at hand."},
	{"exec", "PROGRAM: run this local program: a path relative to the Compose file, or a name on PATH."},
	{"group", "what faults and assertions call several services together"},
	{"zone", "the zone the service's nodes are in"},
	{"leader", "who leads the group: etcd, or {http: http://:PORT/path, leader: FIELD, term: FIELD}, asked of each member"},
	{"ready", "when a node is ready: one of {http: http://:PORT/path}, {tcp: :PORT}, {exec: [PROGRAM, ...]}, {log: REGEXP}; wins over healthcheck"},
	{"drain", "how long a node goes on serving after its stop signal"},
	{"metrics", ":PORT/path: where each node exposes its metrics to Prometheus, such as :8080/metrics, in quotes"},
	{"tls", "certificates for the service; not in this version"},
}

// gauntlet reads x-gauntlet.
func (l *loading) gauntlet(s *cluster.Service, c types.ServiceConfig, base []string) {
	raw, ok := c.Extensions[Extension]
	if !ok {
		return
	}
	base = append(slices.Clone(base), Extension)
	at := func(keys ...string) []string { return append(slices.Clone(base), keys...) }
	ext, ok := raw.(map[string]any)
	if !ok {
		l.fail(base, Extension+" must be a mapping", "such as "+Extension+": {go: PACKAGE}")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(ext)) {
		v := ext[key]
		switch key {
		case "go":
			s.Source.Go = l.text(v, at(key))
			l.checkPackage(s.Source.Go, at(key))
		case "exec":
			s.Source.Exec = l.text(v, at(key))
		case "group":
			s.Group = l.label(v, at(key))
		case "zone":
			s.Zone = l.label(v, at(key))
		case "leader":
			s.Leader = l.leader(v, at(key))
		case "ready":
			s.Ready = l.ready(v, at(key))
		case "drain":
			d, err := time.ParseDuration(l.text(v, at(key)))
			if err != nil || d < 0 {
				l.fail(at(key), fmt.Sprintf("drain: %v is no time", v), "such as 500ms or 2s")
			}
			s.Drain = d
		case "metrics":
			s.Metrics = l.endpoint(v, at(key))
		case "tls":
			l.fail(at(key), "tls cannot be executed by this version", "remove it, or give the service its certificates as secrets")
		default:
			var known []string
			for _, k := range ExtensionKeys {
				known = append(known, k.Name)
			}
			l.fail(at(key), fmt.Sprintf("unknown key %s in %s", key, Extension), didYouMean(key, known))
		}
	}
	if s.Source.Go != "" && s.Source.Exec != "" {
		l.fail(at("exec"), "both go and exec say what the program is", "keep one")
	}
}

// text is a string that is not empty.
func (l *loading) text(v any, at []string) string {
	s, ok := v.(string)
	if !ok || strings.TrimSpace(s) == "" {
		l.fail(at, at[len(at)-1]+" must be a string that is not empty", "")
		return ""
	}
	return s
}

var labelForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

func (l *loading) label(v any, at []string) string {
	s := l.text(v, at)
	if s != "" && !labelForm.MatchString(s) {
		l.fail(at, fmt.Sprintf("%q is no name", s), "letters, digits, dot, dash and underscore")
	}
	return s
}

var packageForm = regexp.MustCompile(`^[a-zA-Z0-9._~/+-]+(@[a-zA-Z0-9._~/+-]+)?$`)

func (l *loading) checkPackage(p string, at []string) {
	if p == "" {
		return
	}
	// What begins with a dash would be a flag of the go command.
	if !packageForm.MatchString(p) || strings.HasPrefix(p, "-") {
		l.fail(at, fmt.Sprintf("%q is no Go package", p), "PACKAGE, or PACKAGE@VERSION")
	} else if strings.HasPrefix(p, ".") && strings.Contains(p, "@") {
		l.fail(at, "a package given by its directory has no version", "remove what follows the @")
	}
}

func (l *loading) leader(v any, at []string) *cluster.Leader {
	const form = "leader: etcd, or leader: {http: http://:PORT/path, leader: FIELD, term: FIELD}"
	switch v := v.(type) {
	case string:
		if v != "etcd" {
			l.fail(at, fmt.Sprintf("%q is no way to ask who leads", v), form)
			return nil
		}
		return &cluster.Leader{Kind: "etcd"}
	case map[string]any:
		out := &cluster.Leader{Kind: "http"}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			here := append(slices.Clone(at), key)
			switch key {
			case "http":
				out.URL = l.memberURL(v[key], here)
			case "leader":
				out.Field = l.text(v[key], here)
			case "term":
				out.Term = l.text(v[key], here)
			default:
				l.fail(here, fmt.Sprintf("unknown key %s in leader", key), didYouMean(key, []string{"http", "leader", "term"}))
			}
		}
		if out.URL == "" || out.Field == "" {
			l.fail(at, "leader needs http and leader", form)
		}
		return out
	}
	l.fail(at, "leader must be a word or a mapping", form)
	return nil
}

// memberURL is asked of each member, so it names a port and no host.
func (l *loading) memberURL(v any, at []string) string {
	s := l.text(v, at)
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.User != nil || !goodPort(u.Port()) {
		l.fail(at, fmt.Sprintf("%q is no address of a node", s), "http://:PORT/path; the node's name is put in")
		return s
	}
	if u.Hostname() != "" {
		l.fail(at, fmt.Sprintf("%q names a host, but it is asked of each node", s), "http://:"+u.Port()+u.RequestURI())
	}
	return s
}

// endpoint is asked of each node, so it names a port and no host.
func (l *loading) endpoint(v any, at []string) *cluster.Endpoint {
	const form = "metrics: \":PORT/path\", such as \":8080/metrics\""
	if n, ok := v.(int); ok { // YAML reads :8080 as text, and 8080 as a number
		v = fmt.Sprint(n)
	}
	s := l.text(v, at)
	if s == "" {
		return nil
	}
	host, rest, ok := strings.Cut(s, ":")
	port, path, _ := strings.Cut(rest, "/")
	switch {
	case !ok || !goodPort(port) || strings.ContainsAny(path, "?# "):
		l.fail(at, fmt.Sprintf("%q is no address of a node", s), form)
		return nil
	case host != "":
		l.fail(at, fmt.Sprintf("%q names a host, but it is asked of each node", s), fmt.Sprintf("metrics: %q", ":"+rest))
		return nil
	case path == "":
		path = "metrics" // what everybody calls it
	}
	n, _ := strconv.Atoi(port)
	return &cluster.Endpoint{Port: n, Path: "/" + path}
}

func goodPort(s string) bool { n, err := strconv.Atoi(s); return err == nil && n >= 1 && n <= 65535 }

// ready reads the condition by which a node is ready. It is about the node itself, so it names none.
func (l *loading) ready(v any, at []string) *plan.Condition {
	const form = "one of {http: http://:PORT/path}, {tcp: :PORT}, {exec: [PROGRAM, ...]}, {log: REGEXP}"
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		l.fail(at, "ready must be a mapping with one key", form)
		return nil
	}
	c := &plan.Condition{}
	for key, v := range m {
		here := append(slices.Clone(at), key)
		switch key {
		case "http":
			c.HTTP = l.memberURL(v, here)
		case "tcp":
			c.TCP = l.text(v, here)
			if host, port, ok := strings.Cut(c.TCP, ":"); c.TCP != "" && (!ok || host != "" || !goodPort(port)) {
				l.fail(here, fmt.Sprintf("%q is no port of the node", c.TCP), "tcp: :PORT, in quotes")
			}
		case "exec":
			list, ok := v.([]any)
			if !ok || len(list) == 0 {
				l.fail(here, "exec must be a list: the program and its arguments", "")
			}
			for i, e := range list {
				c.Exec = append(c.Exec, l.text(e, index(here, i)))
			}
		case "log":
			if inner, ok := v.(map[string]any); ok && len(inner) == 1 && inner["matches"] != nil {
				v, here = inner["matches"], append(here, "matches")
			}
			c.Log = &plan.LogCondition{Matches: l.text(v, here)}
			if _, err := regexp.Compile(c.Log.Matches); err != nil {
				l.fail(here, "no regular expression: "+err.Error(), "")
			}
		default:
			l.fail(here, fmt.Sprintf("a node cannot be ready by %s", key), form)
		}
	}
	return c
}
