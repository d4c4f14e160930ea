// Package export writes a topology in the words of another orchestrator.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	composecli "github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/topology"
)

// Swarm writes a stack file for Docker Swarm that runs the services of a Compose file from their images. What a stack says
// otherwise is told in comments at its top; what it has no word for is an error. All errors come joined, each with its
// place. The same file gives the same bytes.
//
// Paths in it are relative to the directory of the Compose file, where they are in it.
func Swarm(ctx context.Context, file string, w io.Writer) error {
	// First as a topology: what cannot be honoured there has mostly no word here either, and has its place in the file.
	spec, err := topology.Load(ctx, file, topology.Option{})
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	project, err := load(ctx, file, dir)
	if err != nil {
		return err
	}
	s := &swarm{spec: spec, project: project, dir: dir}
	out := s.stack()
	if len(s.errs) > 0 {
		return errors.Join(s.errs...)
	}
	// Not goccy/go-yaml, which leaves the string 08 without the quotes that keep it one.
	var body strings.Builder
	enc := yaml.NewEncoder(&body)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(out), enc.Close()); err != nil {
		return fmt.Errorf("writing the stack of %s: %w", file, err)
	}
	// docker stack replaces variables in what it reads; here they have been.
	text := s.head() + strings.ReplaceAll(body.String(), "$", "$$")
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("writing the stack of %s: %w", file, err)
	}
	return nil
}

// load reads what a cluster.Spec leaves out: images where x-gauntlet wins, published ports, what is about deployment.
// It sees the variables that the topology sees, or the stack would be of another system than the one that was run.
func load(ctx context.Context, file, dir string) (*types.Project, error) {
	env, err := topology.Environment(dir, nil)
	if err != nil {
		return nil, err
	}
	options, err := composecli.NewProjectOptions([]string{file},
		func(o *composecli.ProjectOptions) error { o.Environment = env; return nil },
		composecli.WithDefaultProfiles(), composecli.WithNormalization(false))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return project, nil
}

// swarm is one export at work.
type swarm struct {
	spec    *cluster.Spec
	project *types.Project
	dir     string
	notes   []note
	errs    []error
}

// note is what a stack says otherwise, of these services.
type note struct {
	text string
	of   []string
}

func (s *swarm) note(of, text string) {
	for i := range s.notes {
		if n := &s.notes[i]; n.text == text {
			if !slices.Contains(n.of, of) {
				n.of = append(n.of, of)
			}
			return
		}
	}
	s.notes = append(s.notes, note{text, []string{of}})
}

func (s *swarm) fail(of cluster.Service, key, why string) {
	s.errs = append(s.errs, fmt.Errorf("%s:%d: services.%s.%s has no word in a stack: %s", s.spec.File, of.Line, of.Name, key, why))
}

func (s *swarm) stack() stack {
	out := stack{Version: "3.9"}
	for _, of := range s.spec.Services {
		c, ok := s.project.Services[of.Name]
		if !ok {
			s.errs = append(s.errs, fmt.Errorf("%s:%d: services.%s is in the topology and not in the Compose project; has the file changed meanwhile?", s.spec.File, of.Line, of.Name))
			continue
		}
		out.Services = append(out.Services, entry{of.Name, s.service(of, c)})
	}
	out.Networks = s.networks()
	out.Volumes = s.volumes()
	out.Configs = files(s, "configs", s.project.Configs)
	out.Secrets = files(s, "secrets", s.project.Secrets)
	return out
}

// head is the comment at the top.
func (s *swarm) head() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s as a stack of Docker Swarm, by gauntlet export swarm: docker stack deploy -c FILE %s\n", filepath.Base(s.spec.File), s.spec.Name)
	b.WriteString("#\n# Each machine of the swarm pulls the images: they must be in a registry that all of them reach.\n")
	for _, n := range s.notes {
		fmt.Fprintf(&b, "# %s: %s.\n", strings.Join(n.of, ", "), n.text)
	}
	return b.String()
}

// relative is a path of this machine as the stack names it: docker stack reads it relative to the stack file.
func (s *swarm) relative(path string) string {
	if rel, err := filepath.Rel(s.dir, path); err == nil && filepath.IsLocal(rel) {
		return "./" + filepath.ToSlash(rel)
	}
	return path
}
