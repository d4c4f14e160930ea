package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster/replicas"
	"github.com/hasvc/gauntlet/harness/record"
)

// api is one client of a service of registers:
//
//	GET /registers/KEY                                  200 {"key","value","revision"} | 404
//	PUT /registers/KEY {"value","expectRevision"}       200 {"key","value","revision"} | 409, 412: certainly not applied
//
// expectRevision 0 asks that the key does not exist; without it the write is unconditional. http.Transport may send a GET
// twice when a kept connection breaks; it sends a PUT again only if nothing of it had left.
type api struct {
	pool    *replicas.Pool
	tr      http.Transport
	host    string
	timeout time.Duration
}

func newAPI(pool *replicas.Pool, host string, timeout time.Duration) *api {
	a := &api{pool: pool, host: host, timeout: timeout}
	a.tr = http.Transport{DialContext: pool.Dial, DisableCompression: true}
	return a
}

func (a *api) close() {
	a.tr.CloseIdleConnections()
	a.pool.Close()
}

// register is what the service holds of a key.
type register struct {
	Value    string `json:"value"`
	Revision int64  `json:"revision"`
}

// answer is how a request ended.
type answer struct {
	outcome record.Outcome
	reg     register
	found   bool
	err     string
}

// get reads a key. A read that failed had no effect, so its outcome is never unknown.
func (a *api) get(ctx context.Context, key string) answer {
	code, body, _, err := a.do(ctx, http.MethodGet, key, nil)
	switch {
	case err != nil:
		return answer{outcome: record.Failed, err: err.Error()}
	case code == http.StatusNotFound:
		return answer{outcome: record.OK}
	case code != http.StatusOK:
		return answer{outcome: record.Failed, err: status(code, body)}
	}
	r := answer{outcome: record.OK, found: true}
	if err := json.Unmarshal(body, &r.reg); err != nil {
		return answer{outcome: record.Failed, err: fmt.Sprintf("the answer %q is no register: %v", clip(body), err)}
	}
	return r
}

// put writes a key; expect nil is unconditional, else the revision that it must have.
func (a *api) put(ctx context.Context, key, value string, expect *int64) answer {
	req, err := json.Marshal(struct {
		Value  string `json:"value"`
		Expect *int64 `json:"expectRevision,omitempty"`
	}{value, expect})
	if err != nil {
		return answer{outcome: record.Failed, err: err.Error()}
	}
	code, body, sent, err := a.do(ctx, http.MethodPut, key, req)
	switch {
	case err != nil && !sent: // refused, or nobody there: it cannot have been applied
		return answer{outcome: record.Failed, err: err.Error()}
	case err != nil:
		return answer{outcome: record.Unknown, err: err.Error()}
	case code == http.StatusOK:
		r := answer{outcome: record.OK, found: true}
		if err := json.Unmarshal(body, &r.reg); err != nil {
			r.reg = register{} // acknowledged all the same; its revision stays unknown
		}
		return r
	case code >= 400 && code < 500 && code != http.StatusRequestTimeout:
		return answer{outcome: record.Failed, err: status(code, body)}
	}
	return answer{outcome: record.Unknown, err: status(code, body)}
}

// do sends one request. sent tells whether any of it may have left.
func (a *api) do(ctx context.Context, method, key string, req []byte) (code int, body []byte, sent bool, err error) {
	// The operation has begun: it ends by its own deadline and not with the workload.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	var conn *replicas.Conn
	var mark int64
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if c, ok := i.Conn.(*replicas.Conn); ok {
			conn, mark = c, c.Sent()
		}
	}})
	r, err := http.NewRequestWithContext(ctx, method, "http://"+a.host+"/registers/"+key, bytes.NewReader(req))
	if err != nil {
		return 0, nil, false, err
	}
	if req != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.tr.RoundTrip(r)
	left := func() bool { return conn != nil && conn.Sent() > mark }
	if err != nil {
		return 0, nil, left(), a.reason(err)
	}
	defer resp.Body.Close() // it was read, or the error is already there
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, nil, true, nil // its body is the bare connection, which ends with no deadline
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, nil, true, a.reason(err)
	}
	return resp.StatusCode, body, true, nil
}

func (a *api) reason(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", a.timeout)
	}
	return err
}

func status(code int, body []byte) string {
	return strings.TrimSpace(fmt.Sprintf("status %d %s", code, clip(body)))
}

func clip(b []byte) string {
	const most = 200
	if len(b) > most {
		return string(b[:most]) + "..."
	}
	return strings.TrimSpace(string(b))
}
