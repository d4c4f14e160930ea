// Package command is the command line of hasvc, one file per verb.
package command

import (
	"context"
	"fmt"
	"io"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

type verb struct {
	name, args, does string
	run              func(ctx context.Context, c call) int
}

// call is what a verb gets.
type call struct {
	args           []string // after the verb
	environ        []string
	stdout, stderr io.Writer
}

func verbs() []verb {
	return []verb{
		{"edge", "", "pass requests on to gateways that are ready; they are looked up in etcd", serve("edge")},
		{"gateway", "", "serve the HTTP API; orders is looked up in etcd", serve("gateway")},
		{"orders", "", "serve orders and registers over gRPC, on top of etcd", serve("orders")},
		{"inventory", "", "serve the stock over gRPC, on top of etcd", serve("inventory")},
		{"dev", "", "start one of each role, and an etcd, for a look around; Ctrl-C ends it all", dev},
		{"probe", "URL", "exit with 0 when a GET is answered with 2xx, for health checks", probe},
		{"certs", "DIR SERVICE...", "make certificates for services, which HASVC_TLS_CERT, _KEY and _CA name", certs},
		{"config", "", "list the environment variables", listConfig},
		{"api", "", "describe the HTTP API", describeAPI},
		{"defects", "", "list what HASVC_DEFECT can switch on", listDefects},
		{"version", "", "print the versions of this build and its modules", version},
	}
}

// Run executes the command line and returns the exit code.
func Run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	for _, v := range verbs() {
		if v.name == args[0] {
			return v.run(ctx, call{args: args[1:], environ: environ, stdout: stdout, stderr: stderr})
		}
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(stdout)
		return exitOK
	}
	fmt.Fprintf(stderr, "hasvc: there is no command %q\n\n", args[0])
	usage(stderr)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: hasvc COMMAND")
	fmt.Fprintln(w)
	for _, v := range verbs() {
		fmt.Fprintf(w, "  %-12s %s\n", v.name+" "+v.args, v.does)
	}
}

// noArguments refuses what a verb would ignore.
func (c call) noArguments(verb string) bool {
	if len(c.args) == 0 {
		return true
	}
	fmt.Fprintf(c.stderr, "hasvc %s: unexpected argument %q; everything is set by environment variables, see `hasvc config`\n", verb, c.args[0])
	return false
}
