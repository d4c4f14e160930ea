package topology

import (
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a Compose file, and where.
type Error struct {
	File string
	// Line and Col count from 1; 0 when the error is about the file as a whole.
	Line, Col int
	Msg       string
	Hint      string // what to do; may be empty
	Excerpt   string // the line of the file; may be empty
}

// Error prints `file:line:col: message`, the line with a caret below the place, and the hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	b.WriteString(": ")
	b.WriteString(e.Msg)
	if e.Excerpt != "" {
		no := fmt.Sprintf("%5d | ", e.Line)
		fmt.Fprintf(&b, "\n%s%s\n%s| %s^", no, e.Excerpt, strings.Repeat(" ", len(no)-2), indent(e.Excerpt, e.Col-1))
	}
	if e.Hint != "" {
		b.WriteString("\n        " + e.Hint)
	}
	return b.String()
}

// indent is white space as wide as the first n bytes of line, tabs kept, so that a caret below stands in its place.
func indent(line string, n int) string {
	var b strings.Builder
	for i, r := range line {
		if i >= n {
			break
		}
		if r == '\t' {
			b.WriteRune('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// Errors is everything that is wrong with a Compose file, in the order of the file.
type Errors []*Error

func (es Errors) Error() string {
	s := make([]string, len(es))
	for i, e := range es {
		s[i] = e.Error()
	}
	return strings.Join(s, "\n")
}

// Unwrap lets errors.As find each Error.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// tidy sorts by place and drops repetitions.
func (es Errors) tidy() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	return slices.CompactFunc(es, func(a, b *Error) bool { return *a == *b })
}
