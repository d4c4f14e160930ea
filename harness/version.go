package harness

import "runtime/debug"

// Version is the version of the harness, from the build info: a module version, or the commit it was built from.
func Version() string {
	i, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := i.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, s := range i.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				v += "+" + s.Value[:12]
			}
		}
	}
	return v
}
