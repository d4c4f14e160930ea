package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hasvc/gauntlet/harness"
	"github.com/hasvc/gauntlet/harness/export"
	"github.com/hasvc/gauntlet/scenarios"
)

// exports are the forms that a topology can be written in.
var exports = []struct {
	name, doc string
	write     func(ctx context.Context, file string, w io.Writer) error
}{
	{"swarm", "a stack file of Docker Swarm", export.Swarm},
}

func exportCommand(*int) *cobra.Command {
	var forms []string
	for _, e := range exports {
		forms = append(forms, e.name)
	}
	return &cobra.Command{
		Use:   "export " + strings.Join(forms, "|") + " TOPOLOGY",
		Short: "Write a topology in the words of another orchestrator",
		Long: `Write a topology in the words of another orchestrator. TOPOLOGY is a Compose file, or the name of one that ships with Gauntlet. It is
written to standard output. What the other says otherwise stands in comments at the top; what it has no word for is an error.`,
		Example: `  gauntlet export swarm reference > stack.yaml
  docker stack deploy -c stack.yaml reference`,
		ValidArgs: forms,
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || !slices.Contains(forms, args[0]):
				return usage(c, "which form? There are: %s", strings.Join(forms, ", "))
			case len(args) != 2:
				return usage(c, "which topology? A Compose file, or the name of a shipped one: %s", strings.Join(shippedTopologies(), ", "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			file, err := topologyFile(args[1])
			if err != nil {
				return err
			}
			for _, e := range exports {
				if e.name != args[0] {
					continue
				}
				var out bytes.Buffer // nothing is written unless all of it is
				if err := e.write(c.Context(), file, &out); err != nil {
					return &harness.InputError{Err: err}
				}
				_, err = out.WriteTo(c.OutOrStdout())
			}
			return err
		},
	}
}

const topologies = "topologies" // the directory of those that ship

func shippedTopologies() []string {
	files, err := fs.Glob(scenarios.Files(), topologies+"/*.yaml")
	if err != nil {
		return nil // only a malformed pattern is an error
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".yaml")
	}
	return files
}

// topologyFile is the Compose file that an argument means.
func topologyFile(arg string) (string, error) {
	if _, err := os.Stat(arg); err == nil {
		return arg, nil
	}
	if names := shippedTopologies(); !slices.Contains(names, arg) {
		return "", &harness.InputError{Err: fmt.Errorf("no file or shipped topology is called %q; there are: %s", arg, strings.Join(names, ", "))}
	}
	return scenarios.OnDisk(topologies + "/" + arg + ".yaml") // they extend each other
}
