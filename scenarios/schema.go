package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/hasvc/gauntlet/faults"
	"github.com/hasvc/gauntlet/harness/plan"
)

//go:generate go test . -run TestSchemaIsCurrent -update

// SchemaID names the schema. It is no address that is ever fetched.
const SchemaID = "https://github.com/hasvc/gauntlet/scenarios/scenario.schema.json"

// Schema is the JSON schema of scenario files, made from the types of this package and the tables: what editors complete
// and check by. Validate knows more, names above all.
func Schema(t Tables) ([]byte, error) {
	s := schemer{}
	root := s.of(reflect.TypeFor[File]())
	root.Version = jsonschema.Version
	root.ID = SchemaID
	root.Title = "A Gauntlet scenario"
	fault, _ := root.Properties.Get("faults")
	var kinds []kindSchema
	for _, k := range t.Faults {
		kinds = append(kinds, kindSchema{k.Name, k.Doc, k.Unsupported, reflect.TypeOf(k.New()).Elem()})
	}
	s.tagged(fault.Items, kinds)
	assert, _ := root.Properties.Get("assert")
	kinds = nil
	for _, k := range t.Assertions {
		kinds = append(kinds, kindSchema{k.Name, k.Doc, k.Unsupported, reflect.TypeOf(k.New()).Elem()})
	}
	s.tagged(assert.Items, kinds)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return b.Bytes(), nil
}

// schemer makes schemas of types, each in one tree: editors show what stands in place, and half of them do not follow
// references in items.
type schemer struct{}

func (s schemer) of(t reflect.Type) *jsonschema.Schema {
	r := jsonschema.Reflector{DoNotReference: true, Anonymous: true, RequiredFromJSONSchemaTags: true, ExpandedStruct: true, Mapper: s.form}
	out := r.ReflectFromType(t)
	out.Version = ""
	s.describe(out, t)
	return out
}

// describe carries the desc tags over: the reflector's own tag takes a comma for its end.
func (s schemer) describe(out *jsonschema.Schema, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice && out.Items != nil:
		s.describe(out.Items, t.Elem())
	case t.Kind() == reflect.Map && out.AdditionalProperties != nil:
		s.describe(out.AdditionalProperties, t.Elem())
	case t.Kind() == reflect.Struct && out.Properties != nil:
		for _, f := range fields(t) {
			p, ok := out.Properties.Get(tagKey(f))
			if !ok {
				continue
			}
			s.describe(p, f.Type)
			if d := f.Tag.Get("desc"); d != "" {
				p.Description = d
			}
		}
	}
}

var shortFormType = reflect.TypeFor[shortForm]()

