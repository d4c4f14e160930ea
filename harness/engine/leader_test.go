package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// member is an HTTP server that stands for a node; what it answers can be changed.
type member struct {
	mu     sync.Mutex
	status int
	body   any
	asked  []string // method, path
}

func (m *member) says(status int, body any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status, m.body = status, body
}

func (m *member) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, r.Method+" "+r.Host+r.URL.Path)
	w.WriteHeader(m.status)
	_ = json.NewEncoder(w).Encode(m.body)
}

// serve lets a member answer for a node.
func (f *fake) serve(t *testing.T, node string, body any) *member {
	t.Helper()
	m := &member{status: http.StatusOK, body: body}
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[node] = strings.TrimPrefix(s.URL, "http://")
	return m
}

type doc = map[string]any

// led is three with a leader among its db.
func led(l cluster.Leader) *cluster.Spec {
	s := three()
	for i := range s.Services {
		if s.Services[i].Group == "db" {
			s.Services[i].Leader = &l
			s.Services[i].Expose = []int{7000}
		}
	}
	return s
}

// watched polls the leaders of a fake until the test ends.
func watched(t *testing.T, spec *cluster.Spec, prepare func(*fake)) *leaders {
	t.Helper()
	d := newFake()
	dir := t.TempDir() + "/run"
	w, err := record.Create(dir, record.Meta{Tool: "test"}, planOf())
	require.NoError(t, err)
	c, err := d.Up(t.Context(), spec, cluster.Options{Dir: dir})
	require.NoError(t, err)
	prepare(d.c)
	l := newLeaders(c, w)
	ctx, stop := context.WithCancel(t.Context())
	var polling sync.WaitGroup
	polling.Go(func() { l.poll(ctx) })
	t.Cleanup(func() { stop(); polling.Wait(); require.NoError(t, w.Close()) })
	return l
}

// eventually polls until f holds; it says what was last seen otherwise.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(2 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("it did not come to hold: %v", err)
}

func leads(l *leaders, want string) func() error {
	return func() error {
		got, err := l.leader("db")
		if err == nil && got != want {
			err = fmt.Errorf("%s leads, not %s", got, want)
		}
		return err
	}
}

func TestLeaderOfEtcdIsNamedByIDs(t *testing.T) {
	status := func(id, leader, term string) doc {
		return doc{"header": doc{"member_id": id}, "leader": leader, "raftTerm": term}
	}
	var ms []*member
	l := watched(t, led(cluster.Leader{Kind: "etcd"}), func(f *fake) {
		for i, n := range []string{"db-1", "db-2", "db-3"} {
			ms = append(ms, f.serve(t, n, status(fmt.Sprint(100+i), "101", "7")))
		}
	})
	eventually(t, leads(l, "db-2"))
	eventually(t, func() error { // the other two may be a majority before it was asked
		ms[0].mu.Lock()
		defer ms[0].mu.Unlock()
		if want := "POST db-1:7000/v3/maintenance/status"; !slices.Contains(ms[0].asked, want) {
			return fmt.Errorf("it was asked %v, not %s", ms[0].asked, want)
		}
		return nil
	})
	// A new term: two members are a majority, whatever the old leader believes.
	ms[0].says(http.StatusOK, status("100", "100", "8"))
	ms[2].says(http.StatusOK, status("102", "100", "8"))
	eventually(t, leads(l, "db-1"))
	// No leader, and answers that are none.
	ms[0].says(http.StatusOK, status("100", "0", "9"))
	ms[2].says(http.StatusInternalServerError, doc{})
	ms[1].says(http.StatusOK, status("101", "101", "many"))
	eventually(t, func() error {
		_, err := l.leader("db")
		for _, want := range []string{"db-1 knows no leader", "500 Internal Server Error", `"many" is no number`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("%q lacks %q", fmt.Sprint(err), want)
			}
		}
		return nil
	})
}

