package scenarios

import (
	"bytes"
	"encoding/json"
	"strings"
)

// node is a value of a YAML document with its place: what goccy's syntax tree says, aliases and merges resolved, in one shape for
// everything that is decoded from it.
type node struct {
	kind    nodeKind
	line    int // from 1
	col     int // from 1, in runes
	text    string
	quoted  bool // a string in quotes or a block: never read as a number
	entries []entry
	items   []*node
}

type nodeKind int

const (
	nullNode nodeKind = iota
	boolNode
	numberNode
	stringNode
	mapNode
	listNode
)

// entry is a pair of a mapping. Its key has a place of its own.
type entry struct {
	key string
	at  *node // the key
	val *node
}

// what names the kind of a value in messages.
func (n *node) what() string {
	switch n.kind {
	case nullNode:
		return "nothing"
	case mapNode:
		return "a mapping"
	case listNode:
		return "a list"
	}
	t := n.text
	if r := []rune(t); len(r) > 40 {
		t = string(r[:40]) + "..."
	}
	return `"` + strings.ReplaceAll(t, "\n", `\n`) + `"`
}

func (n *node) scalar() bool { return n.kind != mapNode && n.kind != listNode }

// get returns the value of a key, or nil.
func (n *node) get(key string) *node {
	if e := n.entry(key); e != nil {
		return e.val
	}
	return nil
}

func (n *node) entry(key string) *entry {
	if n == nil || n.kind != mapNode {
		return nil
	}
	for i := range n.entries {
		if n.entries[i].key == key {
			return &n.entries[i]
		}
	}
	return nil
}

// find follows keys (string) and indices (int) as far as they lead.
func (n *node) find(path ...any) *node {
	for _, p := range path {
		var next *node
		switch p := p.(type) {
		case string:
			next = n.get(p)
		case int:
			if n.kind == listNode && p < len(n.items) {
				next = n.items[p]
			}
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// has reports whether the whole path exists.
func (n *node) has(path ...any) bool {
	for i := range path {
		if n.find(path[:i]...) == n.find(path[:i+1]...) {
			return false
		}
	}
	return true
}

// locate returns the first scalar or key in or under n whose text is s, or nil. It gives errors of parameters, which know
// nothing of files, a place.
func (n *node) locate(s string) *node {
	if s == "" || n == nil {
		return nil
	}
	if n.scalar() {
		if n.text == s && n.kind != nullNode {
			return n
		}
		return nil
	}
	for _, it := range n.items {
		if m := it.locate(s); m != nil {
			return m
		}
	}
	for _, e := range n.entries {
		if m := e.val.locate(s); m != nil {
			return m
		}
	}
	for _, e := range n.entries {
		if e.key == s {
			return e.at
		}
	}
	return nil
}

// appendJSON writes the value as JSON, keys in the order of the file.
func (n *node) appendJSON(b *bytes.Buffer) {
	switch n.kind {
	case nullNode:
		b.WriteString("null")
	case boolNode, numberNode:
		b.WriteString(n.text)
	case stringNode:
		writeString(b, n.text)
	case listNode:
		b.WriteByte('[')
		for i, it := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			it.appendJSON(b)
		}
		b.WriteByte(']')
	case mapNode:
		b.WriteByte('{')
		for i, e := range n.entries {
			if i > 0 {
				b.WriteByte(',')
			}
			writeString(b, e.key)
			b.WriteByte(':')
			e.val.appendJSON(b)
		}
		b.WriteByte('}')
	}
}

// writeString leaves <, > and & as they are: bounds are full of them, and a plan is read by people.
func writeString(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string into a buffer cannot fail
	b.Truncate(b.Len() - 1)
}

func (n *node) json() json.RawMessage {
	var b bytes.Buffer
	n.appendJSON(&b)
	return b.Bytes()
}
