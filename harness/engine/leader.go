package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/record"
)

// pollEvery is how often each member of a group with a leader is asked who leads.
const pollEvery = 100 * time.Millisecond

// pollTimeout bounds one question, so that a paused member does not hold its poll up for long.
const pollTimeout = 300 * time.Millisecond

// leaders asks the members of groups who leads, from the plane, past the rules, and keeps the last answers.
type leaders struct {
	c    cluster.Cluster
	w    *record.Writer
	http *http.Client

	mu     sync.Mutex
	views  map[string]view              // by member
	ids    map[string]map[string]string // group -> the member's own id -> node
	groups map[string]*cluster.Leader
}

// view is a member's last answer.
type view struct {
	at     time.Time
	leader string
	term   uint64
	// own: the member only says whether it leads itself. One that does not confirms, by its term, the one that does.
	own bool
	err error
}

func newLeaders(c cluster.Cluster, w *record.Writer) *leaders {
	l := &leaders{c: c, w: w, views: map[string]view{}, ids: map[string]map[string]string{}, groups: map[string]*cluster.Leader{}}
	for _, s := range c.Spec().Services {
		if s.Leader != nil && s.Group != "" {
			l.groups[s.Group] = s.Leader
		}
	}
	l.http = planeClient(c)
	return l
}

// planeClient is an HTTP client whose connections start in the plane.
func planeClient(c cluster.Cluster) *http.Client {
	return &http.Client{Transport: ending{&http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return c.DialPlane(ctx, "tcp", addr)
		},
		MaxIdleConnsPerHost: 2,
	}}}
}

// ending is a transport whose answers end with the context of their requests. That of 101 Switching Protocols would not: its body
// is the bare connection.
type ending struct{ *http.Transport }

// RoundTrip is http.RoundTripper.
func (e ending) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.Transport.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, err
}

