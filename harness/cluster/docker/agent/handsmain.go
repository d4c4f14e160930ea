package agent

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killDeadline is for everything that was killed to be gone. A process in an uninterruptible sleep ends later.
	killDeadline = 10 * time.Second
	// quietRounds is how many rounds in a row must find nothing: one can miss what forks and ends while it looks.
	quietRounds = 3
)

// runHands is HandsArgv0.
func runHands() error {
	if os.Args[1] != "signal" || len(os.Args) < 3 {
		return fmt.Errorf("usage: signal NUMBER [-cmdline TEXT | -env KEY=VALUE] [-skip-init]")
	}
	number, err := strconv.Atoi(os.Args[2])
	if err != nil || number < 1 || number > 64 {
		return fmt.Errorf("%q is no number of a signal: they go from 1 to 64", os.Args[2])
	}
	h := hands{self: os.Getpid(), signal: syscall.Signal(number)}
	flags := flag.NewFlagSet("signal", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&h.command, "cmdline", "", "")
	flags.StringVar(&h.setting, "env", "", "")
	flags.BoolVar(&h.skipInit, "skip-init", false, "")
	if err := flags.Parse(os.Args[3:]); err != nil {
		return err
	}
	if h.command != "" && h.setting != "" {
		return errors.New("-cmdline and -env exclude one another")
	}
	first, err := h.meansFirst()
	if err != nil {
		return err
	}
	if first && h.signal == unix.SIGKILL {
		// All end with process 1. To kill the others before would take no end where it starts them again.
		all, err := h.meant()
		if err != nil {
			return err
		}
		fmt.Println(len(all), false, first)
		return nil
	}
	n, program, err := h.send()
	if err != nil {
		return err
	}
	fmt.Println(n, program, first)
	return nil
}

// hands signal processes of a PID namespace.
type hands struct {
	self     int
	signal   syscall.Signal
	command  string // in the command line; empty: any
	setting  string // of the environment; empty: any
	skipInit bool
}

// meansFirst reports whether process 1 is named by its command line and cannot be reached from here: who stands outside of the
// namespace has to send it the signal.
func (h hands) meansFirst() (bool, error) {
	first := process{pid: 1}
	if h.command == "" || h.skipInit || !h.spares(first) {
		return false, nil
	}
	return h.matches(first)
}

// send returns how many processes got the signal, and whether the container's program is one of them.
func (h hands) send() (n int, program bool, err error) {
	got := map[process]bool{}
	main := 1
	if h.skipInit {
		main, err = initsChild()
		if err != nil {
			return 0, false, err
		}
	}
	deadline := time.Now().Add(killDeadline)
	for quiet := 0; ; {
		signalled, err := h.round()
		if err != nil {
			return 0, false, err
		}
		for _, p := range signalled {
			program = program || p.pid == main
			p.parent = 0 // another one, once its parent has ended
			got[p] = true
		}
		if quiet++; len(signalled) > 0 {
			quiet = 0
		}
		if h.signal != unix.SIGKILL || quiet == quietRounds {
			return len(got), program, nil
		}
		if len(signalled) > 0 && time.Now().After(deadline) {
			return 0, false, fmt.Errorf("%d processes were still there %v after SIGKILL, such as %d", len(signalled), killDeadline, signalled[0].pid)
		}
		time.Sleep(time.Millisecond) // the death of what is not our child has no event
	}
}

// initsChild is the program below an init: the first child that it had. Orphans that became its own are younger.
func initsChild() (pid int, err error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		if p.parent == 1 && (pid == 0 || p.pid < pid) {
			pid = p.pid
		}
	}
	return pid, nil
}

// round signals the processes that are there now, each as soon as it is seen to be one of them: it may fork.
func (h hands) round() (signalled []process, err error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	all = h.open(all)
	if h.signal == unix.SIGKILL && h.command == "" && h.setting == "" {
		if err := unix.Kill(-1, h.signal); err != nil && err != unix.ESRCH { // no fork overtakes it
			return nil, fmt.Errorf("killing every process (is KILL there?): %w", err)
		}
		return all, nil
	}
	for _, p := range all {
		is, err := h.matches(p)
		if err == nil && is {
			err = h.signalOne(p)
			signalled = append(signalled, p)
		}
		if err != nil {
			return nil, err
		}
	}
	if h.setting == "" {
		return signalled, nil
	}
	for _, p := range descendants(signalled, all) {
		if err := h.signalOne(p); err != nil {
			return nil, err
		}
		signalled = append(signalled, p)
	}
	return signalled, nil
}

// open leaves those of all that may get the signal.
func (h hands) open(all []process) []process {
	helpers := map[process]bool{}
	if h.setting == "" {
		helpers = beside(all)
	}
	return slices.DeleteFunc(all, func(p process) bool { return h.spares(p) || helpers[p] })
}

// meant are the processes that the signal is for, as they are now.
func (h hands) meant() (meant []process, err error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	for _, p := range h.open(all) {
		is, err := h.matches(p)
		if err != nil {
			return nil, err
		}
		if is {
			meant = append(meant, p)
		}
	}
	return meant, nil
}

// beside are the processes that came into the namespace from outside, as the engine's healthchecks and what the harness runs, with what
// they have started: they are no part of the program, whose name may be in their command lines.
func beside(all []process) map[process]bool {
	var helpers []process
	for _, p := range all {
		if p.parent == 0 && p.pid != 1 {
			helpers = append(helpers, p)
		}
	}
	in := map[process]bool{}
	for _, p := range append(helpers, descendants(helpers, all)...) {
		in[p] = true
	}
	return in
}

func (h hands) signalOne(p process) error {
	if err := unix.Kill(p.pid, h.signal); err != nil && err != unix.ESRCH {
		return fmt.Errorf("sending %v to process %d (is KILL there?): %w", h.signal, p.pid, err)
	}
	return nil
}

func (h hands) matches(p process) (bool, error) {
	switch {
	case h.command != "":
		return p.commandContains(h.command)
	case h.setting != "":
		return p.environmentHas(h.setting)
	}
	return true, nil
}

// spares leaves the hands themselves out, and process 1 where it is not wanted or where the kernel drops the signal.
func (h hands) spares(p process) bool {
	skipInit := h.skipInit || h.signal == unix.SIGKILL || h.signal == unix.SIGSTOP
	return p.pid == h.self || p.pid == 1 && skipInit
}
