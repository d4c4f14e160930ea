package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
)

// atLeastOne asks for arguments and says what they are.
func atLeastOne(what, hint string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return usage(c, "which %s? %s", what, hint)
	}
}

// none takes no arguments.
func none(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage(c, "%s takes no arguments, and there is %q", c.CommandPath(), args[0])
}

// oneOf takes one of some words, or nothing.
func oneOf(words []string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return usage(c, "%s takes one argument, and there are %d", c.CommandPath(), len(args))
		case len(args) == 1 && !slices.Contains(words, args[0]):
			return usage(c, "%s knows nothing called %q; there are: %s", c.CommandPath(), args[0], strings.Join(words, ", "))
		}
		return nil
	}
}

// usage is an error of how a command was called.
func usage(c *cobra.Command, format string, a ...any) error {
	return &harness.InputError{Err: fmt.Errorf("%s\nsee: %s --help", fmt.Sprintf(format, a...), c.CommandPath())}
}

const (
	scenarioHint = "A file, a directory of files, or the name of a shipped one; \"gauntlet list\" names those"
	runHint      = "The directory that \"gauntlet run\" wrote and named, such as runs/store-leader-kill-1"
)
