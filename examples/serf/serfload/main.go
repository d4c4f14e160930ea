// Command serfload is a workload for a cluster of HashiCorp's serf, a service that knows nothing of Gauntlet: it sets
// tags on each agent through its RPC port, and afterwards asks every agent which tags it sees on all the others. What an agent
// acknowledged must be known to the whole cluster once the partition is gone.
//
// It runs the program serf, which is on the PATH of the nodes because the scenario names it under `programs`.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hasvc/gauntlet/harness/workload/program"
)

// every is the time between two tags of one agent. Tags are gossiped together and have 512 bytes for all of them, keys
// and values: at this rate a run of half a minute stays below.
const every = 600 * time.Millisecond

// settle is how long Verify waits until the agents agree. That they do is the property; how fast is gossip's business.
const settle = 5 * time.Second

func main() {
	if err := program.Serve(context.Background(), os.Stdin, os.Stdout, &tagger{}); err != nil {
		fmt.Fprintln(os.Stderr, "serfload:", err)
		os.Exit(1)
	}
}

// tagger is a program.Client: one client an agent, for setting a tag reads the others first and two at once may lose one.
type tagger struct {
	mu   sync.Mutex
	keys []key
}

// key is a tag of an agent.
type key struct{ agent, tag string }

func (k key) String() string { return k.agent + "/" + k.tag }

// Work sets tags until ctx ends.
func (t *tagger) Work(ctx context.Context, s program.Start, h *program.History) error {
	var clients sync.WaitGroup
	for i, n := range agents(s) {
		clients.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for k := 0; ; k++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				t.set(h, i, n, key{n.Name, fmt.Sprintf("t%d", k)}, strconv.Itoa(s.Round)+"."+strconv.Itoa(k))
			}
		})
	}
	clients.Wait()
	return nil
}

func (t *tagger) set(h *program.History, client int, n program.Node, k key, value string) {
	t.mu.Lock()
	t.keys = append(t.keys, k)
	t.mu.Unlock()
	h.Do(client, program.Insert, k.String(), k.agent+":"+value, "", func() program.Result {
		_, err := serf("tags", "-rpc-addr="+rpc(n), "-set", k.tag+"="+k.agent+":"+value)
		switch {
		case err == nil:
			return program.Result{Outcome: program.OK}
		case strings.Contains(err.Error(), "connecting to Serf agent"): // it heard nothing
			return program.Result{Outcome: program.Failed, Err: err}
		}
		return program.Result{Outcome: program.Unknown, Err: err}
	})
}

// view is what one agent says of the cluster.
type view struct {
	call, ret time.Time
	err       error
	tags      map[key]string
}

// Verify asks each agent for the tags it sees.
func (t *tagger) Verify(_ context.Context, s program.Start, members []string, h *program.History) error {
	running := map[string]bool{}
	for _, m := range members {
		running[m] = true
	}
	views := map[string]view{}
	for end := time.Now().Add(settle); ; time.Sleep(100 * time.Millisecond) {
		for _, n := range agents(s) {
			if running[n.Name] {
				views[n.Name] = look(n)
			}
		}
		if t.agree(views) || time.Now().After(end) {
			break
		}
	}
	for name, v := range views {
		for _, k := range t.keys {
			value, found := v.tags[k]
			r := program.Result{Outcome: program.OK, Value: value, Found: found, Err: v.err}
			if v.err != nil {
				r.Outcome = program.Failed
			}
			h.ReadAt(name, k.String(), v.call, v.ret, r)
		}
	}
	return nil
}

func (t *tagger) agree(views map[string]view) bool {
	for _, k := range t.keys {
		seen := map[string]bool{}
		for _, v := range views {
			seen[v.tags[k]] = true
		}
		if len(seen) > 1 {
			return false
		}
	}
	return true
}

func look(n program.Node) view {
	v := view{call: time.Now(), tags: map[key]string{}}
	var list struct {
		Members []struct {
			Name string
			Tags map[string]string
		}
	}
	out, err := serf("members", "-rpc-addr="+rpc(n), "-format=json")
	if v.ret = time.Now(); err == nil {
		err = json.Unmarshal(out, &list)
	}
	v.err = err
	for _, m := range list.Members {
		for tag, value := range m.Tags {
			v.tags[key{m.Name, tag}] = value
		}
	}
	return v
}

// agents are the nodes of `to`.
func agents(s program.Start) []program.Node {
	var out []program.Node
	for _, n := range s.Nodes {
		if n.Group == s.To || n.Service == s.To || s.To == "" {
			out = append(out, n)
		}
	}
	return out
}

func rpc(n program.Node) string { return net.JoinHostPort(n.Name, strconv.Itoa(n.Port)) }

// serf runs a command of serf's.
func serf(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "serf", args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New(strings.TrimSpace(fmt.Sprintf("serf %s: %v %s%s", args[0], err, out, errOut.Bytes())))
	}
	return out, nil
}