// form is the schema of a type with a form of its own, or nil.
func (s schemer) form(t reflect.Type) *jsonschema.Schema {
	text := func(pattern, what string, examples ...any) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Description: what, Examples: examples}
	}
	const (
		time   = `([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)`
		times  = `(0|(` + time + `)+)`
		number = `([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?`
	)
	switch t {
	case reflect.TypeFor[plan.Duration]():
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{text(`^`+times+`$`, "A time.", "1.5s", "150ms"), {Type: "integer", Const: 0}}}
	case reflect.TypeFor[plan.Span]():
		return text(`^ *`+times+` *(\.\. *`+times+` *)?$`, "A time, or a range from which one is drawn.", "2s", "500ms..4.5s")
	case reflect.TypeFor[Lasting]():
		return text(`^( *`+times+` *(\.\. *`+times+` *)?|end)$`, "A time, a range from which one is drawn, or end.", "2s", "0s..2s", "end")
	case reflect.TypeFor[plan.Bound]():
		return text(`^\s*(<=|>=|<|>|=)\s*(`+number+`\s*(%(\s*baseline)?|/s|x\s*baseline)?|`+times+`)\s*$`, "A bound.", ">= 99.9%", "<= 100ms", "<= 3x baseline", "= 0", ">= 50/s")
	case reflect.TypeFor[Rate]():
		return text(`^\s*`+number+`\s*/s$`, "A number per second.", "200/s")
	case reflect.TypeFor[faults.Pace]():
		return text(`^\s*`+number+`\s*(/s|x)\s*$`, "A number per second, or a multiple of the planned rate.", "500/s", "3x")
	case reflect.TypeFor[Share]():
		return text(`^\s*`+number+`\s*%$`, "A share.", "30%")
	case reflect.TypeFor[plan.Pick]():
		return &jsonschema.Schema{Description: "Which of them: all, leader, follower (one), majority, minority, a number, a range that is drawn from, or a share.",
			OneOf: []*jsonschema.Schema{{Type: "integer", Minimum: "1"}, text(`^(all|leader|follower|majority|minority|[0-9]+( *\.\. *[0-9]+)?|`+number+` *%)$`, "", "leader", "1..3", "50%")}}
	case reflect.TypeFor[Statuses]():
		status := &jsonschema.Schema{Type: "integer", Minimum: "100", Maximum: "599"}
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{status, {Type: "array", Items: status}}}
	case reflect.TypeFor[Codes]():
		code := &jsonschema.Schema{Type: "string"}
		for _, name := range plan.GRPCCodes {
			code.Enum = append(code.Enum, name)
		}
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{code, {Type: "array", Items: code}}}
	case reflect.TypeFor[json.RawMessage]():
		return &jsonschema.Schema{Type: ""} // anything
	}
	if t.Kind() == reflect.String && t.Name() == "ExitStatus" {
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "integer", Minimum: "0", Maximum: "255"}, {Const: "any"}}}
	}
	if t.Kind() == reflect.Struct && reflect.PointerTo(t).Implements(shortFormType) {
		return s.short(t)
	}
	if t.Kind() == reflect.Struct && t != reflect.TypeFor[File]() && reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return &jsonschema.Schema{Type: "object"} // parameters that nobody reads yet
	}
	if t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && t.Elem().Kind() == reflect.String {
		// A number keeps the form in which it was written: MYDB_VERSION: 1.10 is a text.
		return &jsonschema.Schema{Type: "object", AdditionalProperties: loose()}
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String {
		return &jsonschema.Schema{Type: "array", Items: loose()}
	}
	return nil
}

// loose is a text that may be written as a number or as true or false.
func loose() *jsonschema.Schema {
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
}

// short is the schema of a mapping that may be written as the value of one of its keys.
func (s schemer) short(t reflect.Type) *jsonschema.Schema {
	type plain struct{ reflect.Type }
	r := jsonschema.Reflector{DoNotReference: true, Anonymous: true, RequiredFromJSONSchemaTags: true, ExpandedStruct: true,
		Mapper: func(x reflect.Type) *jsonschema.Schema {
			if (plain{x}) == (plain{t}) {
				return nil // the mapping itself
			}
			return s.form(x)
		}}
	long := r.ReflectFromType(t)
	long.Version = ""
	s.describe(long, t)
	key := reflect.New(t).Interface().(shortForm).shortKey()
	one, _ := long.Properties.Get(key)
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{one, long}}
}

// kindSchema is a row of a table.
type kindSchema struct {
	name, doc, unsupported string
	params                 reflect.Type
}

// tagged adds the kinds to the schema of an entry, exactly one of which it has.
func (s schemer) tagged(entry *jsonschema.Schema, kinds []kindSchema) {
	base := slices.Clone(entry.Required)
	for _, k := range kinds {
		p := s.params(k.params)
		p.Description = k.doc
		if k.unsupported != "" {
			p.Description += " Not executed by this version."
		}
		one := &jsonschema.Schema{Required: append(slices.Clone(base), k.name)}
		if flat, ok := p.Properties.Get(k.name); ok && flat.Type == "array" {
			// The parameters are the entry's own keys: {id: a, exec: [check], in: client}.
			for x := p.Properties.Oldest(); x != nil; x = x.Next() {
				if _, taken := entry.Properties.Get(x.Key); !taken {
					entry.Properties.Set(x.Key, x.Value)
				}
			}
			flat.Description = strings.TrimSpace(k.doc + " " + flat.Description)
		} else {
			entry.Properties.Set(k.name, p)
		}
		entry.OneOf = append(entry.OneOf, one)
	}
}

func (s schemer) params(t reflect.Type) *jsonschema.Schema {
	p := s.form(t)
	if p == nil {
		p = s.of(t)
	}
	if p.Properties == nil {
		p.Properties = jsonschema.NewProperties()
	}
	return p
}
