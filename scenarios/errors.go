package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is something wrong in a scenario file, with its place.
type Error struct {
	File    string
	Line    int // from 1
	Col     int // from 1, in runes
	Msg     string
	Excerpt string // the line, and a caret under the place
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
	if e.Excerpt != "" {
		s += "\n" + e.Excerpt
	}
	return s
}

// Errors are all errors of a file, in the order of the file.
type Errors []*Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.Is and errors.As each of them.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// document collects the errors of one file.
type document struct {
	file  string
	lines []string
	errs  Errors
}

func newDocument(file string, src []byte) *document {
	if len(src) > maxBytes { // an excerpt of what is refused for its size is of no use
		src = nil
	}
	return &document{file: file, lines: strings.Split(string(src), "\n")}
}

// maxErrors is how many are collected: nobody reads more, and a file of nothing but errors must not take for ever.
const maxErrors = 100

// errorf adds an error, unless the same place has the same message already.
func (d *document) errorf(line, col int, format string, a ...any) {
	if len(d.errs) >= maxErrors {
		return
	}
	// What is missing at the end of a line, or of the file, has a place after it in goccy's tree.
	line = min(max(line, 1), len(d.lines))
	col = min(max(col, 1), utf8.RuneCountInString(d.lines[line-1])+1)
	e := &Error{File: d.file, Line: line, Col: col, Msg: fmt.Sprintf(format, a...)}
	for _, o := range d.errs {
		if o.Line == e.Line && o.Col == e.Col && o.Msg == e.Msg {
			return
		}
	}
	e.Excerpt = d.excerpt(e.Line, e.Col)
	d.errs = append(d.errs, e)
}

func (d *document) at(n *node, format string, a ...any) {
	if n == nil {
		n = &node{}
	}
	d.errorf(n.line, n.col, format, a...)
}

// maxExcerpt is the width of the line that is shown, in runes.
const maxExcerpt = 110

func (d *document) excerpt(line, col int) string {
	text := []rune(strings.TrimRight(d.lines[line-1], "\r"))
	if strings.TrimSpace(string(text)) == "" {
		return ""
	}
	from := 0
	if col > maxExcerpt*2/3 {
		from = min(col-maxExcerpt/2, len(text))
	}
	shown, mark := text[from:], col-1-from
	tail := ""
	if len(shown) > maxExcerpt {
		shown, tail = shown[:maxExcerpt], "..."
	}
	head := ""
	if from > 0 {
		head = "..."
	}
	for i, r := range shown {
		if r == '\t' {
			shown[i] = ' ' // so that the caret stands below what it means
		}
	}
	no := fmt.Sprintf("%5d | ", line)
	pad := strings.Repeat(" ", max(mark, 0)+len(head))
	return no + head + string(shown) + tail + "\n" + strings.Repeat(" ", len(no)-2) + "| " + pad + "^"
}

// err returns what was collected, sorted, or nil.
func (d *document) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	es := slices.Clone(d.errs)
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return es
}

// split returns the single errors of a tree of joined ones.
func split(err error) []error {
	if err == nil {
		return nil
	}
	var many interface{ Unwrap() []error }
	// Only a join itself is taken apart: an error that wraps one has words of its own to say.
	if m, ok := err.(interface{ Unwrap() []error }); ok {
		many = m
	}
	if many == nil {
		return []error{err}
	}
	var out []error
	for _, e := range many.Unwrap() {
		out = append(out, split(e)...)
	}
	return out
}
