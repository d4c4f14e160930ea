// Package config is the configuration of a role: environment variables and nothing else. The table below is the one
// place that knows them; `hasvc config` prints it.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

// Prefix of every variable. One that begins so and is not in the table is an error: a misspelt setting must not pass
// for a default.
const Prefix = "HASVC_"

// Bounds of the requests in hand at a time that the gateway takes for its capacity.
const ShedLeast, ShedMost = 4, 500

// bodyMost leaves room in a message of gRPC, which has 4 MiB at most: a larger one is refused as if its client had asked too often.
const bodyMost = 2 << 20

// Config is what a role runs with.
type Config struct {
	Etcd      []string // client URLs of every member
	HTTP      string   // listen address
	GRPC      string   // listen address, orders and inventory only
	Advertise string   // host:port that others reach this replica by; empty: the host's name and the port listened on

	Deadline time.Duration // of a request that brings none, and the longest one it may bring; and of a client to take some of its answer
	Try      time.Duration // of one attempt of a call that may be repeated
	Tries    int           // attempts of such a call
	Budget   float64       // retries per request in the long run
	Connect  time.Duration // in which a connection must be made, before the next address is tried
	Balancer string        // round_robin | least_request | random

	Breaker   Breaker // of each service that is called
	Limit     Limit   // of requests by each client
	Shed      bool    // refuse what is beyond the capacity
	ShedFirst int     // what is taken for the capacity at first: requests in hand at a time
	Workers   int     // calls that a backend works on at a time; 0: all
	MaxBody   int     // of a request, in bytes
	Poison    string  // the SKU of an order that makes the replica panic; empty: none

	EdgeBalancer string // round_robin | least_connections | random

	StoreTry  time.Duration // of one attempt to reach the store
	Inventory bool          // orders takes the stock of each order from inventory
	TLS       TLS           // between services

	Ready time.Duration // in which all dependencies must answer a readiness probe
	Lease time.Duration // of the entry in the registry, whole seconds

	Drain    time.Duration // between being not ready and closing the listeners
	Shutdown time.Duration // in which requests in flight must end after that

	Level   zapcore.Level
	Traces  string // file that spans are appended to; empty: none are made
	Defects defect.Set
}

// Breaker is when calls to a service stop for a while.
type Breaker struct {
	Failures int           // more than so many in the interval,
	Ratio    float64       // which are a greater share than this of all calls, open it
	Interval time.Duration // what it looks back on
	Open     time.Duration // how long it refuses before it tries again
	Probes   int           // calls that it tries with; all must succeed
}

// TLS is the files, in PEM, by which services know each other; all of them or none.
type TLS struct {
	Cert, Key string // in the name of this service
	CA        string // who signed the others'
}

// On reports whether there are any.
func (t TLS) On() bool { return t != TLS{} }

// Limit is how much one client may ask of one route.
type Limit struct {
	Kind    string  // off | counter | sliding | token | leaky
	Rate    float64 // requests per second
	Burst   int     // token: requests at once; leaky: requests that wait
	Clients int     // that are told apart, on each route
}

// Variable is a row of the table.
type Variable struct {
	Name    string
	Default string
	Doc     string
	set     func(c *Config, v string) error
}

