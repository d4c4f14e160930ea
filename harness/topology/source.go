package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds the files that are read: a Compose file, an env_file, a config or secret.
const maxFile = 4 << 20

// source is a Compose file as it was written, so that what compose-go finds in its model, which has no lines, can be
// shown in its place.
type source struct {
	file  string // as it was named
	lines []string
	root  *yaml.Node // the mapping at the top
}

// readRegular reads a file that must be a regular one of a sensible size: a device or a pipe would be read for ever.
func readRegular(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case st.IsDir():
		return nil, fmt.Errorf("%s is a directory", path)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case st.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", path, st.Size(), maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// parse reads YAML into its nodes and into plain values.
func parse(file string, data []byte) (*source, map[string]any, Errors) {
	s := &source{file: file, lines: strings.Split(string(data), "\n")}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return s, nil, Errors{{File: file, Msg: "the file is empty", Hint: "a topology is a Compose file with `services:`"}}
		}
		return s, nil, s.yamlErrors(err)
	}
	if err := dec.Decode(&next); err == nil {
		return s, nil, Errors{s.errorAt(next.Line, next.Column, "a second YAML document", "put everything into one document")}
	} else if !errors.Is(err, io.EOF) {
		return s, nil, s.yamlErrors(err)
	}
	root := &doc
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return s, nil, Errors{s.errorAt(root.Line, root.Column, "a Compose file is a mapping with `services:`", "")}
	}
	s.root = root
	if errs := s.plainKeys(root, nil); len(errs) > 0 {
		return s, nil, errs
	}
	var raw map[string]any
	// Decoding finds what parsing does not: keys given twice, unknown anchors, aliases that would grow without end.
	if err := root.Decode(&raw); err != nil {
		return s, nil, s.yamlErrors(err)
	}
	return s, raw, nil
}

// plainKeys refuses keys that are no strings, and tags that only make sense where several files are merged.
func (s *source) plainKeys(n *yaml.Node, errs Errors) Errors {
	switch n.Tag {
	case "!reset", "!override":
		errs = append(errs, s.errorAt(n.Line, n.Column, "the tag "+n.Tag+" has no meaning in a file that is not merged with another", "remove it"))
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if t := c.ShortTag(); c.Kind == yaml.ScalarNode && t != "!!str" && t != "!!merge" {
				errs = append(errs, s.errorAt(c.Line, c.Column, fmt.Sprintf("the key %s is no string", c.Value), "put it into quotes"))
			} else if c.Kind != yaml.ScalarNode && c.Kind != yaml.AliasNode {
				errs = append(errs, s.errorAt(c.Line, c.Column, "a key must be a string", ""))
			}
			continue
		}
		errs = s.plainKeys(c, errs)
	}
	return errs
}

// yamlErrors gives the parser's errors their places.
func (s *source) yamlErrors(err error) Errors {
	var one *yaml.LoadError
	var several *yaml.LoadErrors
	var all []*yaml.LoadError
	switch {
	case errors.As(err, &several):
		all = several.Errors
	case errors.As(err, &one):
		all = []*yaml.LoadError{one}
	default:
		return Errors{s.errorAt(0, 0, "this is no valid YAML: "+err.Error(), "")}
	}
	var out Errors
	for _, e := range all {
		text := e.Message
		if e.ContextMsg != "" {
			text = strings.TrimPrefix(e.ContextMsg, "while ") + ": " + text
		}
		out = append(out, s.errorAt(e.Mark.Line, e.Mark.Column, "this is no valid YAML: "+text, ""))
	}
	return out
}

// errorAt makes an error at a place of the file; with column 0, at the first letter of the line.
func (s *source) errorAt(line, col int, msg, hint string) *Error {
	e := &Error{File: s.file, Line: line, Col: col, Msg: msg, Hint: hint}
	if line < 1 || line > len(s.lines) {
		e.Line, e.Col = 0, 0
		return e
	}
	e.Excerpt = strings.TrimRight(s.lines[line-1], " \t\r")
	if e.Col < 1 {
		e.Col = 1 + len(e.Excerpt) - len(strings.TrimLeft(e.Excerpt, " \t"))
	}
	return e
}

// error makes an error at the key or list element that path leads to, or at the nearest one above it that exists:
// compose-go's model holds what the file has only by extension of another service.
func (s *source) error(path []string, msg, hint string) *Error {
	line, col := s.at(path)
	return s.errorAt(line, col, msg, hint)
}

// at is the place of a key or list element.
func (s *source) at(path []string) (line, col int) {
	n := s.root
	if n == nil {
		return 0, 0
	}
	line, col = n.Line, n.Column
	for _, p := range path {
		key, value := child(n, p, 0)
		if value == nil {
			break
		}
		line, col, n = key.Line, key.Column, value
	}
	return line, col
}

// maxHops bounds the aliases and merges that are followed, which can lead in a circle.
const maxHops = 32

// child finds a key of a mapping, through aliases and merge keys, or an element of a list.
func child(n *yaml.Node, name string, hops int) (key, value *yaml.Node) {
	if hops > maxHops || n == nil {
		return nil, nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return child(n.Alias, name, hops+1)
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
		// The model turns some lists into mappings: depends_on: [a], environment: [A=b].
		for _, e := range n.Content {
			if head, _, _ := strings.Cut(e.Value, "="); e.Kind == yaml.ScalarNode && head == name {
				return e, e
			}
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i], n.Content[i+1]
			}
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].ShortTag() != "!!merge" {
				continue
			}
			from := n.Content[i+1]
			if from.Kind == yaml.AliasNode {
				from = from.Alias
			}
			merged := []*yaml.Node{from}
			if from != nil && from.Kind == yaml.SequenceNode {
				merged = from.Content
			}
			for _, m := range merged {
				if k, v := child(m, name, hops+1); v != nil {
					return k, v
				}
			}
		}
	}
	return nil, nil
}
