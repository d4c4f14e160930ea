package scenarios

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. A scenario is a few kilobytes; what is far above that is a mistake or an attack, and the parser's recursion ends
// the process, not the call, when the stack is used up.
const (
	maxBytes = 64 << 10
	maxDepth = 64
	maxNodes = 50_000 // aliases expanded
)

// readYAML turns one YAML document into nodes.
func readYAML(d *document, src []byte) (root *node) {
	if len(src) > maxBytes {
		d.errorf(1, 1, "the file has %d bytes; a scenario has at most %d", len(src), maxBytes)
		return nil
	}
	if !utf8.Valid(src) {
		line, col := badRune(src)
		d.errorf(line, col, "the file is not UTF-8 text")
		return nil
	}
	if i := bytes.IndexFunc(src, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' }); i >= 0 {
		line, col := place(src[:i])
		d.errorf(line, col, "a control character (%#U) does not belong into a scenario", rune(src[i]))
		return nil
	}
	// goccy/go-yaml panics on some malformed documents.
	defer func() {
		if p := recover(); p != nil {
			d.errorf(1, 1, "this is not YAML that can be read: %v", p)
			root = nil
		}
	}()
	tokens := lexer.Tokenize(string(src))
	if !shallow(d, tokens) {
		return nil
	}
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are found below, all of them
	if err != nil {
		line, col, msg := 1, 1, err.Error()
		var ye yaml.Error
		if errors.As(err, &ye) {
			msg = ye.GetMessage()
			if t := ye.GetToken(); t != nil && t.Position != nil {
				line, col = t.Position.Line, t.Position.Column
			}
		}
		if strings.Contains(msg, "'\t'") {
			msg += " (YAML is indented by spaces, never by tabs)"
		}
		d.errorf(line, col, "not valid YAML: %s", msg)
		return nil
	}
	var body ast.Node
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if body != nil {
			line, col := position(doc.Body)
			d.errorf(line, col, "a second YAML document begins here; a scenario file holds one scenario")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		d.errorf(1, 1, "the file is empty")
		return nil
	}
	c := &converter{d: d, anchors: map[string]ast.Node{}, targets: map[*ast.AliasNode]ast.Node{}, open: map[ast.Node]bool{}}
	c.collect(body, 0)
	return c.convert(body, 0)
}

// shallow looks for nesting before the recursive parser meets it, and for more than one document.
func shallow(d *document, tokens token.Tokens) bool {
	flow, line, nested, content := 0, 0, 0, false
	for _, t := range tokens {
		if t.Position == nil {
			continue
		}
		if t.Position.Line != line {
			line, nested = t.Position.Line, 0
		}
		switch t.Type {
		case token.CommentType, token.DirectiveType, token.DocumentEndType:
			continue
		case token.DocumentHeaderType:
			if content {
				d.errorf(t.Position.Line, t.Position.Column, "a second YAML document begins here; a scenario file holds one scenario")
				return false
			}
			continue
		}
		content = true
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(flow-1, 0)
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			nested++
		}
		if flow > maxDepth || nested > 4*maxDepth || t.Position.Column > 1<<14 {
			d.errorf(t.Position.Line, t.Position.Column, "values are nested too deeply here")
			return false
		}
	}
	return true
}

type converter struct {
	d       *document
	anchors map[string]ast.Node
	targets map[*ast.AliasNode]ast.Node // what each alias stands for
	open    map[ast.Node]bool           // targets that are being expanded
	nodes   int
	full    bool
}

// collect finds the anchors and what each alias stands for: of the anchors of its name, the last one before it.
func (c *converter) collect(n ast.Node, depth int) {
	if depth > 8*maxDepth || n == nil {
		return
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		if n.Name != nil {
			c.anchors[name(n.Name)] = n.Value
		}
		c.collect(n.Value, depth+1)
	case *ast.AliasNode:
		if t, ok := c.anchors[name(n.Value)]; ok {
			c.targets[n] = t
		}
	case *ast.TagNode:
		c.collect(n.Value, depth+1)
	case *ast.MappingNode:
		for _, v := range n.Values {
			c.collect(v.Value, depth+1)
		}
	case *ast.MappingValueNode:
		c.collect(n.Value, depth+1)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			c.collect(v, depth+1)
		}
	}
}

