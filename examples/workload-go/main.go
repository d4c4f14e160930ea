// Command workload-go is an example of a workload in Go: it inserts keys into a service of registers over HTTP, and
// reads them back from each of its replicas. Every service with GET and PUT /registers/KEY will do; hasvc is one.
//
//	workloads:
//	  inserts: {exec: [workload-go], to: gateway}
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/hasvc/gauntlet/harness/workload/program"
)

func main() {
	if err := program.Serve(context.Background(), os.Stdin, os.Stdout, &inserter{http: http.Client{Timeout: time.Second}}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// inserter is a program.Client with one client of the service.
type inserter struct {
	http http.Client
	keys []string
}

// Work inserts a key every 20 ms.
func (w *inserter) Work(ctx context.Context, s program.Start, h *program.History) error {
	nodes := members(s)
	if len(nodes) == 0 {
		return fmt.Errorf("the topology has no %q with a port; name the service with `to`", s.To)
	}
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		key := fmt.Sprintf("go-%d-%d", s.Round, n)
		value := fmt.Sprintf("%s.%d", s.Run, n)
		w.keys = append(w.keys, key)
		h.Do(0, program.Insert, key, value, "", func() program.Result {
			return w.insert(nodes[n%len(nodes)], key, value)
		})
	}
}

// Verify reads every key from each member.
func (w *inserter) Verify(_ context.Context, s program.Start, running []string, h *program.History) error {
	up := map[string]bool{}
	for _, name := range running {
		up[name] = true
	}
	for _, n := range members(s) {
		if !up[n.Name] {
			continue
		}
		for _, key := range w.keys {
			h.Read(n.Name, key, func() program.Result { return w.read(n, key) })
		}
	}
	return nil
}

func members(s program.Start) []program.Node {
	var out []program.Node
	for _, n := range s.Nodes {
		if n.Port > 0 && (n.Service == s.To || n.Group == s.To || n.Name == s.To) {
			out = append(out, n)
		}
	}
	return out
}

func url(n program.Node, key string) string {
	return "http://" + net.JoinHostPort(n.Name, strconv.Itoa(n.Port)) + "/registers/" + key
}

// insert says ok, failed or unknown, and never ok or failed without knowing.
func (w *inserter) insert(n program.Node, key, value string) program.Result {
	body, err := json.Marshal(map[string]any{"value": value, "expectRevision": 0})
	if err != nil {
		return program.Result{Outcome: program.Failed, Err: err}
	}
	req, err := http.NewRequest(http.MethodPut, url(n, key), bytes.NewReader(body))
	if err != nil {
		return program.Result{Outcome: program.Failed, Err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial": // nobody heard it
		return program.Result{Outcome: program.Failed, Err: err}
	case err != nil:
		return program.Result{Outcome: program.Unknown, Err: err}
	}
	defer resp.Body.Close() // only its status is of interest
	switch {
	case resp.StatusCode == http.StatusOK:
		return program.Result{Outcome: program.OK}
	case resp.StatusCode >= 400 && resp.StatusCode < 500:
		return program.Result{Outcome: program.Failed, Err: errors.New(resp.Status)}
	}
	return program.Result{Outcome: program.Unknown, Err: errors.New(resp.Status)}
}

func (w *inserter) read(n program.Node, key string) program.Result {
	resp, err := w.http.Get(url(n, key))
	if err != nil {
		return program.Result{Outcome: program.Failed, Err: err}
	}
	defer resp.Body.Close() // it was read
	if resp.StatusCode == http.StatusNotFound {
		return program.Result{Outcome: program.OK}
	}
	var reg struct{ Value string }
	if err := json.NewDecoder(resp.Body).Decode(&reg); err != nil || resp.StatusCode != http.StatusOK {
		return program.Result{Outcome: program.Failed, Err: fmt.Errorf("%s: %w", resp.Status, err)}
	}
	return program.Result{Outcome: program.OK, Found: true, Value: reg.Value}
}
