package replicastest

import (
	"io"
	"net/http"
	"testing"
)

// Switching answers every request with 101 Switching Protocols and keeps the connection until the client closes it. net/http gives
// that connection to the client as the body: who reads it to its end waits for the server.
func Switching(t testing.TB) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(io.Discard, rw)
	}
}
