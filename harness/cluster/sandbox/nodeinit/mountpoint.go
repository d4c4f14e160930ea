package nodeinit

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// HostEtc is where the machine's /etc is shown in a node, at the same depth, so that relative links in it hold. The
// node's own /etc has a link to each entry of it that the node has not got itself.
const HostEtc = "/.etc"

// mountPoint returns a path below base at which something can be mounted for target: it follows links as the node
// would, makes what is missing, and where the tree is read-only puts a copy of its listing in the way.
func mountPoint(target string, dir bool) (string, error) {
	at, rest := base, split(target)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		if name == ".." {
			if at != base {
				at = at[:strings.LastIndexByte(at, '/')]
			}
			rest = rest[1:]
			continue
		}
		p := at + "/" + name
		st, err := os.Lstat(p)
		switch {
		case errors.Is(err, os.ErrNotExist):
			if err := create(at, name, dir || len(rest) > 1); err != nil {
				return "", fmt.Errorf("make room for %s: %w", target, err)
			}
		case err != nil:
			return "", fmt.Errorf("make room for %s: %w", target, err)
		case st.Mode()&os.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return "", fmt.Errorf("make room for %s: %w", target, err)
			}
			if links++; links > 40 {
				return "", fmt.Errorf("make room for %s: %w", target, unix.ELOOP)
			}
			if strings.HasPrefix(to, HostEtc+"/") && strings.HasPrefix(p, base+"/etc/") {
				if err := unlinkEtc(p, to); err != nil {
					return "", fmt.Errorf("make room for %s: %w", target, err)
				}
				continue
			}
			rest = append(split(to), rest[1:]...)
			if strings.HasPrefix(to, "/") {
				at = base
			}
			continue
		case st.IsDir() != (dir || len(rest) > 1):
			return "", fmt.Errorf("make room for %s: %s is of another kind", target, inNode(p))
		}
		at, rest = p, rest[1:]
	}
	return at, nil
}

func split(path string) []string {
	var parts []string
	for _, c := range strings.Split(path, "/") {
		if c != "" && c != "." {
			parts = append(parts, c)
		}
	}
	return parts
}

// create makes a directory or an empty file in a directory, which is first mirrored when it cannot be written to.
func create(in, name string, dir bool) error {
	for tried := false; ; tried = true {
		var err error
		if dir {
			err = os.Mkdir(in+"/"+name, 0o755)
		} else {
			var f *os.File
			if f, err = os.OpenFile(in+"/"+name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err == nil {
				err = f.Close()
			}
		}
		if tried || !(errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES)) {
			return err
		}
		if err := mirror(in); err != nil {
			return err
		}
	}
}

// mirror covers a directory by a tmpfs that shows its entries one by one, so that more can be added beside them.
func mirror(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	trees := map[string]int{}
	defer func() {
		for _, fd := range trees {
			unix.Close(fd)
		}
	}()
	links := map[string]string{}
	for _, e := range entries {
		p := dir + "/" + e.Name()
		if e.Type()&os.ModeSymlink != 0 {
			if links[e.Name()], err = os.Readlink(p); err != nil {
				return err
			}
			continue
		}
		// Opened before the cover is put over them.
		if trees[e.Name()], err = OpenTree(p, false, true); err != nil {
			return err
		}
	}
	if err := unix.Mount("gauntlet", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	for name, to := range links {
		if err := os.Symlink(to, dir+"/"+name); err != nil {
			return err
		}
	}
	for _, e := range entries {
		fd, ok := trees[e.Name()]
		if !ok {
			continue
		}
		if err := create(dir, e.Name(), e.IsDir()); err != nil {
			return err
		}
		if err := attach(fd, dir+"/"+e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// unlinkEtc turns the link to an entry of the machine's /etc into an entry of the node's own: a directory of links, or
// an empty file.
func unlinkEtc(p, to string) error {
	st, err := os.Stat(base + to)
	if err != nil {
		return err
	}
	if err := os.Remove(p); err != nil {
		return err
	}
	if !st.IsDir() {
		return os.WriteFile(p, nil, 0o644)
	}
	if err := os.Mkdir(p, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(base + to)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Symlink(to+"/"+e.Name(), p+"/"+e.Name()); err != nil {
			return err
		}
	}
	return nil
}
