package role

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
	"github.com/hasvc/gauntlet/hasvc/internal/defect"
	"github.com/hasvc/gauntlet/hasvc/internal/etcdtest"
	"github.com/hasvc/gauntlet/hasvc/internal/trace"
)

const (
	traceID   = "4bf92f3577b34da6a3ce929d0e0e4736"
	requestID = "request-1"
)

// whole is all services, with spans in a file; order makes an order with known ids.
type whole struct {
	services []*running
	spans    string
}

func startWhole(t *testing.T, etcd *etcdtest.Cluster, defects []defect.Name) *whole {
	t.Helper()
	w := &whole{spans: filepath.Join(t.TempDir(), "spans.jsonl")}
	for _, name := range []string{"inventory", "orders", "gateway"} {
		r := start(t, name, etcd.URLs(), func(c *config.Config) {
			c.Inventory, c.Traces = true, w.spans
			c.Deadline, c.Try = soon, soon // it is not about time
		}, defects...)
		r.waitReady()
		w.services = append(w.services, r)
	}
	gateway := w.services[2]
	eventually(t, func() bool { return gateway.status("/stock/a") == http.StatusOK }, "inventory is not found")
	code, body := gateway.askWith(http.MethodPost, "/orders", `{"sku":"a","quantity":1}`,
		"Traceparent", "00-"+traceID+"-00f067aa0ba902b7-01", trace.RequestHeader, requestID)
	require.Equal(t, http.StatusCreated, code, "%v", body)
	return w
}

// The spans of a request form one tree, from the client's own span to the last service.
func TestTraceBroken(t *testing.T) {
	each(t, defect.TraceBroken, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		w := startWhole(t, etcd, defects)
		for i := range w.services {
			require.NoError(t, w.services[len(w.services)-1-i].stop())
		}
		f, err := os.Open(w.spans)
		require.NoError(t, err)
		defer f.Close()
		var path []string // from the client on
		spans := map[string]trace.Span{}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var s trace.Span
			require.NoError(t, json.Unmarshal(lines.Bytes(), &s), "%s", lines.Text())
			if s.TraceID == traceID {
				spans[s.Parent] = s
			}
		}
		for at := "00f067aa0ba902b7"; ; {
			s, ok := spans[at]
			if !ok {
				break
			}
			path = append(path, s.Service+" "+s.Kind)
			at = s.SpanID
		}
		if wrong {
			assert.Equal(t, []string{"gateway server", "gateway client"}, path)
			return
		}
		assert.Equal(t, []string{"gateway server", "gateway client", "orders server", "orders client", "inventory server"}, path)
	})
}

// The access log of every service names the request and its trace.
func TestLogNoTrace(t *testing.T) {
	each(t, defect.LogNoTrace, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		for _, r := range startWhole(t, etcd, defects).services {
			found := map[string]int{}
			for _, l := range r.logs.All() {
				fields := l.ContextMap()
				if fields["requestId"] != requestID {
					continue
				}
				assert.Equal(t, wrong, fields["traceId"] != traceID, "%s", l.Message)
				found[l.Message]++
			}
			assert.Equal(t, 1, found["accepted"], "%v", found)
			assert.Equal(t, 1, found["done"], "%v", found)
		}
	})
}

func TestMetricsMissing(t *testing.T) {
	each(t, defect.MetricsMissing, func(t *testing.T, etcd *etcdtest.Cluster, wrong bool, defects []defect.Name) {
		w := startWhole(t, etcd, defects)
		for i, name := range []string{"hasvc_rpc_server_seconds_count", "hasvc_rpc_client_seconds_count", "hasvc_http_request_seconds_count"} {
			resp, err := http.Get("http://" + w.services[i].HTTP + "/metrics") //nolint:noctx // it is answered at once
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Contains(t, string(body), "go_goroutines")
			assert.Contains(t, string(body), "process_open_fds")
			if wrong {
				assert.NotContains(t, string(body), "hasvc_")
			} else {
				assert.Contains(t, string(body), name)
				assert.Contains(t, string(body), "hasvc_registered ")
			}
		}
	})
}
