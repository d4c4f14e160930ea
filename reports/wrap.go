package reports

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is that of a line of text.
const width = 100

// page writes lines of at most width columns, and remembers the first error.
type page struct {
	w     io.Writer
	color bool
	err   error
}

func (p *page) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

func (p *page) blank() { p.write("\n") }

// line writes text after head, broken between words; the lines that follow are indented as far as head is wide. Line
// breaks in text are kept.
func (p *page) line(head, text string) { p.styled(head, head, text) }

// styled is line with a head that has colour in it, whose width is that of plain.
func (p *page) styled(head, plain, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(plain))
	room := max(20, width-utf8.RuneCountInString(plain))
	for _, part := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		for _, l := range wrap(part, room) {
			p.write(strings.TrimRight(head+clean(l), " ") + "\n")
			head = indent
		}
	}
}

// wrap breaks a line between words; a word that is too long stands alone. Leading white space is kept, as in a stack.
func wrap(s string, room int) []string {
	lead := s[:len(s)-len(strings.TrimLeft(s, " \t"))]
	var out []string
	now := strings.ReplaceAll(lead, "\t", "    ")
	n, empty := utf8.RuneCountInString(now), true
	for _, word := range strings.Fields(s) {
		w := utf8.RuneCountInString(word)
		if !empty && n+1+w > room {
			out = append(out, now)
			now, n, empty = "", 0, true
		}
		if !empty {
			now += " "
			n++
		}
		now += word
		n += w
		empty = false
	}
	return append(out, now)
}

// clean makes one line of a text, without control characters: what a program under test printed must not steer a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return printed(r)
	}, s)
}

// Plain is clean for a text of several lines: their ends stay, and tabs.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return printed(r)
	}, s)
}

func printed(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return -1
	}
	return r
}

// paint gives text a colour, where that is wanted.
func (p *page) paint(code, s string) string {
	if !p.color {
		return s
	}
	return fmt.Sprintf("\x1b[%sm%s\x1b[0m", code, s)
}