func (c *converter) convert(n ast.Node, depth int) *node {
	if n == nil {
		return &node{line: 1, col: 1}
	}
	line, col := position(n)
	out := &node{line: line, col: col}
	if c.nodes++; c.nodes > maxNodes {
		if !c.full {
			c.d.errorf(line, col, "the file has more than %d values once its aliases are expanded", maxNodes)
		}
		c.full = true
		return out
	}
	if depth > maxDepth {
		c.d.errorf(line, col, "values are nested more than %d deep", maxDepth)
		return out
	}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		out.kind, out.text = boolNode, strconv.FormatBool(n.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		c.number(out, n)
	case *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = stringNode, n.GetToken().Value // no value of a scenario is infinite
	case *ast.StringNode:
		out.kind, out.text = stringNode, n.Value
		t := n.GetToken().Type
		out.quoted = t == token.SingleQuoteType || t == token.DoubleQuoteType
	case *ast.LiteralNode:
		out.kind, out.quoted = stringNode, true
		if n.Value != nil {
			out.text = n.Value.Value
		}
	case *ast.TagNode:
		c.d.errorf(line, col, "tags (%s) have no meaning in a scenario; leave it out", n.Start.Value)
	case *ast.AnchorNode:
		return c.convert(n.Value, depth)
	case *ast.AliasNode:
		return c.alias(n, out, depth)
	case *ast.MappingNode:
		out.kind = mapNode
		c.pairs(out, n.Values, depth)
	case *ast.MappingValueNode:
		out.kind = mapNode
		c.pairs(out, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		out.kind = listNode
		for _, v := range n.Values {
			out.items = append(out.items, c.convert(v, depth+1))
		}
	default:
		c.d.errorf(line, col, "%s has no meaning in a scenario", strings.ToLower(n.Type().String()))
	}
	return out
}

// number keeps what was written where JSON can hold it, and a string ("0x10", "1_000") where it cannot.
func (c *converter) number(out *node, n ast.Node) {
	out.kind, out.text = numberNode, n.GetToken().Value
	if json.Valid([]byte(out.text)) {
		return
	}
	out.kind = stringNode
}

func (c *converter) alias(n *ast.AliasNode, out *node, depth int) *node {
	a := name(n.Value)
	target, ok := c.targets[n]
	if _, later := c.anchors[a]; !ok && later {
		c.d.errorf(out.line, out.col, "the anchor &%s comes only after this alias", a)
		return out
	}
	if !ok {
		c.d.errorf(out.line, out.col, "no anchor is called &%s%s", a, suggest(a, keysOf(c.anchors)))
		return out
	}
	if c.open[target] {
		c.d.errorf(out.line, out.col, "the alias *%s contains itself", a)
		return out
	}
	c.open[target] = true
	defer delete(c.open, target)
	v := *c.convert(target, depth+1)
	v.line, v.col = out.line, out.col // where it is used is where it is wrong
	return &v
}

func (c *converter) pairs(out *node, pairs []*ast.MappingValueNode, depth int) {
	var merged []entry
	seen := make(map[string]*node, len(pairs)) // the keys: entry would make many of them slow
	for _, p := range pairs {
		line, col := position(p.Key)
		if p.Key.IsMergeKey() {
			merged = append(merged, c.merge(p, depth)...)
			continue
		}
		if _, ok := p.Key.(*ast.MappingKeyNode); ok {
			c.d.errorf(line, col, "keys of a scenario are plain words, not complex ones (?)")
			continue
		}
		e := entry{key: name(p.Key), at: &node{kind: stringNode, line: line, col: col, text: name(p.Key)}, val: c.convert(p.Value, depth+1)}
		if e.val.kind == nullNode {
			e.val.line, e.val.col = line, col // a missing value has no place of its own
		}
		if first := seen[e.key]; first != nil {
			c.d.errorf(line, col, "the key %q was given before, in line %d", e.key, first.line)
			continue
		}
		seen[e.key] = e.at
		out.entries = append(out.entries, e)
	}
	for _, m := range merged {
		if seen[m.key] == nil {
			seen[m.key] = m.at
			out.entries = append(out.entries, m)
		}
	}
}

// merge resolves <<: *alias and <<: [*a, *b].
func (c *converter) merge(p *ast.MappingValueNode, depth int) []entry {
	v := c.convert(p.Value, depth+1)
	list := []*node{v}
	if v.kind == listNode {
		list = v.items
	}
	var es []entry
	for _, m := range list {
		if m.kind != mapNode {
			c.d.errorf(m.line, m.col, "<< merges mappings, and this is %s", m.what())
			continue
		}
		es = append(es, m.entries...)
	}
	return es
}

// name is the text of a key, an anchor's name or an alias'.
func name(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.AnchorNode:
		return name(n.Value)
	case nil:
		return ""
	}
	if t := n.GetToken(); t != nil {
		return t.Value
	}
	return ""
}

// position is where a reader would point: a block mapping begins with its first key, not with that key's colon.
func position(n ast.Node) (line, col int) {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return position(m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(m.Key)
	case *ast.LiteralNode:
		if m.Start != nil && m.Start.Position != nil {
			return m.Start.Position.Line, m.Start.Position.Column
		}
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return max(t.Position.Line, 1), max(t.Position.Column, 1)
	}
	return 1, 1
}

// badRune is the place of the first byte that is not UTF-8.
func badRune(src []byte) (line, col int) {
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			return place(src[:i])
		}
		i += n
	}
	return 1, 1
}

// place is the line and column after src.
func place(src []byte) (line, col int) {
	line = bytes.Count(src, []byte("\n")) + 1
	return line, utf8.RuneCount(src[bytes.LastIndexByte(src, '\n')+1:]) + 1
}

func keysOf[V any](m map[string]V) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	return ks
}
