package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kid stays and says which signals it got.
func kid(args []string) error {
	fs := flag.NewFlagSet("kid", flag.ContinueOnError)
	mark := fs.String("mark", "", "its name")
	if err := fs.Parse(args); err != nil {
		return err
	}
	sigs := make(chan os.Signal, 64)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGHUP)
	fmt.Println(*mark, "is there", os.Getenv("NOTE"))
	for s := range sigs {
		fmt.Println(*mark + " got " + s.String())
	}
	return nil
}

// job says something, waits, and ends as it was told to.
func job(args []string) error {
	fs := flag.NewFlagSet("job", flag.ContinueOnError)
	after := fs.Duration("after", 0, "time until the end")
	code := fs.Int("code", 0, "exit status")
	sig := fs.String("signal", "", "end by this signal instead")
	say := fs.String("say", "", "a line for stdout at the start")
	moan := fs.String("moan", "", "a line for stderr before the end")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *say != "" {
		fmt.Println(*say)
	}
	time.Sleep(*after)
	if *moan != "" {
		fmt.Fprintln(os.Stderr, *moan)
	}
	if *sig != "" {
		return dieBy(unix.SignalNum(*sig))
	}
	os.Exit(*code)
	return nil
}

// dieBy ends this process by a signal as a program in C would: Go's runtime turns a SIGSEGV that was sent into an exit
// status, so the default action is put back first.
func dieBy(sig syscall.Signal) error {
	if sig != syscall.SIGKILL {
		var dfl [32]byte // a struct sigaction with SIG_DFL
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&dfl[0])), 0, 8, 0, 0); errno != 0 {
			return fmt.Errorf("default action of %v: %w", sig, errno)
		}
	}
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	return fmt.Errorf("survived %v", sig)
}

// sleep starts children, half of them in sessions of their own, says that it is there, and stays.
func sleep(args []string) error {
	fs := flag.NewFlagSet("sleep", flag.ContinueOnError)
	mark := fs.String("mark", "", "seen in the command line")
	kids := fs.Int("kids", 0, "children")
	if err := fs.Parse(args); err != nil {
		return err
	}
	for i := range *kids {
		c := exec.Command("/proc/self/exe", "sleep", "-mark", *mark)
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: i%2 == 0}
		c.Stdout = os.Stdout // as a daemon that keeps its parent's pipe open
		if err := c.Start(); err != nil {
			return err
		}
	}
	fmt.Println("there")
	time.Sleep(time.Hour)
	return nil
}

// spew writes N bytes to stdout, and as many to stderr.
func spew(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want a number of bytes")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	b := []byte(strings.Repeat("0123456789abcde\n", 4096))
	for n > 0 {
		m := min(n, len(b))
		if _, err := os.Stdout.Write(b[:m]); err != nil {
			return err
		}
		if _, err := os.Stderr.Write(b[:m]); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// Process is an element of the answer of ps.
type Process struct {
	Pid   int
	State string
	Args  string
}

func ps([]string) error { return show(processes()) }

// processes returns every process that /proc shows.
func processes() []Process {
	var all []Process
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		args, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil {
			continue
		}
		p := Process{Pid: pid, Args: strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))}
		if stat, err := os.ReadFile("/proc/" + e.Name() + "/stat"); err == nil {
			if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest != "" {
				p.State = rest[:1]
			}
		}
		all = append(all, p)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Pid < all[j].Pid })
	return all
}

// burn uses processor time, at least as much as asked for, and shows how much it was.
func burn(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want a time")
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	var r unix.Rusage
	for {
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			return err
		}
		if used := time.Duration(r.Utime.Nano() + r.Stime.Nano()); used >= d {
			return show(used)
		}
		for range 1000 {
			_ = strings.Repeat("x", 100)
		}
	}
}
