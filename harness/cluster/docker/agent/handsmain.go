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

// killDeadline is for everything that was killed to be gone. A process in an uninterruptible sleep ends later.
const killDeadline = 10 * time.Second

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
	n, err := h.send()
	if err != nil {
		return err
	}
	fmt.Println(n)
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

// send returns how many processes got the signal.
func (h hands) send() (int, error) {
	got := map[process]bool{}
	deadline := time.Now().Add(killDeadline)
	for {
		chosen, err := h.choose()
		if err != nil {
			return 0, err
		}
		for _, p := range chosen {
			switch err := unix.Kill(p.pid, h.signal); {
			case err == nil:
				p.parent = 0 // another one, once its parent has ended
				got[p] = true
			case err != unix.ESRCH:
				return 0, fmt.Errorf("sending %v to process %d (is KILL there?): %w", h.signal, p.pid, err)
			}
		}
		if h.signal != unix.SIGKILL || len(chosen) == 0 {
			return len(got), nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%d processes were still there %v after SIGKILL, such as %d", len(chosen), killDeadline, chosen[0].pid)
		}
		time.Sleep(time.Millisecond) // the death of what is not our child has no event
	}
}

// choose returns the living processes that are to get the signal.
func (h hands) choose() ([]process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var chosen []process
	for _, p := range all {
		is, err := h.matches(p)
		if err != nil {
			return nil, err
		}
		if is {
			chosen = append(chosen, p)
		}
	}
	if h.setting != "" {
		chosen = withDescendants(chosen, all)
	}
	return h.reachable(chosen), nil
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

// reachable leaves the hands themselves out, and process 1 where it is not wanted or where the kernel drops the signal.
func (h hands) reachable(chosen []process) []process {
	skipInit := h.skipInit || h.signal == unix.SIGKILL || h.signal == unix.SIGSTOP
	return slices.DeleteFunc(chosen, func(p process) bool {
		return p.pid == h.self || p.pid == 1 && skipInit
	})
}
