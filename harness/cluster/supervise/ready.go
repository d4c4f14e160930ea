package supervise

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/plan"
)

// Polls of a condition start close together, a fast program is ready within a few milliseconds, and thin out.
const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 50 * time.Millisecond
	probeTime = time.Second // of one probe
)

// readyTimeout is how long Up waits for a node that lives but does not get ready.
const readyTimeout = 60 * time.Second

// settleTime is how long a program without a ready condition or healthcheck must live to count as started: one that
// cannot read its flags or configuration says so by ending at once.
const settleTime = 20 * time.Millisecond

// attend watches over a program until it ends: its readiness and its health.
func (n *Node) attend(r *run) {
	ctx, cancel := context.WithCancel(n.t.life)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	n.t.background.Go(func() {
		select {
		case <-r.ended:
			cancel()
		case <-stop:
		}
	})
	if n.Service.Ready == nil && n.Service.Health == nil {
		n.setReady(r, "")
		return
	}
	// x-gauntlet.ready wins over the healthcheck, which is not run then: it would start a program in the node every second or so, and on
	// a small machine eight nodes' healthchecks took a quarter of its processor time from the service.
	if cond := n.Service.Ready; cond != nil {
		if n.poll(ctx, *cond, r) == nil {
			n.setReady(r, "")
		}
		return
	}
	n.watchHealth(ctx, r)
}

// setReady notes that a program got ready.
func (n *Node) setReady(r *run, detail string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run != r || !r.alive || n.ready {
		return
	}
	n.ready = true
	n.emit(cluster.NodeReady, time.Now(), detail)
	n.touch()
}

// poll waits until a condition holds.
func (n *Node) poll(ctx context.Context, cond plan.Condition, r *run) error {
	probe, err := n.t.prober(n, cond, r)
	if err != nil {
		return err
	}
	for wait := firstPoll; ; wait = min(2*wait, lastPoll) {
		within, cancel := context.WithTimeout(ctx, probeTime)
		err := probe(within)
		cancel()
		if err == nil {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// checkCondition says whether a ready condition is of a kind that can be asked here.
func checkCondition(cond *plan.Condition) error {
	switch {
	case cond == nil:
		return nil
	case cond.HTTP != "":
		u, err := url.Parse(cond.HTTP)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("ready: %q is no http URL", cond.HTTP)
		}
		return nil
	case cond.Log != nil:
		_, err := regexp.Compile(cond.Log.Matches)
		return err
	case cond.TCP != "", len(cond.Exec) > 0:
		return nil
	}
	return errors.New("ready: one of http, tcp, log, exec")
}

// prober returns a function that is nil when the condition holds now.
func (t *Topology) prober(n *Node, cond plan.Condition, r *run) (func(context.Context) error, error) {
	in := n.Info.Name
	if cond.In != "" {
		in = cond.In
	}
	switch {
	case cond.HTTP != "":
		u, err := url.Parse(cond.HTTP)
		if err != nil {
			return nil, fmt.Errorf("ready condition of %s: %w", in, err)
		}
		if u.Hostname() == "" {
			u.Host = net.JoinHostPort(in, u.Port())
		}
		return func(ctx context.Context) error { return t.probeHTTP(ctx, u.String()) }, nil
	case cond.TCP != "":
		host, port, err := net.SplitHostPort(cond.TCP)
		if err != nil {
			return nil, fmt.Errorf("ready condition of %s: %w", in, err)
		}
		if host == "" {
			host = in
		}
		return func(ctx context.Context) error {
			conn, err := t.DialPlane(ctx, "tcp", net.JoinHostPort(host, port))
			if err == nil {
				conn.Close()
			}
			return err
		}, nil
	case cond.Log != nil:
		re, err := regexp.Compile(cond.Log.Matches)
		if err != nil {
			return nil, fmt.Errorf("ready condition of %s: %w", in, err)
		}
		return func(context.Context) error { return matchLog(n.log.path, r.logFrom, re) }, nil
	case len(cond.Exec) > 0:
		return func(ctx context.Context) error { return t.probeExec(ctx, in, cond.Exec) }, nil
	}
	return nil, checkCondition(&cond)
}

func (t *Topology) probeHTTP(ctx context.Context, url string) error {
	transport := &http.Transport{
		DialContext:       t.DialPlane,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // asks whether it answers, not who it is
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 { // of 101 the body would be the bare connection, which no context ends
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return err
}

func (t *Topology) probeExec(ctx context.Context, node string, argv []string) error {
	e, err := t.Exec(ctx, node, cluster.Process{Argv: argv})
	if err != nil {
		return err
	}
	x, err := e.Wait()
	if err == nil && x.Code != 0 {
		err = fmt.Errorf("%s %s", argv[0], describeExit(x))
	}
	return err
}

// matchLog looks for a whole line that matches, from an offset on.
func matchLog(path string, from int64, re *regexp.Regexp) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	for len(b) > 0 {
		end := 0
		for end < len(b) && b[end] != '\n' {
			end++
		}
		if end == len(b) {
			break // still being written
		}
		if re.Match(b[:end]) {
			return nil
		}
		b = b[end+1:]
	}
	return fmt.Errorf("no line matches %q", re)
}

// awaitReady waits until the node is ready, and fails at once when it will not be.
func (n *Node) awaitReady(ctx context.Context) error {
	return n.await(ctx, "ready", func() (bool, error) { return n.ready, nil })
}

// await waits until ok, which is asked under mu at each change, and fails at once when the program ended and will not
// be started again.
func (n *Node) await(ctx context.Context, what string, ok func() (bool, error)) error {
	began := time.Now()
	for {
		n.mu.Lock()
		done, err := ok()
		dead := n.state == cluster.StateExited && !n.willRestart()
		changed := n.changed
		var x cluster.Exit
		if dead {
			x = *n.run.exit
		}
		n.mu.Unlock()
		switch {
		case done:
			return nil
		case err != nil:
			return fmt.Errorf("node %s: %w%s", n.Info.Name, err, n.lastWords())
		case dead:
			return fmt.Errorf("node %s %s before it was %s%s", n.Info.Name, describeExit(x), what, n.lastWords())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("node %s was not %s after %v: %w%s", n.Info.Name, what, time.Since(began).Round(time.Millisecond), ctx.Err(), n.lastWords())
		case <-n.t.life.Done():
			return fmt.Errorf("node %s was not %s: %w", n.Info.Name, what, n.t.ending())
		}
	}
}
