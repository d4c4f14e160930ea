package topology

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"
)

// quietly substitutes variables without writing warnings to standard error; checkVariables gives them.
func quietly(s string, lookup template.Mapping) (string, error) {
	return template.SubstituteWithOptions(s, lookup, template.WithoutLogging)
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
	lookup := func(k string) (string, bool) {
		l.seen[k] = true
		v, ok := l.env[k]
		return v, ok
	}
	_, err := quietly(n.Value, lookup)
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
	services, _ := raw["services"].(map[string]any)
	for _, s := range services {
		s, _ := s.(map[string]any)
		if s["env_file"] != nil || s["extends"] != nil {
			return // variables may be asked for in files that are not looked at here
		}
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
	}
	for _, name := range slices.Sorted(maps.Keys(l.opt.Env)) {
		if !l.seen[name] {
			l.fail(nil, fmt.Sprintf("the variable %s was to be changed, but this file does not use it", name), didYouMean(name, slices.Sorted(maps.Keys(l.seen))))
		}
	}
}
