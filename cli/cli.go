// Package cli is the command line: one file for each verb.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/assertions"
	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/reports"
)

// Exit codes.
const (
	exitPass        = 0
	exitFail        = 1
	exitInput       = 2 // what was asked for makes no sense or cannot be done here
	exitInvalid     = 3 // INVALID: nothing was shown either way, or the environment failed
	exitInterrupted = 130
)

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "gauntlet",
		Short: "Starts a service, breaks its surroundings on a schedule, and says with proof whether it held.",
		Long: `Gauntlet starts a service the way it runs in production, breaks its surroundings on a schedule, and says, with proof,
whether the service held.

  gauntlet doctor                       what this machine allows
  gauntlet list                         the scenarios that ship with it
  gauntlet explain store-leader-kill    what one of them will do
  gauntlet run store-leader-kill        do it, and judge what happened
  gauntlet run my-scenario.yaml         the same for your own service

A run writes everything that happened into a directory of its own, from which it can be judged again.

Exit codes: 0 PASS, 1 FAIL, 2 bad input, 3 INVALID (nothing was shown either way, or the environment failed),
130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(c, "%v", err)
	})
	code := exitPass
	for _, verb := range verbs {
		root.AddCommand(verb(&code))
	}
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "gauntlet:", strings.TrimSpace(reports.Plain(err.Error())))
		return codeOf(ctx, err)
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	return code
}

// verbs are all commands. Each sets the exit code when it ends without an error.
var verbs = []func(code *int) *cobra.Command{
	runCommand, upCommand, checkCommand, reportCommand, queryCommand, listCommand, explainCommand, validateCommand, exportCommand, schemaCommand, doctorCommand, cleanCommand, versionCommand,
}

// codeOf is the exit code of an error: bad input, unless the environment failed.
func codeOf(ctx context.Context, err error) int {
	var input *harness.InputError
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &input):
		return exitInput
	case isUsage(err):
		return exitInput
	}
	return exitInvalid
}

// isUsage recognises cobra's own error about commands, which has no type.
func isUsage(err error) bool { return strings.HasPrefix(err.Error(), "unknown command ") }

// verdictCode is the exit code of a verdict.
func verdictCode(v assertions.Verdict) int {
	switch v {
	case assertions.Pass:
		return exitPass
	case assertions.Fail:
		return exitFail
	}
	return exitInvalid
}
