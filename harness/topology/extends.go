package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkExtends finds what compose-go would find one by one, in the order of a map, and looks at the files that it would open.
func (l *loading) checkExtends(raw map[string]any) {
	services, _ := raw["services"].(map[string]any)
	names := slices.Sorted(maps.Keys(services))
	next := map[string]string{} // the service of this file that one extends
	for _, name := range names {
		s, _ := services[name].(map[string]any)
		path := []string{"services", name, "extends"}
		switch ext := s["extends"].(type) {
		case string:
			next[name] = ext
		case map[string]any:
			file, _ := ext["file"].(string)
			if file == "" {
				next[name], _ = ext["service"].(string)
				path = append(path, "service")
				break
			}
			path = append(path, "file")
			if strings.Contains(file, "$") {
				l.fail(path, "the file of extends has a variable in it", "write its path out")
			} else if _, err := readRegular(l.abs(file)); err != nil {
				l.fail(path, err.Error(), "")
			}
		}
		if base := next[name]; base != "" && services[base] == nil && !strings.Contains(base, "$") {
			l.fail(path, fmt.Sprintf("%s extends %s, which is no service", name, base), didYouMean(base, names))
		}
	}
	told := map[string]bool{}
	for _, name := range names {
		way := []string{name}
		for at := next[name]; at != "" && !told[at]; at = next[at] {
			if i := slices.Index(way, at); i >= 0 {
				for _, n := range way[i:] {
					told[n] = true
				}
				l.fail([]string{"services", way[len(way)-1], "extends"}, "the services extend each other in a circle: "+strings.Join(append(way[i:], at), " -> "), "")
				break
			}
			way = append(way, at)
		}
	}
}
