package plan

import (
	"fmt"
	"text/template"
)

// TemplateData is what the templates of requests see.
type TemplateData struct {
	N  int    // the sequence number
	ID string // unique in the run
}

// ParseTemplate reads a template of a request: `mod a b` is the remainder, never negative; `rand n` a draw from 0 to n-1.
func ParseTemplate(name, text string, draw func() uint64) (*template.Template, error) {
	return template.New(name).Funcs(template.FuncMap{
		"mod": func(a, b int) (int, error) {
			if b <= 0 {
				return 0, fmt.Errorf("mod by %d; it must be 1 or more", b)
			}
			return ((a % b) + b) % b, nil
		},
		"rand": func(n int) (int, error) {
			if n <= 0 {
				return 0, fmt.Errorf("rand of %d; it must be 1 or more", n)
			}
			return int(draw() % uint64(n)), nil
		},
	}).Parse(text)
}
