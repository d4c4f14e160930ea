package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
	_ "github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit" // its hook makes this executable a node's init
)

const (
	// planeArgv0 marks a process that is a plane. No environment variable is used: it would be inherited.
	planeArgv0 = "gauntlet-plane"
	// planeFD is where a plane finds its connection to the harness.
	planeFD = 3
)

// The re-execution hook: importing the driver is enough for any executable, a test binary too, to serve as its own
// plane. It fires only for process 1 of a namespace that was given the marker and a SEQPACKET socket. It runs on the
// main thread, which the runtime keeps for the main goroutine while packages are initialised: no goroutine that
// changes its thread's namespace can ever run on it, so /proc/self is always that of the plane.
func init() {
	if len(os.Args) != 1 || os.Args[0] != planeArgv0 || os.Getpid() != 1 {
		return
	}
	if kind, err := unix.GetsockoptInt(planeFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		return
	}
	unix.CloseOnExec(planeFD)
	conn, err := plane.NewConn(os.NewFile(planeFD, "the harness"))
	if err == nil {
		err = servePlane(conn)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "plane:", err)
		os.Exit(1)
	}
	os.Exit(0) // the kernel ends every process and frees every rule and namespace
}
