package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/hasvc/gauntlet/hasvc/internal/mtls"
	"github.com/hasvc/gauntlet/hasvc/internal/valid"
)

// certs makes what HASVC_TLS_CERT, _KEY and _CA name, as one step of a topology.
func certs(_ context.Context, c call) int {
	if len(c.args) < 2 {
		fmt.Fprintln(c.stderr, "usage: hasvc certs DIR SERVICE...")
		return exitUsage
	}
	for _, service := range c.args[1:] {
		// Its files must not be another's: ca.pem is the authority's, and X-key.pem the key of X.
		if !valid.Name(service) || service == "ca" || strings.HasSuffix(service, "-key") {
			fmt.Fprintf(c.stderr, "hasvc certs: %q cannot be the name of a service\n", service)
			return exitUsage
		}
	}
	if err := mtls.Issue(c.args[0], c.args[1:]); err != nil {
		fmt.Fprintf(c.stderr, "hasvc certs: %v\n", err)
		return exitFailed
	}
	return exitOK
}