// Table is all variables.
var Table = []Variable{
	{"HASVC_ETCD", "http://127.0.0.1:2379", "client URLs of all members of etcd, separated by commas", func(c *Config, v string) (err error) { c.Etcd, err = urls(v); return }},
	{"HASVC_HTTP", "", "address to serve HTTP on; empty: :8080 for edge and gateway, :8081 (health and metrics) for orders and inventory", func(c *Config, v string) error { return address(&c.HTTP, v) }},
	{"HASVC_GRPC", ":9090", "address on which orders and inventory serve gRPC", func(c *Config, v string) error { return address(&c.GRPC, v) }},
	{"HASVC_ADVERTISE", "", "host:port by which others reach this replica; empty: the host's name and the port it listens on", func(c *Config, v string) error { return address(&c.Advertise, v) }},
	{"HASVC_DEADLINE", "5s", "deadline of a request that brings none (Request-Timeout, in ms), and the longest it may bring; and how long a client may take nothing of its answer", func(c *Config, v string) error { return duration(&c.Deadline, v, time.Millisecond) }},
	// Two seconds are the field's advice where nothing is known of a service: longer than any answer that is still worth having, and
	// short enough for a second attempt within the deadline. Who knows the service's p99 sets two to three times that.
	{"HASVC_TRY_TIMEOUT", "2s", "of one attempt of a call that may be repeated", func(c *Config, v string) error { return duration(&c.Try, v, time.Millisecond) }},
	{"HASVC_TRIES", "3", "attempts of such a call, the first included", func(c *Config, v string) error { return count(&c.Tries, v, 1, 10) }},
	{"HASVC_RETRY_BUDGET", "0.1", "retries per request in the long run, from 0 to 1", func(c *Config, v string) error { return number(&c.Budget, v, 0, 1) }},
	{"HASVC_CONNECT_TIMEOUT", "1s", "in which a connection to a replica must be made", func(c *Config, v string) error { return duration(&c.Connect, v, time.Millisecond) }},
	{"HASVC_BALANCER", "round_robin", "round_robin, least_request or random", func(c *Config, v string) error {
		return oneOf(&c.Balancer, v, "round_robin", "least_request", "random")
	}},
	// The defaults of the breaker are the ones that the field advises for services at hundreds of requests a second.
	{"HASVC_BREAKER_FAILURES", "3", "more failures than this in the interval, and a share above the ratio, open the breaker", func(c *Config, v string) error { return count(&c.Breaker.Failures, v, 0, 1_000_000) }},
	{"HASVC_BREAKER_RATIO", "0.6", "share of calls, from 0 to 1, that must fail for that", func(c *Config, v string) error { return number(&c.Breaker.Ratio, v, 0, 1) }},
	{"HASVC_BREAKER_INTERVAL", "10s", "what the breaker looks back on", func(c *Config, v string) error { return duration(&c.Breaker.Interval, v, 10*time.Millisecond) }},
	{"HASVC_BREAKER_OPEN", "30s", "how long an open breaker refuses before it tries again", func(c *Config, v string) error { return duration(&c.Breaker.Open, v, time.Millisecond) }},
	{"HASVC_BREAKER_PROBES", "10", "calls that a half-open breaker lets through; it closes when they all succeed", func(c *Config, v string) error { return count(&c.Breaker.Probes, v, 1, 10_000) }},
	{"HASVC_LIMIT", "off", "what one client may ask of one route of this edge or gateway: off, counter, sliding, token or leaky", func(c *Config, v string) error {
		return oneOf(&c.Limit.Kind, v, "off", "counter", "sliding", "token", "leaky")
	}},
	{"HASVC_LIMIT_RATE", "50", "requests per second", func(c *Config, v string) error { return number(&c.Limit.Rate, v, 0.01, 1e6) }},
	{"HASVC_LIMIT_BURST", "10", "token: requests at once; leaky: requests that wait for their turn", func(c *Config, v string) error { return count(&c.Limit.Burst, v, 1, 1_000_000) }},
	{"HASVC_LIMIT_CLIENTS", "10000", "clients that are told apart, each counted once for every route that it asks; the one unseen for longest is forgotten first", func(c *Config, v string) error { return count(&c.Limit.Clients, v, 1, 10_000_000) }},
	{"HASVC_SHED", "off", "on: the gateway refuses what is beyond its capacity, the low priority first", func(c *Config, v string) error { return onOff(&c.Shed, v) }},
	{"HASVC_SHED_LIMIT", "40", "requests in hand at a time that the gateway begins with; from then on it follows from how long they take, step by step", func(c *Config, v string) error { return count(&c.ShedFirst, v, ShedLeast, ShedMost) }},
	{"HASVC_WORKERS", "0", "calls that orders or inventory works on at a time; others wait in line for as long as their callers do. 0: no bound", func(c *Config, v string) error { return count(&c.Workers, v, 0, 100_000) }},
	{"HASVC_MAX_BODY", "65536", "largest body of a request, in bytes, at most 2 MiB", func(c *Config, v string) error { return count(&c.MaxBody, v, 1, bodyMost) }},
	{"HASVC_POISON", "", "the SKU of an order that makes gateway or orders panic, to see what one bad request costs; empty: none", func(c *Config, v string) error { c.Poison = v; return nil }},
	{"HASVC_EDGE_BALANCER", "round_robin", "how edge chooses a gateway: round_robin, least_connections or random", func(c *Config, v string) error {
		return oneOf(&c.EdgeBalancer, v, "round_robin", "least_connections", "random")
	}},
	{"HASVC_STORE_TRY_TIMEOUT", "250ms", "of one attempt to reach the store", func(c *Config, v string) error { return duration(&c.StoreTry, v, time.Millisecond) }},
	{"HASVC_INVENTORY", "off", "on: orders takes the stock of each order from inventory, which it finds in the registry", func(c *Config, v string) error { return onOff(&c.Inventory, v) }},
	{"HASVC_TLS_CERT", "", "certificate (PEM, may hold its chain) by which gateway, orders and inventory know each other, in the name of the service; with HASVC_TLS_KEY and HASVC_TLS_CA, or gRPC is plain text. `hasvc certs` makes some", func(c *Config, v string) error { c.TLS.Cert = v; return nil }},
	{"HASVC_TLS_KEY", "", "its private key (PEM)", func(c *Config, v string) error { c.TLS.Key = v; return nil }},
	{"HASVC_TLS_CA", "", "certificate (PEM) of who signs for all services", func(c *Config, v string) error { c.TLS.CA = v; return nil }},
	{"HASVC_READY_TIMEOUT", "700ms", "in which all dependencies must answer a readiness probe", func(c *Config, v string) error { return duration(&c.Ready, v, time.Millisecond) }},
	{"HASVC_LEASE", "2s", "lease of the entry in the registry, whole seconds; etcd grants no less than its election allows", func(c *Config, v string) error { return duration(&c.Lease, v, time.Second) }},
	{"HASVC_DRAIN", "500ms", "how long a replica that is told to stop goes on serving, not ready any more", func(c *Config, v string) error { return duration(&c.Drain, v, 0) }},
	{"HASVC_SHUTDOWN", "5s", "in which requests in flight must end after that", func(c *Config, v string) error { return duration(&c.Shutdown, v, 0) }},
	{"HASVC_TRACES", "", "file to which spans are appended as JSON lines; empty: no spans are made, ids are passed on all the same", func(c *Config, v string) error {
		c.Traces = v
		return nil
	}},
	{"HASVC_LOG_LEVEL", "info", "debug, info, warn or error; with info, debug lines of some traces are written too, and of more while errors are many", func(c *Config, v string) error { return level(&c.Level, v) }},
	{"HASVC_DEFECT", "", "defects to switch on, separated by commas; `hasvc defects` lists them", func(c *Config, v string) (err error) { c.Defects, err = defect.Parse(v); return }},
}

