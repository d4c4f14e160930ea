package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// parseSignal reads SIGHUP, HUP or 1.
func parseSignal(s string) (syscall.Signal, error) {
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

// exitOf translates an init's report.
func exitOf(e nodeinit.Exit) cluster.Exit {
	x := cluster.Exit{Code: e.Code, At: momentOf(e.At)}
	if e.Signal != 0 {
		x.Signal = unix.SignalName(e.Signal)
		if x.Signal == "" {
			x.Signal = "SIG" + strconv.Itoa(int(e.Signal))
		}
	}
	return x
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
	sig syscall.Signal
	at  time.Time
}

// explains reports whether a death is what the signal asked for: by it, or, where programs end in an orderly way on
// it, within the grace.
func (a asked) explains(e nodeinit.Exit, at time.Time, grace time.Duration) bool {
	if e.Signal == a.sig {
		return true
	}
	switch a.sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
		return at.Sub(a.at) <= grace
	}
	return false
}
