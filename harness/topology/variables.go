package topology

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"
)

// quietly substitutes variables without writing warnings to standard error; checkVariables gives them.
func quietly(s string, lookup template.Mapping) (string, error) {
	return template.SubstituteWithOptions(s, lookup, template.WithoutLogging)
}

// lookup is the value of a variable, and notes that it was asked for.
func (l *loading) lookup(name string) (string, bool) {
	l.seen[name] = true
	v, ok := l.env[name]
	return v, ok
}

// checkVariables tries the interpolation of every value, so that all errors are found at their places, and notes which
// variables the file asks for. Aliases are not followed: what they stand for is visited where it is written.
func (l *loading) checkVariables(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") {
		l.checkVariable(n)
		return
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue // keys are not interpolated
		}
		l.checkVariables(c)
	}
}

func (l *loading) checkVariable(n *yaml.Node) {
	_, err := quietly(n.Value, l.lookup)
	var invalid *template.InvalidTemplateError
	var missing *template.MissingRequiredError
	switch {
	case errors.As(err, &invalid):
		l.errs = append(l.errs, l.src.errorAt(n.Line, n.Column, fmt.Sprintf("%q is no valid interpolation", n.Value), "write $$ for a dollar sign, ${NAME} or ${NAME:-default} for a variable"))
		return
	case errors.As(err, &missing):
		l.errs = append(l.errs, l.src.errorAt(n.Line, n.Column, missing.Error(), "set it in the environment or in a file .env beside the topology"))
		return
	case err != nil:
		l.errs = append(l.errs, l.src.errorAt(n.Line, n.Column, err.Error(), ""))
		return
	}
	vars := template.ExtractVariables(map[string]any{"": n.Value}, template.DefaultPattern)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		l.seen[name] = true
		v := vars[name]
		if _, set := l.env[name]; !set && v.DefaultValue == "" && v.PresenceValue == "" && !strings.Contains(n.Value, name+"-") && !strings.Contains(n.Value, name+":-") {
			l.spec.Warnings = append(l.spec.Warnings, fmt.Sprintf("%s:%d: the variable %s is not set: nothing stands in its place", l.src.file, n.Line, name))
		}
	}
}

// checkUsed refuses overrides that change nothing: a control with a misspelt variable would test the unchanged system.
func (l *loading) checkUsed(raw map[string]any) {
	if !l.noteBare(raw, l.dir, map[string]bool{}) {
		return // what could not be looked at may ask for any
	}
	for _, name := range slices.Sorted(maps.Keys(l.opt.Env)) {
		if !l.seen[name] {
			l.fail(nil, fmt.Sprintf("the variable %s was to be changed, but this file does not use it", name), didYouMean(name, slices.Sorted(maps.Keys(l.seen))))
		}
	}
}

// noteBare notes the variables that services are given under their own names, also by the files that they extend, whose paths are
// relative to dir. It reports whether it could read all of them: compose-go takes some that parse does not.
func (l *loading) noteBare(raw map[string]any, dir string, read map[string]bool) (all bool) {
	all = true
	services, _ := raw["services"].(map[string]any)
	for _, s := range services {
		s, _ := s.(map[string]any)
		switch env := s["environment"].(type) {
		case []any:
			for _, e := range env {
				if name, ok := e.(string); ok && !strings.Contains(name, "=") {
					l.seen[name] = true
				}
			}
		case map[string]any:
			for name, v := range env {
				if v == nil {
					l.seen[name] = true
				}
			}
		}
		extends, _ := s["extends"].(map[string]any)
		file, _ := extends["file"].(string)
		if file, _ = quietly(file, l.lookup); file == "" {
			continue
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if read[file] {
			continue
		}
		read[file] = true
		data, err := readRegular(file)
		_, below, errs := parse(file, data)
		all = err == nil && len(errs) == 0 && l.noteBare(below, filepath.Dir(file), read) && all
	}
	return all
}

// noteEnvFile notes the variables that an env_file asks for.
func (l *loading) noteEnvFile(f types.EnvFile, data []byte) {
	lookup := func(name string) (string, bool) {
		v, _ := l.lookup(name)
		return v, true // one that is not set compose-go warns of, and of what is wrong with the file, when it reads it in its turn
	}
	_ = dotenv.ParseWithFormat(bytes.NewReader(data), f.Path, map[string]string{}, lookup, f.Format)
}
