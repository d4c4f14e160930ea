package config

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/hasvc/gauntlet/hasvc/internal/defect"
)

func TestDefaults(t *testing.T) {
	c, err := Parse([]string{"PATH=/bin", "HASVC=ignored"}, ":8080")
	require.NoError(t, err)
	assert.Equal(t, Config{
		Etcd: []string{"http://127.0.0.1:2379"}, HTTP: ":8080", GRPC: ":9090",
		Deadline: 5 * time.Second, Try: 2 * time.Second, Tries: 3, Budget: 0.1, Connect: time.Second, Balancer: "round_robin",
		Breaker: Breaker{Failures: 3, Ratio: 0.6, Interval: 10 * time.Second, Open: 30 * time.Second, Probes: 10},
		Limit:   Limit{Kind: "off", Rate: 50, Burst: 10, Clients: 10000}, ShedFirst: 40, MaxBody: 65536, EdgeBalancer: "round_robin",
		StoreTry: 250 * time.Millisecond, Ready: 700 * time.Millisecond, Lease: 2 * time.Second,
		Drain: 500 * time.Millisecond, Shutdown: 5 * time.Second, Level: zapcore.InfoLevel, Defects: defect.Set{},
	}, c)
}

func TestGiven(t *testing.T) {
	c, err := Parse([]string{"HASVC_ETCD=http://a:1, http://b:2", "HASVC_DEFECT=no-drain, stale-read,", "HASVC_DRAIN=0s", "HASVC_HTTP=127.0.0.1:0"}, ":8080")
	require.NoError(t, err)
	assert.Equal(t, []string{"http://a:1", "http://b:2"}, c.Etcd)
	assert.Equal(t, defect.Set{defect.NoDrain: true, defect.StaleRead: true}, c.Defects)
	assert.Equal(t, time.Duration(0), c.Drain)
	assert.Equal(t, "127.0.0.1:0", c.HTTP)
}

// Every error comes at once, and each names its variable.
func TestErrors(t *testing.T) {
	bad := []string{
		"HASVC_ETCD=store-1:2379", "HASVC_HTTP=8080", "HASVC_GRPC=:http", "HASVC_DEADLINE=1", "HASVC_TRY_TIMEOUT=-1s", "HASVC_TRIES=0",
		"HASVC_BALANCER=fair", "HASVC_LEASE=500ms", "HASVC_LOG_LEVEL=fatal", "HASVC_DEFECT=no-drian", "HASVC_DRIAN=1s", "HASVC_SHUTDOWN=2h",
		"HASVC_BREAKER_RATIO=NaN", "HASVC_BREAKER_PROBES=0", "HASVC_LIMIT=bucket", "HASVC_LIMIT_RATE=0", "HASVC_SHED=yes", "HASVC_EDGE_BALANCER=fair", "HASVC_TLS_KEY=key.pem",
		"HASVC_MAX_BODY=2097153", // gRPC behind it takes 4 MiB
	}
	_, err := Parse(bad, "")
	require.Error(t, err)
	for _, v := range bad {
		name, _, _ := strings.Cut(v, "=")
		assert.Contains(t, err.Error(), name)
	}
	assert.Contains(t, err.Error(), "no-drain", "an unknown defect lists the known ones")
}

func TestLargestBody(t *testing.T) {
	c, err := Parse([]string{"HASVC_MAX_BODY=2097152"}, "")
	require.NoError(t, err)
	assert.Equal(t, 2<<20, c.MaxBody)
}

func TestDefectTable(t *testing.T) {
	var all []string
	for _, d := range defect.Table {
		assert.NotEmpty(t, d.Mechanism)
		assert.NotEmpty(t, d.Does)
		all = append(all, string(d.Name))
	}
	s, err := defect.Parse(strings.Join(all, ","))
	require.NoError(t, err)
	assert.Len(t, s, len(all), "each name once")
}

func FuzzParse(f *testing.F) {
	for _, v := range Table {
		f.Add(v.Name + "=" + v.Default)
	}
	f.Add("HASVC_ETCD=http://[::1]:2379,http://%")
	f.Fuzz(func(t *testing.T, env string) {
		c, err := Parse([]string{env}, ":8080")
		if err == nil {
			require.NotEmpty(t, c.Etcd)
			require.Positive(t, c.Deadline)
		}
	})
}
