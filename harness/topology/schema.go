package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// composeSchema is compose-go's own schema. compose-go reports one error of it and no place; here all are wanted.
var composeSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Schema))
	if err != nil {
		return nil, err
	}
	if err := c.AddResource("compose-spec.json", doc); err != nil {
		return nil, err
	}
	c.RegisterFormat(&jsonschema.Format{Name: "duration", Validate: func(v any) error {
		if s, ok := v.(string); ok {
			_, err := time.ParseDuration(s)
			return err
		}
		return nil
	}})
	return c.Compile("compose-spec.json")
})

// checkSchema interpolates the file and holds it against Compose's schema.
func (l *loading) checkSchema(raw map[string]any) {
	opts := loader.ToOptions(&types.ConfigDetails{Environment: l.env}, nil)
	opts.Interpolate.Substitute = quietly
	cooked, err := interpolation.Interpolate(raw, *opts.Interpolate)
	for tries := 0; err != nil && tries < 2; tries++ {
		// Values of the wrong kind are found here. Without them the rest can be looked at all the same.
		raw = deepCopy(raw).(map[string]any)
		for _, e := range unjoin(err) {
			remove(raw, l.castError(e))
		}
		cooked, err = interpolation.Interpolate(raw, *opts.Interpolate)
	}
	if err != nil {
		return
	}
	s, err := composeSchema()
	if err != nil {
		l.fail(nil, "Compose's schema cannot be read: "+err.Error(), "")
		return
	}
	// The validator knows JSON's types only.
	text, err := json.Marshal(cooked)
	if err != nil {
		l.fail(nil, "this file has a value that JSON cannot write: "+err.Error(), "")
		return
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		l.fail(nil, err.Error(), "")
		return
	}
	var ve *jsonschema.ValidationError
	if errors.As(s.Validate(doc), &ve) {
		l.schemaErrors(ve)
	}
	if services, _ := cooked["services"].(map[string]any); len(services) == 0 && len(l.errs) == 0 {
		l.fail(nil, "there are no services", "a topology needs at least one under `services:`")
	}
}

func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, unjoin(e)...)
		}
		return out
	}
	return []error{err}
}

var castFailure = regexp.MustCompile(`^error while interpolating (\S+): failed to cast to expected type: .*?("(?:[^"\\]|\\.)*")?: .*$`)

// castError notes that a value is of the wrong kind, and returns its path.
func (l *loading) castError(err error) []string {
	m := castFailure.FindStringSubmatch(err.Error())
	if m == nil {
		l.composeError(err)
		return nil
	}
	path := strings.Split(m[1], ".")
	what := m[2]
	if what == "" {
		what = "the value"
	}
	l.fail(path, fmt.Sprintf("%s: %s is not of the kind that is wanted here", m[1], what), "a number, or true or false without quotes")
	return path
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = deepCopy(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = deepCopy(e)
		}
		return out
	}
	return v
}

// remove takes the key that path leads to out of nested mappings.
func remove(v map[string]any, path []string) {
	for i, p := range path {
		if i == len(path)-1 {
			delete(v, p)
			return
		}
		next, ok := v[p].(map[string]any)
		if !ok {
			delete(v, p)
			return
		}
		v = next
	}
}

var english = message.NewPrinter(language.English)

// schemaErrors walks down to the errors that say something. Of alternatives that all fail, the one that got deepest is
// what the writer meant.
func (l *loading) schemaErrors(e *jsonschema.ValidationError) {
	switch k := e.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		if len(e.Causes) == 0 {
			break
		}
		var want []string
		best := e.Causes[0]
		for _, c := range e.Causes {
			if t, ok := leaf(c).ErrorKind.(*kind.Type); ok && len(leaf(c).InstanceLocation) == len(e.InstanceLocation) {
				want = append(want, t.Want...)
			} else if best == e.Causes[0] || depth(c) > depth(best) {
				best = c
			}
		}
		if len(want) == len(e.Causes) || isType(leaf(best)) && depth(best) == len(e.InstanceLocation) {
			l.fail(e.InstanceLocation, fmt.Sprintf("%s must be %s", where(e.InstanceLocation), oneOf(want)), "")
			return
		}
		l.schemaErrors(best)
		return
	case *kind.AdditionalProperties:
		for _, p := range k.Properties {
			l.unknownKey(e, p)
		}
		return
	case *kind.FalseSchema:
		if n := len(e.InstanceLocation); n > 0 {
			at := *e
			at.InstanceLocation = e.InstanceLocation[:n-1]
			l.unknownKey(&at, e.InstanceLocation[n-1])
			return
		}
	case *kind.Type:
		l.fail(e.InstanceLocation, fmt.Sprintf("%s must be %s, not %s", where(e.InstanceLocation), oneOf(k.Want), word(k.Got)), "")
		return
	}
	if len(e.Causes) > 0 {
		for _, c := range e.Causes {
			l.schemaErrors(c)
		}
		return
	}
	l.fail(e.InstanceLocation, where(e.InstanceLocation)+": "+e.ErrorKind.LocalizedString(english), "")
}

func (l *loading) unknownKey(e *jsonschema.ValidationError, key string) {
	known := knownKeys(e.InstanceLocation)
	if slices.Contains(known, key) {
		return // the validator calls a known key unevaluated when its value is wrong, which is an error of its own
	}
	at := append(slices.Clone(e.InstanceLocation), key)
	l.fail(at, fmt.Sprintf("unknown key %s in %s", key, where(e.InstanceLocation)), didYouMean(key, known))
}

// knownKeys are the keys that the table of Compose keys has at a path.
func knownKeys(path []string) []string {
	var out []string
	for k := range keys {
		parts := strings.Split(k, ".")
		if len(parts) != len(path)+1 || parts[len(path)] == "*" {
			continue
		}
		match := true
		for i, p := range path {
			match = match && (parts[i] == "*" || parts[i] == p)
		}
		if match {
			out = append(out, parts[len(path)])
		}
	}
	if len(path) == 2 && path[0] == "services" {
		out = append(out, "x-gauntlet")
	}
	return slices.Sorted(slices.Values(out))
}

func leaf(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	for len(e.Causes) == 1 {
		e = e.Causes[0]
	}
	return e
}

func isType(e *jsonschema.ValidationError) bool { _, ok := e.ErrorKind.(*kind.Type); return ok }

func depth(e *jsonschema.ValidationError) int {
	d := len(e.InstanceLocation)
	for _, c := range e.Causes {
		d = max(d, depth(c))
	}
	return d
}

func word(t string) string {
	switch t {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "integer":
		return "a whole number"
	case "null":
		return "empty"
	}
	return "a " + t
}

func oneOf(types []string) string {
	set := map[string]bool{}
	for _, t := range types {
		set[word(t)] = true
	}
	names := slices.Sorted(maps.Keys(set))
	switch len(names) {
	case 0:
		return "something else"
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// index is the path of an element of a list.
func index(path []string, i int) []string { return append(slices.Clone(path), strconv.Itoa(i)) }