// Parse reads the environment (as os.Environ gives it) for a role. It returns every error, joined.
func Parse(environ []string, defaultHTTP string) (Config, error) {
	var c Config
	var errs []error
	given := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, Prefix) {
			continue
		}
		if !slices.ContainsFunc(Table, func(v Variable) bool { return v.Name == name }) {
			errs = append(errs, fmt.Errorf("%s: there is no such variable; `hasvc config` lists them", name))
			continue
		}
		given[name] = value
	}
	for _, v := range Table {
		value, ok := given[v.Name]
		if !ok || value == "" {
			value = v.Default
		}
		if err := v.set(&c, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", v.Name, value, err))
		}
	}
	if t := c.TLS; t.On() && (t.Cert == "" || t.Key == "" || t.CA == "") {
		errs = append(errs, errors.New("HASVC_TLS_CERT, HASVC_TLS_KEY and HASVC_TLS_CA: give all three, or none for plain text"))
	}
	if c.HTTP == "" {
		c.HTTP = defaultHTTP
	}
	return c, errors.Join(errs...)
}

func urls(v string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		part = strings.TrimSpace(part)
		u, err := url.Parse(part)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("%q is no URL of the form http://host:2379", part)
		}
		out = append(out, part)
	}
	return out, nil
}

func address(dst *string, v string) error {
	if v != "" {
		_, port, err := net.SplitHostPort(v)
		if err != nil {
			return fmt.Errorf("want host:port or :port: %w", err)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("%q is no port", port)
		}
	}
	*dst = v
	return nil
}

func duration(dst *time.Duration, v string, least time.Duration) error {
	d, err := time.ParseDuration(v)
	if err != nil {
		return errors.New("want a duration such as 500ms or 2s")
	}
	if d < least || d > time.Hour {
		return fmt.Errorf("want at least %s and at most 1h", least)
	}
	*dst = d
	return nil
}

func count(dst *int, v string, lo, hi int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < lo || n > hi {
		return fmt.Errorf("want a number from %d to %d", lo, hi)
	}
	*dst = n
	return nil
}

func number(dst *float64, v string, lo, hi float64) error {
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || !(x >= lo && x <= hi) { // not NaN either
		return fmt.Errorf("want a number from %g to %g", lo, hi)
	}
	*dst = x
	return nil
}

func onOff(dst *bool, v string) error {
	if v != "on" && v != "off" {
		return errors.New("want on or off")
	}
	*dst = v == "on"
	return nil
}

func oneOf(dst *string, v string, words ...string) error {
	if !slices.Contains(words, v) {
		return fmt.Errorf("want one of %s", strings.Join(words, ", "))
	}
	*dst = v
	return nil
}

func level(dst *zapcore.Level, v string) error {
	l, err := zapcore.ParseLevel(v)
	if err != nil || l > zapcore.ErrorLevel {
		return errors.New("want debug, info, warn or error")
	}
	*dst = l
	return nil
}
