package command

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/hasvc/internal/etcdbin"
)

// A look around: an order goes through every role, and all of it ends when it is told to.
func TestDev(t *testing.T) {
	_, err := etcdbin.Path() // its build, beside those of other packages, is none of what the minute below is for
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	var logs bytes.Buffer
	go func() {
		ended <- Run(ctx, []string{"dev"}, []string{"HASVC_HTTP=127.0.0.1:0", "HASVC_DRAIN=0s"}, w, &logs)
		_ = w.Close()
	}()
	edge := make(chan string, 1)
	go func() {
		var seen bytes.Buffer
		buf := make([]byte, 1024)
		for {
			n, err := r.Read(buf)
			seen.Write(buf[:n])
			if m := regexp.MustCompile(`edge +(http://\S+)`).FindStringSubmatch(seen.String()); m != nil {
				edge <- m[1]
				_, _ = io.Copy(io.Discard, r) // until the end
				return
			}
			if err != nil {
				return
			}
		}
	}()
	var url string
	select {
	case url = <-edge:
	case code := <-ended:
		t.Fatalf("it ended with %d:\n%s", code, logs.String())
	case <-time.After(time.Minute):
		t.Fatal("the edge does not listen")
	}
	status := 0
	for end := time.Now().Add(20 * time.Second); status != http.StatusCreated && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/orders", strings.NewReader(`{"sku":"a","quantity":1}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		status = resp.StatusCode
		require.NoError(t, resp.Body.Close())
	}
	assert.Equal(t, http.StatusCreated, status)
	cancel()
	assert.Equal(t, exitOK, <-ended)
}

func TestAPIIsDescribed(t *testing.T) {
	code, stdout, _ := run(t.Context(), nil, "api")
	assert.Equal(t, exitOK, code)
	for _, route := range []string{"POST /orders", "GET  /orders/{id}", "PUT  /registers/{key}", "GET  /stock/{sku}", "GET  /stream/stock/{sku}"} {
		assert.Contains(t, stdout, route)
	}
}
