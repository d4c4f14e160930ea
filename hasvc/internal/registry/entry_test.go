package registry

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEntry(t *testing.T) {
	e := Entry{Service: "orders", Instance: "orders-1:9090", Addr: "orders-1:9090"}
	assert.Equal(t, "/hasvc/registry/orders/orders-1:9090", e.key())
	b, err := e.encode()
	require.NoError(t, err)
	got, err := decode([]byte(b))
	require.NoError(t, err)
	assert.Equal(t, e, got)
	for _, bad := range []string{"", "{}", "[]", `{"addr": 1}`} {
		_, err := decode([]byte(bad))
		require.Error(t, err, bad)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"service":"orders","instance":"a","addr":"a:1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decode(b); err == nil {
			require.NotEmpty(t, e.Addr)
		}
	})
}
