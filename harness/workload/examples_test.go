package workload

import (
	"context"
	"io"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/plan"
	"github.com/hasvc/gauntlet/harness/record"
)

// loopback is a topology of one node, a service of registers on this machine, on which programs run as they are.
type loopback struct {
	replicas.Topology
	t       *testing.T
	port    int
	copying *sync.WaitGroup
}

func (l loopback) Nodes() []cluster.NodeInfo {
	return []cluster.NodeInfo{{Name: "127.0.0.1", Service: "api", Ordinal: 1}}
}

func (l loopback) Spec() *cluster.Spec {
	return &cluster.Spec{Services: []cluster.Service{{Name: "api", Expose: []int{l.port}}}}
}

func (l loopback) Status(string) (cluster.Status, error) {
	return cluster.Status{State: cluster.StateRunning}, nil
}

func (l loopback) Exec(ctx context.Context, _ string, p cluster.Process) (cluster.Execution, error) {
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l.copying.Go(func() {
		_, _ = io.Copy(in, p.Stdin)
		_ = in.Close()
	})
	return process{cmd}, nil
}

// The examples work on a service that is right, and show one that forgets.
func TestExamples(t *testing.T) {
	programs := map[string]func(t *testing.T) string{
		"workload-go": func(t *testing.T) string {
			out := filepath.Join(t.TempDir(), "workload-go")
			b, err := exec.Command("go", "build", "-o", out, "../../examples/workload-go").CombinedOutput()
			require.NoError(t, err, "%s", b)
			return out
		},
		"workload-python": func(t *testing.T) string {
			if _, err := exec.LookPath("python3"); err != nil {
				t.Skip("python3 is not installed")
			}
			return "../../examples/workload-python/inserts.py"
		},
	}
	for name, build := range programs {
		t.Run(name, func(t *testing.T) {
			program := build(t)
			for _, forgets := range []bool{false, true} {
				s := newService()
				if forgets {
					s.drop = func(string) bool { return s.revision%5 == 0 }
				}
				srv := httptest.NewServer(s.handler("127.0.0.1"))
				defer srv.Close()
				u, err := url.Parse(srv.URL)
				require.NoError(t, err)
				port, err := strconv.Atoi(u.Port())
				require.NoError(t, err)
				var copying sync.WaitGroup
				defer copying.Wait()
				m := newMemory(t)
				e := Env{Cluster: loopback{t: t, port: port, copying: &copying}, Record: m, Round: 1, RunID: "r"}
				w := plan.Workload{Name: "mine", Kind: KindExec, To: "api", Exec: []string{program}}
				x, err := New(w, e)
				require.NoError(t, err)
				require.NoError(t, x.Prepare(t.Context()))
				ctx, cancel := context.WithCancel(t.Context())
				e.Record = &afterOps{m, func() {
					if x.Acked() > 30 {
						cancel()
					}
				}}
				x.(*external).hist.rec = e.Record
				limit := time.AfterFunc(20*time.Second, cancel)
				require.NoError(t, x.Run(ctx))
				limit.Stop()
				require.NoError(t, x.Verify(t.Context()))
				require.NoError(t, x.Close())
				require.Empty(t, m.evs[0].Error)
				require.GreaterOrEqual(t, x.Acked(), int64(30))
				l, read := lost(m.all())
				assert.GreaterOrEqual(t, read, 30)
				assert.Equal(t, forgets, l > 0, "%d lost", l)
				for _, o := range m.all() {
					assert.Equal(t, record.OK, o.Outcome, o.Error)
				}
			}
		})
	}
}