// poll asks until ctx ends. Members that appear while it runs are asked from the next turn on.
func (l *leaders) poll(ctx context.Context) {
	defer l.http.CloseIdleConnections()
	if len(l.groups) == 0 {
		return
	}
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	var polling sync.WaitGroup
	defer polling.Wait()
	var busy sync.Map // members whose last answer is still out
	for {
		for _, n := range l.c.Nodes() {
			how := l.groups[n.Group]
			if how == nil {
				continue
			}
			if _, out := busy.LoadOrStore(n.Name, true); out {
				continue
			}
			polling.Go(func() {
				defer busy.Delete(n.Name)
				l.ask(ctx, n, how)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (l *leaders) ask(ctx context.Context, n cluster.NodeInfo, how *cluster.Leader) {
	asked, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	p := record.LeaderPoll{T: l.w.Now(), Group: n.Group, Member: n.Name}
	var (
		v      view
		claims bool
	)
	if how.Kind == "etcd" {
		v.leader, v.term, claims, v.err = l.askEtcd(asked, n)
	} else {
		v, claims = l.askHTTP(asked, n, how)
	}
	if ctx.Err() != nil {
		return
	}
	if v.err != nil {
		p.Error = v.err.Error()
	} else {
		p.Leader, p.Term, p.Claims = v.leader, v.term, claims
	}
	l.w.Leader(p)
	v.at = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.views[n.Name] = v
}

// askEtcd uses etcd's JSON gateway, which needs no client library: members and leaders are named by ids, which become
// nodes as the members tell their own.
func (l *leaders) askEtcd(ctx context.Context, n cluster.NodeInfo) (leader string, term uint64, claims bool, err error) {
	port := l.port(n, 2379)
	var s struct {
		Header struct {
			MemberID string `json:"member_id"`
		} `json:"header"`
		Leader   string `json:"leader"`
		RaftTerm string `json:"raftTerm"`
	}
	u := fmt.Sprintf("http://%s:%d/v3/maintenance/status", n.Name, port)
	if err := l.fetch(ctx, http.MethodPost, u, []byte("{}"), &s); err != nil {
		return "", 0, false, err
	}
	if term, err = strconv.ParseUint(s.RaftTerm, 10, 64); err != nil {
		return "", 0, false, fmt.Errorf("the member's term %q is no number", s.RaftTerm)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := l.ids[n.Group]
	if ids == nil {
		ids = map[string]string{}
		l.ids[n.Group] = ids
	}
	ids[s.Header.MemberID] = n.Name
	if s.Leader == "" || s.Leader == "0" {
		return "", term, false, nil
	}
	return ids[s.Leader], term, s.Leader == s.Header.MemberID, nil
}

// askHTTP reads the fields that the topology names from a JSON answer.
func (l *leaders) askHTTP(ctx context.Context, n cluster.NodeInfo, how *cluster.Leader) (v view, claims bool) {
	u, err := url.Parse(how.URL)
	if err != nil {
		return view{err: err}, false
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(l.port(n, 80))
	}
	u.Host = net.JoinHostPort(n.Name, port)
	var doc any
	if err := l.fetch(ctx, http.MethodGet, u.String(), nil, &doc); err != nil {
		return view{err: err}, false
	}
	switch x := field(doc, how.Field).(type) {
	case bool:
		v.own = true
		if x {
			v.leader, claims = n.Name, true
		}
	case string:
		v.leader, claims = x, x == n.Name
	case nil:
	default:
		return view{err: fmt.Errorf("field %s is neither true, false nor a name", how.Field)}, false
	}
	if how.Term != "" {
		switch x := field(doc, how.Term).(type) {
		case json.Number:
			v.term, v.err = strconv.ParseUint(x.String(), 10, 64)
		case string:
			v.term, v.err = strconv.ParseUint(x, 10, 64)
		default:
			v.err = fmt.Errorf("field %s is no number", how.Term)
		}
	}
	return v, claims
}

// field walks a.b.c into a decoded JSON document.
func field(doc any, path string) any {
	for _, k := range strings.Split(path, ".") {
		m, ok := doc.(map[string]any)
		if !ok {
			return nil
		}
		doc = m[k]
	}
	return doc
}

func (l *leaders) fetch(ctx context.Context, method, u string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(into)
}

// port is the first port that the node's service exposes.
func (l *leaders) port(n cluster.NodeInfo, otherwise int) int {
	return firstPort(l.c.Spec(), n.Service, otherwise)
}

func firstPort(spec *cluster.Spec, service string, otherwise int) int {
	for _, s := range spec.Services {
		if s.Name == service && len(s.Expose) > 0 {
			return s.Expose[0]
		}
	}
	return otherwise
}

// stale is the age at which a member's answer no longer counts.
const stale = 500 * time.Millisecond

// errNoLeader says that nobody leads now by the word of a majority, which may change.
var errNoLeader = errors.New("no leader is confirmed by a majority")

// leader is the node of the highest term that a majority of the group's members confirms now, or an error that says
// what they answered.
func (l *leaders) leader(group string) (string, error) {
	if l.groups[group] == nil {
		return "", fmt.Errorf("group %s has no leader: say in its topology how to ask for one (x-gauntlet.leader)", group)
	}
	var members []string
	for _, n := range l.c.Nodes() {
		if n.Group == group {
			members = append(members, n.Name)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return elect(members, l.views, time.Now())
}

// elect finds the leader of the highest term that a majority of members confirms.
func elect(members []string, views map[string]view, now time.Time) (string, error) {
	type claim struct {
		leader string
		term   uint64
	}
	votes := map[claim]int{}
	own, claims := map[uint64]int{}, map[uint64][]string{} // by term: who only tells of itself, and who of them leads
	var errs []error
	for _, m := range members {
		v, ok := views[m]
		switch {
		case !ok || now.Sub(v.at) > stale:
			errs = append(errs, fmt.Errorf("%s has not answered", m))
		case v.err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", m, v.err))
		case v.own:
			own[v.term]++
			if v.leader != "" {
				claims[v.term] = append(claims[v.term], v.leader)
			}
		case v.leader == "":
			errs = append(errs, fmt.Errorf("%s knows no leader", m))
		default:
			votes[claim{v.leader, v.term}]++
		}
	}
	for term, leaders := range claims {
		if len(leaders) > 1 {
			errs = append(errs, fmt.Errorf("%s all lead in term %d", strings.Join(leaders, ", "), term))
			continue
		}
		votes[claim{leaders[0], term}] += own[term]
	}
	var best claim
	for c, n := range votes {
		if n > len(members)/2 && (best.leader == "" || c.term > best.term) {
			best = c
		}
	}
	if best.leader == "" {
		return "", fmt.Errorf("%w of %d members: %w", errNoLeader, len(members), errors.Join(append(errs, fmt.Errorf("votes %v", votes))...))
	}
	return best.leader, nil
}
