package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// tally counts tests, with each subtest one, and why those were skipped that were.
type tally struct {
	passed, failed, cut int
	skipped             map[string][]string // by reason, as PACKAGE.TEST
}

func newTally() tally { return tally{skipped: map[string][]string{}} }

func (t *tally) add(pkg string, x *test) {
	switch x.result {
	case "pass":
		t.passed++
	case "fail":
		t.failed++
	case "skip":
		why := x.reason()
		name := pkg[strings.LastIndex(pkg, "/")+1:] + "." + x.name
		t.skipped[why] = append(t.skipped[why], name)
	default:
		t.cut++
	}
}

// said is a line of T.Log or T.Skip.
var said = regexp.MustCompile(`^\s+[^\s:]+\.go:\d+: (.*)`)

// reason is the last thing that a skipped test said.
func (t *test) reason() string {
	for _, line := range slices.Backward(t.output) {
		if m := said.FindStringSubmatch(line); m != nil {
			return strings.TrimSpace(m[1])
		}
	}
	return "no reason given"
}

// listed is how many of the tests skipped for one reason are named.
const listed = 3

// String is the tally as it stands below the results.
func (t tally) String() string {
	var b strings.Builder
	n := 0
	for _, names := range t.skipped {
		n += len(names)
	}
	fmt.Fprintf(&b, "\n%d tests passed, %d failed, %d skipped", t.passed, t.failed, n)
	if t.cut > 0 {
		fmt.Fprintf(&b, ", %d cut off", t.cut)
	}
	b.WriteString("\n")
	reasons := slices.SortedFunc(maps.Keys(t.skipped), func(x, y string) int {
		return cmp.Or(len(t.skipped[y])-len(t.skipped[x]), strings.Compare(x, y))
	})
	for _, why := range reasons {
		names := t.skipped[why]
		fmt.Fprintf(&b, "%6d skipped: %s\n        %s", len(names), why, strings.Join(names[:min(len(names), listed)], ", "))
		if more := len(names) - listed; more > 0 {
			fmt.Fprintf(&b, " and %d more", more)
		}
		b.WriteString("\n")
	}
	return b.String()
}
