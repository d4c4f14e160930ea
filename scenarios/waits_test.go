package scenarios

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/plan"
)

// planned is a scenario of these faults on reference().
func planned(t *testing.T, faults ...string) *plan.Plan {
	t.Helper()
	src := "version: 1\ntopology: t.yaml\nworkloads: {w: {kind: registers, to: gateway}}\nfaults:\n"
	for _, f := range faults {
		src += "  - " + f + "\n"
	}
	f, err := Parse("x.yaml", []byte(src), realTables())
	require.NoError(t, err)
	spec := reference()
	for i := range spec.Services {
		spec.Services[i].StopGrace = 10 * time.Second
	}
	p, err := Compile(f, spec, 1)
	require.NoError(t, err)
	return p
}

func faultOf(t *testing.T, p *plan.Plan, id string) plan.Fault {
	t.Helper()
	i := slices.IndexFunc(p.Rounds[0].Faults, func(f plan.Fault) bool { return f.ID == id })
	require.GreaterOrEqual(t, i, 0)
	return p.Rounds[0].Faults[i]
}

// The order of the faults in a file says nothing: a fault that waits for the start of another, which it ends, waits as long as
// that may take to come, whichever is written first.
func TestTimeoutsDoNotDependOnTheOrderOfFaults(t *testing.T) {
	cut := `{id: cut, at: {when: {workload: w, acked: ">= 100000"}, timeout: 5m}, until: {after: kill.gone}, partition: {isolate: {node: store-1}, from: all}}`
	kill := `{id: kill, at: {after: cut.in-effect}, for: 2s, kill: {node: store-2}}`
	for _, order := range [][]string{{cut, kill}, {kill, cut}} {
		p := planned(t, order...)
		assert.Equal(t, plan.Duration(6*time.Minute), faultOf(t, p, "kill").At.Timeout)
		assert.Equal(t, plan.Duration(7*time.Minute+2*time.Second), faultOf(t, p, "cut").Until.Timeout)
	}
}

// A restart takes its time: the stop and the start of each node and the gaps between them are within what is waited for it, and
// within the timeout of the round.
func TestRestartsTakeTime(t *testing.T) {
	node := 10*time.Second + DefaultTrigger // to stop, and to be ready again
	for _, c := range []struct {
		restart string
		takes   time.Duration
	}{
		{"restart: {service: orders, rolling: {gap: 45s}}", 3*node + 2*45*time.Second},
		{"restart: {service: orders, pick: 2, rolling: {gap: 45s}}", 2*node + 45*time.Second},
		{"restart: {group: store, rolling: {wait: none}}", 3 * node},
		{"restart: {node: orders-1, rolling: {gap: 45s}}", node},
		{"restart: {service: orders}", node},
		{"restart: {service: orders, down: 5s}", node + 5*time.Second},
		{"restart: {service: orders, rolling: {gap: 45s}, down: 9s}", 3*(node+9*time.Second) + 2*45*time.Second},
	} {
		for _, event := range []string{"in-effect", "gone"} {
			p := planned(t, "{id: roll, at: 1s, "+c.restart+"}", "{id: next, at: {after: roll."+event+"}, for: 1s, kill: {node: store-1}}")
			assert.Equal(t, plan.Duration(time.Second+c.takes+DefaultTrigger), faultOf(t, p, "next").At.Timeout, c.restart)
		}
		p := planned(t, "{id: roll, at: 1s, "+c.restart+"}", "{id: next, at: {after: roll.started}, for: 1s, kill: {node: store-1}}")
		assert.Equal(t, plan.Duration(time.Second+DefaultTrigger), faultOf(t, p, "next").At.Timeout, "it has started before it restarts anything")
		assert.GreaterOrEqual(t, planned(t, "{id: roll, "+c.restart+"}").Timeout, plan.Duration(c.takes), c.restart)
	}
	huge := &names{size: map[string]int{"service many": 1 << 62}, grace: map[string]plan.Duration{}}
	assert.Equal(t, maxWait, huge.inflicting("restart", plan.Occurrence{Params: []byte(`{"service":"many","rolling":{"gap":"24h"}}`)}), "no sum overflows")
}
