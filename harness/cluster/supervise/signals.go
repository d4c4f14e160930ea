package supervise

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// ParseSignal reads SIGHUP, HUP or 1.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("signal %d: signals go from 1 to 64", n)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("no signal is called %q", s)
}

// SignalName is the name of a signal, such as SIGKILL, or SIG34 where it has none.
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return "SIG" + strconv.Itoa(int(sig))
}

// describeExit says in words how a program ended.
func describeExit(e cluster.Exit) string {
	if e.Signal != "" {
		return "was ended by " + e.Signal
	}
	return fmt.Sprintf("exited with status %d", e.Code)
}

// asked is a signal that the harness sent to a program.
type asked struct {
	sig    syscall.Signal
	at     time.Time
	paused bool // the program was: the signal acts when it goes on, whenever that is
}

// unsaidGrace is the grace of what a signal asks for where the service's is 0: that is about stops, after which nothing is waited for,
// and says nothing about how long a program takes to end when it is let.
const unsaidGrace = 10 * time.Second

// explains reports whether a death is what the signal asked for: within the grace, and by it or, where programs end in an orderly way
// on it, in any way.
func (a asked) explains(x cluster.Exit, grace time.Duration) bool {
	if x.At.Sub(a.at) > grace && !a.paused {
		return false
	}
	switch a.sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
		return true
	}
	return x.Signal == SignalName(a.sig)
}
