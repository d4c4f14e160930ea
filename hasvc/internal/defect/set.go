package defect

import (
	"fmt"
	"strings"
)

// Set is the defects that are switched on. The nil Set has none.
type Set map[Name]bool

// Has reports whether n is switched on.
func (s Set) Has(n Name) bool { return s[n] }

// Parse reads a comma list. An unknown name is an error that lists the known ones.
func Parse(list string) (Set, error) {
	set := Set{}
	for part := range strings.SplitSeq(list, ",") {
		n := Name(strings.TrimSpace(part))
		if n == "" {
			continue
		}
		if !known(n) {
			return nil, fmt.Errorf("no defect is called %q; known are %s", n, strings.Join(names(), ", "))
		}
		set[n] = true
	}
	return set, nil
}

func known(n Name) bool {
	for _, d := range Table {
		if d.Name == n {
			return true
		}
	}
	return false
}

func names() []string {
	out := make([]string, 0, len(Table))
	for _, d := range Table {
		out = append(out, string(d.Name))
	}
	return out
}
