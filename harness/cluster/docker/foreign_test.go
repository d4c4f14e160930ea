package docker_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/docker/engine/enginetest"
)

// TestAnEngineOfAnotherMachine is reached by a socket of this one: its clock is slow, and its processes are none of ours.
func TestAnEngineOfAnotherMachine(t *testing.T) {
	e := connected(t)
	enginetest.Between(t, e.Host(), func(w http.ResponseWriter, r *http.Request, engine http.Handler) {
		if !strings.Contains(r.URL.Path, "/containers/") || !strings.HasSuffix(r.URL.Path, "/json") || r.Method != http.MethodGet {
			engine.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		engine.ServeHTTP(answer, r)
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		var container map[string]any
		b := answer.Body.Bytes()
		if json.Unmarshal(b, &container) == nil && container["State"] != nil {
			state := container["State"].(map[string]any)
			at, err := time.Parse(time.RFC3339Nano, state["StartedAt"].(string))
			assert.NoError(t, err)
			state["StartedAt"] = at.Add(-5 * time.Second).Format(time.RFC3339Nano)
			state["Pid"] = 1<<22 + 1 // the kernel gives no such number
			b, err = json.Marshal(container)
			assert.NoError(t, err)
		}
		_, err := w.Write(b)
		assert.NoError(t, err)
	})
	c := up(t, unique(), serving("a", program(t)))
	_, err := c.(cluster.Usager).Usage(t.Context())
	require.ErrorContains(t, err, "cannot be seen to be on this machine", "zeros are no measurements")
	begin := time.Now()
	require.NoError(t, c.Restart(t.Context(), "a", nil))
	s, err := c.Status("a")
	require.NoError(t, err)
	require.True(t, s.Started.After(begin), "%v", s.Started.Sub(begin))
}

// TestTheEngineIsCounted has it do something.
func TestTheEngineIsCounted(t *testing.T) {
	needEngine(t)
	c := up(t, unique(), serving("a", program(t)))
	before, err := c.(cluster.Usager).Usage(t.Context())
	require.NoError(t, err)
	require.Contains(t, before, cluster.Engine)
	for range 5 {
		require.NoError(t, c.Restart(t.Context(), "a", nil))
	}
	after, err := c.(cluster.Usager).Usage(t.Context())
	require.NoError(t, err)
	used := after[cluster.Engine].CPU - before[cluster.Engine].CPU
	require.Greater(t, used, 20*time.Millisecond)
	require.Equal(t, cluster.Usage{CPU: after[cluster.Engine].CPU}, after[cluster.Engine], "no more of it is known")
}
