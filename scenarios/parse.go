package scenarios

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/hasvc/gauntlet/assertions"
)

// Parse reads a scenario file: its syntax, its keys and the forms of its values. file is its path; messages name it, and
// the paths in it are relative to it. Errors are of type Errors; when the text is YAML at all, the File is returned beside
// them, as far as it could be read, so that Validate can find what else is wrong.
func Parse(file string, src []byte, t Tables) (*File, error) {
	d := newDocument(file, src)
	root := readYAML(d, src)
	if root == nil {
		return nil, d.err()
	}
	f := &File{path: file, doc: d, root: root, tables: t}
	dc := &decoder{d: d, tables: t}
	dc.structure(root, reflect.ValueOf(f).Elem(), "a scenario")
	if f.Name == "" && !root.has("name") {
		f.Name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	return f, d.err()
}

// Path is the file, as it was named.
func (f *File) Path() string { return f.path }

// TopologyPath is the Compose file, as a path that can be opened.
func (f *File) TopologyPath() string { return f.beside(f.Topology) }

// beside resolves a path of the file.
func (f *File) beside(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(f.path), p)
}

func (f *Fault) decodeNode(dc *decoder, n *node) {
	kinds := make([]string, len(dc.tables.Faults))
	for i, k := range dc.tables.Faults {
		kinds[i] = k.Name
	}
	kind, at := dc.tagged(n, reflect.ValueOf(f).Elem(), "a fault", kinds, func(kind string) reflect.Type {
		for _, k := range dc.tables.Faults {
			if k.Name == kind {
				return reflect.TypeOf(k.New()).Elem()
			}
		}
		return nil
	})
	if kind == "" {
		return
	}
	f.Kind, f.at = kind, at
	f.row = dc.tables.Faults[slices.Index(kinds, kind)]
	p := f.row.New()
	f.partly = p
	if dc.params(at, p, kind) {
		f.Params = p
	}
}

func (a *Assert) decodeNode(dc *decoder, n *node) {
	kinds := make([]string, len(dc.tables.Assertions))
	for i, k := range dc.tables.Assertions {
		kinds[i] = k.Name
	}
	byName := func(kind string) assertions.Kind { return dc.tables.Assertions[slices.Index(kinds, kind)] }
	kind, at := dc.tagged(n, reflect.ValueOf(a).Elem(), "an assertion", kinds, func(kind string) reflect.Type {
		return reflect.TypeOf(byName(kind).New()).Elem()
	})
	if kind == "" {
		return
	}
	a.Kind, a.at, a.row = kind, at, byName(kind)
	p := a.row.New()
	if dc.params(at, p, kind) {
		a.Params = p
	}
}

// params decodes the parameters of a kind and reports whether all of them could be read.
func (dc *decoder) params(at *node, p any, kind string) bool {
	before := dc.errorsNow()
	dc.into(at, reflect.ValueOf(p).Elem(), kind)
	return dc.errorsNow() == before && before < maxErrors
}

// tagged decodes an entry that has keys of its own and one more, whose name says what the entry is. It returns that name
// and the node of its parameters, or "" after an error.
//
// The parameters are the key's value ({id: a, kill: {node: n}}). Where that is no mapping, and the kind has a list of its own name
// among its parameters, they are the entry's other keys ({id: a, exec: [check], in: client} has the parameters exec and in).
func (dc *decoder) tagged(n *node, v reflect.Value, what string, kinds []string, typeOf func(string) reflect.Type) (string, *node) {
	if n.kind != mapNode {
		dc.d.at(n, "%s is a mapping such as {id: NAME, %s: {...}}, not %s", what, first(kinds), n.what())
		return "", nil
	}
	own := fieldKeys(v.Type())
	var found, rest []entry
	for _, e := range n.entries {
		switch {
		case slices.Contains(own, e.key):
			dc.entry(e, v, what)
		case slices.Contains(kinds, e.key):
			found = append(found, e)
		default:
			rest = append(rest, e)
		}
	}
	name := n.get("id")
	if len(found) == 1 && found[0].val.kind != mapNode && listed(typeOf(found[0].key), found[0].key) {
		at := found[0].val
		return found[0].key, &node{kind: mapNode, line: at.line, col: at.col, entries: append(found, rest...)}
	}
	for _, e := range rest {
		dc.d.at(e.at, "%s has no key %q%s", what, e.key, suggest(e.key, append(slices.Clone(own), kinds...)))
	}
	switch {
	case len(found) == 1:
		return found[0].key, found[0].val
	case len(found) > 1:
		names := make([]string, len(found))
		for i, e := range found {
			names[i] = e.key
		}
		dc.d.at(found[1].at, "%s is one thing, and this is %s; make them entries of their own", what, strings.Join(names, " and "))
	case len(rest) == 0:
		called := ""
		if name != nil {
			called = fmt.Sprintf(" %q", name.text)
		}
		dc.d.at(n, "what is %s%s? give it one of the keys %s", what, called, strings.Join(kinds, ", "))
	}
	return "", nil
}

// listed reports whether a kind has a list of its own name among its parameters.
func listed(t reflect.Type, kind string) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	f, ok := fieldByKey(t, kind)
	return ok && f.Type.Kind() == reflect.Slice
}

func first(names []string) string {
	if len(names) == 0 {
		return "KIND"
	}
	return names[0]
}
