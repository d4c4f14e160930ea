package agent

import (
	"fmt"
	"os"
)

// The re-execution hook: importing the driver is enough for any executable, a test binary too, to serve as its own
// agents. Plane, pod and idle program are process 1 of their containers and get no argument; the hands are not, and get
// some.
func init() {
	var run func() error
	switch {
	case len(os.Args) == 1 && os.Getpid() == 1:
		run = map[string]func() error{PlaneArgv0: runPlane, PodArgv0: runPod, IdleArgv0: runIdle}[os.Args[0]]
	case len(os.Args) > 1 && os.Args[0] == HandsArgv0:
		run = runHands
	}
	if run == nil {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(1)
	}
	os.Exit(0)
}
