package scenarios

import (
	"fmt"
	"slices"
	"strings"
)

// suggest returns `; did you mean "x"?` for the nearest of names, or "; one of ..." when there are few, or nothing.
func suggest(got string, names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if near := nearest(got, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	if len(names) == 0 || len(names) > 12 {
		return ""
	}
	if len(names) == 1 {
		return fmt.Sprintf("; there is only %s", names[0])
	}
	return "; there are " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// nearest is the name that a typing error may have made got from, or "".
func nearest(got string, names []string) string {
	best, at := "", len([]rune(got))/3+1
	if len(got) > 64 {
		return ""
	}
	for _, n := range names {
		if strings.EqualFold(n, got) {
			return n
		}
		if dist := levenshtein(got, n); dist <= at && dist < max(len([]rune(n)), 2) {
			if dist < at || best == "" {
				best, at = n, dist
			}
		}
	}
	return best
}

// levenshtein is the number of runes to insert, delete, change or swap with their neighbour to get from a to b
// (optimal string alignment: a swap is the commonest typing error, and counts as one).
func levenshtein(a, b string) int {
	s, t := []rune(a), []rune(b)
	rows := make([][]int, len(s)+1)
	for i := range rows {
		rows[i] = make([]int, len(t)+1)
		rows[i][0] = i
	}
	for j := range t {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(s)][len(t)]
}