func TestLeaderByAFieldThatHoldsItsName(t *testing.T) {
	var ms []*member
	l := watched(t, led(cluster.Leader{Kind: "http", URL: "http://:7001/status", Field: "raft.leader", Term: "raft.term"}), func(f *fake) {
		for _, n := range []string{"db-1", "db-2", "db-3"} {
			ms = append(ms, f.serve(t, n, doc{"raft": doc{"leader": "db-3", "term": 1 << 60}}))
		}
	})
	eventually(t, leads(l, "db-3"))
	eventually(t, func() error { // the other two are a majority
		ms[0].mu.Lock()
		defer ms[0].mu.Unlock()
		if len(ms[0].asked) == 0 || ms[0].asked[0] != "GET db-1:7001/status" {
			return fmt.Errorf("asked for %v", ms[0].asked)
		}
		return nil
	})
	for _, m := range ms {
		m.says(http.StatusOK, doc{"raft": doc{"leader": 3, "term": 1}})
	}
	eventually(t, func() error {
		if _, err := l.leader("db"); err == nil || !strings.Contains(err.Error(), "neither true, false nor a name") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
}

func TestLeaderByAFieldThatIsTrueOnIt(t *testing.T) {
	says := func(leads bool, term int) doc { return doc{"isLeader": leads, "term": term} }
	var ms []*member
	l := watched(t, led(cluster.Leader{Kind: "http", URL: "http://:7001/status", Field: "isLeader", Term: "term"}), func(f *fake) {
		for i, n := range []string{"db-1", "db-2", "db-3"} {
			ms = append(ms, f.serve(t, n, says(i == 1, 4)))
		}
	})
	eventually(t, leads(l, "db-2"))
	// The old leader believes on, in its old term: the others confirm the new one by theirs.
	ms[2].says(http.StatusOK, says(true, 5))
	ms[0].says(http.StatusOK, says(false, 5))
	eventually(t, leads(l, "db-3"))
	// Two that lead in one term are no leader.
	ms[1].says(http.StatusOK, says(true, 5))
	eventually(t, func() error {
		if _, err := l.leader("db"); err == nil || !strings.Contains(err.Error(), "all lead in term 5") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
}

func TestMembersThatAppearArePolled(t *testing.T) {
	var f *fake
	l := watched(t, led(cluster.Leader{Kind: "http", URL: "http://:7001/", Field: "leader"}), func(x *fake) {
		f = x
		f.away["db-2"], f.away["db-3"] = true, true
		for _, n := range []string{"db-1", "db-2", "db-3"} {
			f.serve(t, n, doc{"leader": "db-2"})
		}
	})
	eventually(t, leads(l, "db-2"))
	f.mu.Lock()
	clear(f.away)
	delete(f.members, "db-1")
	f.mu.Unlock()
	// Of three now, db-1 is silent: it takes both that appeared.
	time.Sleep(stale + pollEvery)
	eventually(t, leads(l, "db-2"))
}

func TestLeaderThatWasKilledIsNotChosenAgain(t *testing.T) {
	spec := led(cluster.Leader{Kind: "http", URL: "http://:7001/", Field: "leader", Term: "term"})
	d := newFake()
	var ms []*member
	for _, n := range []string{"db-1", "db-2", "db-3"} {
		ms = append(ms, d.c.serve(t, n, doc{"leader": "db-1", "term": 1}))
	}
	// The members learn of the death a while after it.
	d.c.exec = func(context.Context, string, cluster.Process) (cluster.Exit, error) {
		time.Sleep(150 * time.Millisecond)
		for _, m := range ms[1:] {
			m.says(http.StatusOK, doc{"leader": "db-2", "term": 2})
		}
		return cluster.Exit{}, nil
	}
	after := plan.Trigger{After: &plan.EventRef{Fault: "first", Event: plan.InEffect}}
	first := fault("first", "kill", `{"group":"db","pick":"leader"}`, 0, 1500*time.Millisecond)
	elect := fault("elect", "do", `{"exec":["elect"]}`, 0, 0)
	second := fault("second", "pause", `{"group":"db","pick":"leader"}`, 0, time.Millisecond)
	third := fault("third", "pause", `{"group":"db","pick":"follower"}`, 0, time.Millisecond)
	elect.At, second.At, third.At = after, after, after
	run, err := jobWith(t, t.Context(), spec, Parts{Driver: d}, planOf(first, elect, second, third))
	require.NoError(t, err)
	assert.Equal(t, []string{"db-1"}, inEffect(run, "first").Targets)
	assert.Equal(t, []string{"db-2"}, inEffect(run, "second").Targets)
	assert.Equal(t, []string{"db-3"}, inEffect(run, "third").Targets)
	polls, err := run.Rounds[0].Leaders("db")
	require.NoError(t, err)
	assert.NotEmpty(t, polls)
}

func TestHandBreaksByRole(t *testing.T) {
	d := newFake()
	for _, n := range []string{"db-1", "db-2", "db-3"} {
		d.c.serve(t, n, doc{"leader": "db-3"})
	}
	dir := t.TempDir() + "/run"
	w, err := record.Create(dir, record.Meta{Tool: "test"}, planOf())
	require.NoError(t, err)
	c, err := d.Up(t.Context(), led(cluster.Leader{Kind: "http", URL: "http://:7001/", Field: "leader"}), cluster.Options{Dir: dir})
	require.NoError(t, err)
	h := NewHand(c, w)
	undo, err := h.Inject(t.Context(), &faults.Pause{Target: plan.Target{Group: "db", Pick: plan.PickLeader}})
	require.NoError(t, err)
	_, err = h.Inject(t.Context(), &faults.Kill{Target: plan.Target{Node: "db-1"}})
	require.NoError(t, err)
	// What is not valid, or fails, is undone and leaves nothing to undo.
	_, err = h.Inject(t.Context(), &faults.Pause{})
	require.ErrorContains(t, err, "which nodes?")
	d.c.broken["pause db-2"] = context.DeadlineExceeded
	_, err = h.Inject(t.Context(), &faults.Pause{Target: plan.Target{Node: "db-2"}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, undo(t.Context()))
	require.NoError(t, undo(t.Context()), "a second time does nothing")
	h.Close()
	assert.Equal(t, []string{"pause db-3", "kill db-1", "pause db-2", "resume db-2", "resume db-3", "start db-1"}, d.c.notes)
	require.NoError(t, w.Close())
	run, err := record.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, wholeLife, kinds(run, "pause-1"))
	assert.Equal(t, wholeLife, kinds(run, "kill-2"))
}
