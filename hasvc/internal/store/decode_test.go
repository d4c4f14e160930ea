package store

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// decodes reads what the store holds: of whatever bytes a value or an error, and of what was written the same again.
func decodes[T any](t *testing.T, record []byte, written any, want T, decode func([]byte) (T, error)) {
	t.Helper()
	if got, err := decode(record); err != nil {
		require.Zero(t, got, "half a record")
	}
	body, err := json.Marshal(written)
	require.NoError(t, err)
	got, err := decode(body)
	require.NoError(t, err, "%s", body)
	require.Equal(t, want, got)
}

// text is what clients may write: JSON and gRPC carry nothing else.
func text(s string) string { return strings.ToValidUTF8(s, "") }

func FuzzDecodeOrder(f *testing.F) {
	f.Add([]byte(`{"id":"1","quantity":"2"}`), "1", "a", int64(2))
	f.Fuzz(func(t *testing.T, record []byte, id, sku string, quantity int64) {
		o := Order{ID: text(id), SKU: text(sku), Quantity: quantity, Status: Accepted, CreatedAt: "2026-11-30T07:36:38Z"}
		decodes(t, record, o, o, decodeOrder)
		decodes(t, record, o, o, func(b []byte) (Order, error) { return firstOrder(b, o.SKU, o.Quantity) })
	})
}

func FuzzDecodeMove(f *testing.F) {
	f.Add([]byte(`{"sku":"a","level":"7"}`), "a", int64(-2), int64(7))
	f.Fuzz(func(t *testing.T, record []byte, sku string, delta, level int64) {
		m := moveRecord{SKU: text(sku), Delta: delta, Level: level}
		decodes(t, record, m, m, func(b []byte) (moveRecord, error) { return decodeMove("order/1", b) })
	})
}

func FuzzDecodeRegister(f *testing.F) {
	f.Add([]byte(`{"value":"x","writer":2}`), "x", "w", int64(5))
	f.Fuzz(func(t *testing.T, record []byte, value, writer string, revision int64) {
		type read struct {
			Register
			writer string
		}
		value, writer = text(value), text(writer)
		decodes(t, record, registerRecord{Value: value, Writer: writer}, read{Register{"k", value, revision}, writer}, func(b []byte) (read, error) {
			r, w, err := decodeRegister("k", &mvccpb.KeyValue{Value: b, ModRevision: revision})
			return read{r, w}, err
		})
	})
}

func FuzzDecodeStock(f *testing.F) {
	f.Add([]byte(`{"level":"7"}`), int64(7), int64(5))
	f.Fuzz(func(t *testing.T, record []byte, level, revision int64) {
		decodes(t, record, stockRecord{Level: level}, Stock{"a", level, revision}, func(b []byte) (Stock, error) {
			return decodeStock("a", []*mvccpb.KeyValue{{Value: b, ModRevision: revision}})
		})
	})
}
