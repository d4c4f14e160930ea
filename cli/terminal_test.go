package cli_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// terminal runs a command whose standard output is a terminal, and writes what it printed there to a file:
// terminal FILE PROGRAM [ARGUMENT...]. Nothing is asked of its exit code.
func terminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: terminal FILE PROGRAM [ARGUMENT...]")
	}
	master, slave, err := pseudoTerminal()
	ts.Check(err)
	defer master.Close()
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	c := exec.Command(path, args[2:]...)
	c.Dir, c.Stdout = ts.MkAbs("."), slave
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "NO_COLOR"} {
		c.Env = append(c.Env, name+"="+ts.Getenv(name))
	}
	ts.Check(c.Start())
	ts.Check(slave.Close())
	read := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(master) // ends with EIO when the last one who had the terminal has closed it
		read <- b
	}()
	printed := <-read
	if exit := c.Wait(); exit != nil {
		ts.Logf("%s: %v", args[1], exit)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), printed, 0o644))
}

func pseudoTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}
