package nodeinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// scratch is a file system in memory of the node's. Each start of the main program finds it empty, as a container's is
// new with each start: what is kept there is lost in a crash.
type scratch struct {
	Tmpfs
	top *os.Root // open from the start: a program may put another directory at the path
}

// scratches are all that can be written to.
var scratches []scratch

// emptyScratches empties what programs that are dead have left. The file systems stay, with what is mounted in them.
func emptyScratches() error {
	for _, s := range scratches {
		if err := s.empty(); err != nil {
			return fmt.Errorf("empty %s for the program: %w", s.Target, err)
		}
	}
	return nil
}

func (s scratch) empty() error {
	st, err := s.top.Stat(".")
	if err != nil {
		return err
	}
	if err := emptyDir(s.top, deviceOf(st)); err != nil {
		return err
	}
	return errors.Join(s.top.Chown(".", s.Owner, s.Group), s.top.Chmod(".", fs.ModeSticky|0o777))
}

// emptyDir removes what is in a directory on a device. What is mounted there, and the directories on the way to it, stay.
func emptyDir(dir *os.Root, device uint64) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		st, err := dir.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a program that the harness runs beside was quicker
		}
		if err != nil {
			return err
		}
		if deviceOf(st) != device {
			continue
		}
		if st.IsDir() {
			sub, err := dir.OpenRoot(name)
			if err != nil {
				return err
			}
			err = emptyDir(sub, device)
			sub.Close()
			if err != nil {
				return err
			}
		}
		if err := dir.Remove(name); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func deviceOf(st fs.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Dev }
