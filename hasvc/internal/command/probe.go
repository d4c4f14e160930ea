package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	probeTimeout = 2 * time.Second
	probeShow    = 512 // bytes of the answer
)

// probe asks a URL once. The image has no shell and no curl.
func probe(ctx context.Context, c call) int {
	if len(c.args) != 1 {
		fmt.Fprintln(c.stderr, "usage: hasvc probe URL")
		return exitUsage
	}
	if u, err := url.Parse(c.args[0]); err != nil || u.Host == "" {
		fmt.Fprintf(c.stderr, "hasvc probe: %q is no URL of the form http://host:port/path\n", c.args[0])
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.args[0], nil)
	if err != nil {
		fmt.Fprintf(c.stderr, "hasvc probe: %v\n", err)
		return exitUsage
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Fprintf(c.stderr, "hasvc probe: %v\n", err)
		return exitFailed
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeShow))
	if err != nil {
		fmt.Fprintf(c.stderr, "hasvc probe: reading the answer: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(c.stdout, "%s %s\n", resp.Status, body)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return exitFailed
	}
	return exitOK
}
