package command

import (
	"context"
	"fmt"
	"runtime/debug"
)

// version prints what the linker wrote down, the one source of the truth about a build.
func version(_ context.Context, c call) int {
	if !c.noArguments("version") {
		return exitUsage
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		fmt.Fprintln(c.stderr, "hasvc version: this binary was built without build information")
		return exitFailed
	}
	fmt.Fprintf(c.stdout, "%s %s (%s)\n", info.Main.Path, info.Main.Version, info.GoVersion)
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" || s.Key == "vcs.modified" {
			fmt.Fprintf(c.stdout, "%s %s\n", s.Key, s.Value)
		}
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			fmt.Fprintf(c.stdout, "%s %s => %s %s\n", m.Path, m.Version, m.Replace.Path, m.Replace.Version)
			continue
		}
		fmt.Fprintf(c.stdout, "%s %s\n", m.Path, m.Version)
	}
	return exitOK
}
