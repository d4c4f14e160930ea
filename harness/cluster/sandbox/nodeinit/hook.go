package nodeinit

import (
	"os"

	"golang.org/x/sys/unix"
)

// Argv0 marks a process that is a node's init. No environment variable is used: it would be inherited.
const Argv0 = "gauntlet-node-init"

// PatientArg, as its only argument, makes this executable a program that does nothing: the doctor needs one that is
// there whatever the machine has installed.
const PatientArg = "gauntlet-doctor-patient"

// Descriptors that an init inherits.
const (
	controlFD = 3 // its connection to the harness
	FirstTree = 4 // the first of the trees that its root is made of
)

// The re-execution hook. It fires only for process 1 of a namespace that was given the marker and a unix socket, so a
// program that happens to bear the name is not taken for an init.
func init() {
	if len(os.Args) == 2 && os.Args[1] == PatientArg && os.Getppid() == 1 {
		for {
			_ = unix.Pause()
		}
	}
	if len(os.Args) != 1 || os.Args[0] != Argv0 || os.Getpid() != 1 {
		return
	}
	if domain, err := unix.GetsockoptInt(controlFD, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_UNIX {
		return
	}
	unix.CloseOnExec(controlFD)
	serve(controlFD)
	os.Exit(0)
}
