// Package topology reads a Compose file into a cluster.Spec, with compose-go.
//
// A key that cannot be honoured is an error with its place in the file, never passed over in silence; the table in keys.go
// says what becomes of each. All errors come at once, as Errors.
package topology

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// Option changes a topology as it is read: a control does.
type Option struct {
	// Env overrides the environment in interpolation. A name that the file never asks for is an error.
	Env map[string]string
	// Flags are appended to the command of a service, or of each service of a group.
	Flags map[string][]string
	// Defects are switched on in a service by HASVC_DEFECT=a,b; under the empty name, in each service that runs hasvc.
	Defects map[string][]string
}

// loading is one Load at work.
type loading struct {
	src  *source
	dir  string // of the file, absolute
	opt  Option
	env  types.Mapping
	seen map[string]bool // variables that interpolation asked for
	spec *cluster.Spec
	errs Errors
}

func (l *loading) fail(path []string, msg, hint string) {
	l.errs = append(l.errs, l.src.error(path, msg, hint))
}

// Load reads a Compose file. What is wrong with the file comes as Errors; any other error is about opening it.
func Load(ctx context.Context, path string, opt Option) (*cluster.Spec, error) {
	data, err := readRegular(path)
	if err != nil {
		return nil, fmt.Errorf("reading the topology: %w", err)
	}
	return load(ctx, path, data, opt)
}

func load(ctx context.Context, path string, data []byte, opt Option) (spec *cluster.Spec, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("reading the topology: %w", err)
	}
	src, raw, errs := parse(path, data)
	if len(errs) > 0 {
		return nil, errs.tidy()
	}
	l := &loading{src: src, dir: filepath.Dir(abs), opt: opt, seen: map[string]bool{}, spec: &cluster.Spec{File: path}}
	// compose-go trusts that its own checks went before and asserts types; a panic there must not end the harness.
	defer func() {
		if p := recover(); p != nil {
			spec, err = nil, Errors{{File: path, Msg: fmt.Sprintf("compose-go cannot read this file: %v", p), Hint: "reduce the file until it can be read; the last part taken out is to blame"}}
		}
	}()
	if l.env, err = Environment(l.dir, opt.Env); err != nil {
		return nil, err
	}
	if l.checkVariables(src.root); len(l.errs) > 0 {
		return nil, l.errs.tidy()
	}
	l.checkExtends(raw)
	if l.checkSchema(raw); len(l.errs) > 0 {
		return nil, l.errs.tidy()
	}
	project := l.compose(ctx, abs, data, raw)
	if project == nil {
		return nil, l.errs.tidy()
	}
	l.convert(project)
	l.change()
	l.checkUsed(raw)
	if len(l.errs) > 0 {
		return nil, l.errs.tidy()
	}
	return l.spec, nil
}

// Environment is what interpolation sees: a file .env beside the Compose file (in dir), the process's environment, and the
// overrides, each over the one before, as with docker compose.
func Environment(dir string, over map[string]string) (map[string]string, error) {
	env := map[string]string{}
	for _, kv := range os.Environ() {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
			env[k] = v
		}
	}
	maps.Copy(env, over)
	file := filepath.Join(dir, ".env")
	data, err := readRegular(file)
	if errors.Is(err, os.ErrNotExist) {
		return env, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading variables of the topology: %w", err)
	}
	vars, err := dotenv.UnmarshalBytesWithLookup(data, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	if err != nil {
		return nil, fmt.Errorf("reading variables of the topology from %s: %w", file, err)
	}
	for k, v := range vars {
		if _, set := env[k]; !set {
			env[k] = v
		}
	}
	return env, nil
}

// compose makes compose-go's model and applies the table of keys to it on the way.
func (l *loading) compose(ctx context.Context, abs string, data []byte, raw map[string]any) *types.Project {
	delete(raw, "version") // compose-go would warn on standard error
	details := types.ConfigDetails{
		WorkingDir:  l.dir,
		Environment: l.env,
		ConfigFiles: []types.ConfigFile{{Filename: abs, Content: data, Config: raw}},
	}
	opts := loader.ToOptions(&details, []func(*loader.Options){func(o *loader.Options) {
		name := loader.NormalizeProjectName(strings.TrimSuffix(filepath.Base(abs), filepath.Ext(abs)))
		if name == "" {
			name = "topology"
		}
		o.SetProjectName(name, false)
		// Consistency is checked here, with places and all at once; the environment is resolved after its files were looked at.
		o.SkipConsistencyCheck = true
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.SkipInclude = true
		o.Interpolate.Substitute, o.Interpolate.LookupValue = quietly, l.lookup // also in the files that services extend
		if p := l.env["COMPOSE_PROFILES"]; p != "" {
			for name := range strings.SplitSeq(p, ",") {
				o.Profiles = append(o.Profiles, strings.TrimSpace(name))
			}
		}
	}})
	model, err := loader.LoadModelWithContext(ctx, details, func(o *loader.Options) {
		*o = *opts
		o.ResourceLoaders = nil // the local one is added again
	})
	if err != nil {
		l.composeError(err)
		return nil
	}
	if name, _ := model["name"].(string); name != "" {
		opts.SetProjectName(name, true)
	}
	l.checkKeys(model, nil, "")
	project, err := loader.ModelToProject(model, opts, details)
	if err != nil {
		l.composeError(err)
		return nil
	}
	if !l.checkEnvFiles(project) {
		return project // without its environment, for the other errors in it
	}
	resolved, err := project.WithServicesEnvironmentResolved(false)
	if err != nil {
		l.composeError(err)
		return project
	}
	return resolved
}

var modelPath = regexp.MustCompile(`\b(services|networks|volumes|configs|secrets)[.\[][^\s:,'"` + "`" + `]+|service "([^"]+)"`)

// composeError gives an error of compose-go the place that its text names.
func (l *loading) composeError(err error) {
	msg := strings.TrimPrefix(err.Error(), "validating "+l.src.file+": ")
	var path []string
	if m := modelPath.FindStringSubmatch(msg); m != nil {
		if m[2] != "" {
			path = []string{"services", m[2]}
		} else {
			path = strings.FieldsFunc(m[0], func(r rune) bool { return r == '.' || r == '[' || r == ']' })
		}
	}
	l.fail(path, msg, "")
}

func (l *loading) checkEnvFiles(p *types.Project) (ok bool) {
	before := len(l.errs)
	for _, name := range p.ServiceNames() {
		for i, f := range p.Services[name].EnvFiles {
			data, err := readRegular(f.Path)
			if err != nil && (bool(f.Required) || !errors.Is(err, os.ErrNotExist)) {
				l.fail([]string{"services", name, "env_file", fmt.Sprint(i)}, "env_file: "+err.Error(), "")
			}
			l.noteEnvFile(f, data)
		}
	}
	return len(l.errs) == before
}

func (l *loading) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.dir, path)
}
