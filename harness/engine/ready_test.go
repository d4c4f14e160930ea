package engine

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas/replicastest"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// probed is three with a ready condition of api that is asked over the network.
func probed() *cluster.Spec {
	spec := three()
	for i := range spec.Services {
		if spec.Services[i].Name == "api" {
			spec.Services[i].Ready = &plan.Condition{HTTP: "http://:8080/ready"}
		}
	}
	return spec
}

func TestReadinessIsProbedAndItsChangesRecorded(t *testing.T) {
	spec := probed()
	d := newFake()
	one, two := d.c.serve(t, "api-1", doc{}), d.c.serve(t, "api-2", doc{})
	two.says(http.StatusServiceUnavailable, doc{})
	dir := t.TempDir() + "/run"
	w, err := record.Create(dir, record.Meta{Tool: "test"}, planOf())
	require.NoError(t, err)
	w.SetRound(1)
	w.Event(record.Event{Kind: record.RoundBegin})
	c, err := d.Up(t.Context(), spec, cluster.Options{Dir: dir})
	require.NoError(t, err)
	r := newReadiness(c, w, map[string]bool{"api": true, "db-1": true})
	ctx, stop := context.WithCancel(t.Context())
	var probing sync.WaitGroup
	probing.Go(func() { r.poll(ctx) })
	ready := func(service string, want ...string) func() error {
		return func() error {
			var got []string
			for _, n := range r.of(service) {
				got = append(got, n.Name)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("ready are %v, not %v", got, want)
			}
			return nil
		}
	}
	known := func(want bool) func() error {
		return func() error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if _, known := r.state["api-2"]; known != want {
				return fmt.Errorf("its state is known: %t", known)
			}
			return nil
		}
	}
	eventually(t, known(true)) // that it was not ready at first is a change too
	eventually(t, ready("api", "api-1"))
	eventually(t, ready("db-1", "db-1")) // without a condition of its own the driver is asked
	assert.Empty(t, r.of("db-2"), "nobody asked for it")
	two.says(http.StatusOK, doc{})
	eventually(t, ready("api", "api-1", "api-2"))
	one.says(http.StatusInternalServerError, doc{})
	eventually(t, ready("api", "api-2"))
	d.c.set("db-1", cluster.StatePaused)
	eventually(t, ready("db-1"))

	// A replica that is scaled away and comes back is not ready before it says so.
	d.c.mu.Lock()
	d.c.away["api-2"] = true
	d.c.mu.Unlock()
	eventually(t, known(false))
	two.says(http.StatusServiceUnavailable, doc{})
	d.c.mu.Lock()
	delete(d.c.away, "api-2")
	d.c.mu.Unlock()
	assert.Empty(t, r.of("api"))
	stop()
	probing.Wait()
	require.NoError(t, w.Close())

	run, err := record.Open(dir)
	require.NoError(t, err)
	changes, err := run.Rounds[0].Readiness()
	require.NoError(t, err)
	var said []string
	for _, c := range changes {
		if c.Node == "api-2" {
			said = append(said, fmt.Sprintf("%t %s", c.Ready, c.Error))
		}
	}
	require.GreaterOrEqual(t, len(said), 3)
	assert.Equal(t, []string{"false api-2:8080 answered 503 Service Unavailable", "true ", "false the node was removed"}, said[:3])
}

// Its body is the bare connection, which the deadline of a probe does not end.
func TestAProbeEndsAlsoWhenItIsAnsweredWithAnotherProtocol(t *testing.T) {
	d := newFake()
	c, err := d.Up(t.Context(), three(), cluster.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	s := httptest.NewServer(replicastest.Switching(t))
	t.Cleanup(s.Close)
	d.c.members["api-1"] = strings.TrimPrefix(s.URL, "http://")
	ended := make(chan error, 1)
	go func() { ended <- getOK(t.Context(), planeClient(c), "http://:8080/ready", "api-1", 8080) }()
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "answered 101 Switching Protocols")
	case <-time.After(20 * time.Second):
		t.Fatal("the probe did not end")
	}
}

// A service that asks its dependencies before it answers takes its time when one of them is slow, and is ready.
func TestASlowAnswerIsAnAnswer(t *testing.T) {
	spec := probed()
	d := newFake()
	c, err := d.Up(t.Context(), spec, cluster.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	takes := 2 * pollTimeout
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(takes):
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	d.c.members["api-1"] = strings.TrimPrefix(s.URL, "http://")
	r := newReadiness(c, nil, nil)
	t.Cleanup(r.http.CloseIdleConnections)
	node := cluster.NodeInfo{Name: "api-1", Service: "api"}
	require.NoError(t, r.probe(t.Context(), node))
	takes = time.Minute
	require.ErrorIs(t, r.probe(t.Context(), node), context.DeadlineExceeded)
}
