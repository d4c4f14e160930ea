package nodeinit

import (
	"errors"
	"fmt"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// base is where the new root is put together before it becomes the root. Any directory will do: everything that the
// root shows of the machine was opened before it is covered.
var base = "/tmp"

// chooseBase finds a directory; an image made from scratch has only what its engine mounts.
func chooseBase() error {
	for _, base = range []string{"/tmp", "/sys", "/dev"} {
		if st, err := os.Stat(base); err == nil && st.IsDir() {
			return nil
		}
	}
	return errors.New("put the node's root together: there is no /tmp, /sys or /dev to do it at")
}

// buildRoot gives the node its own root: a tmpfs with the parts of the machine's tree that were asked for. overlayfs
// would do the same with less work, but is refused in user namespaces of some kernels.
func buildRoot(c *Setup) error {
	if err := chooseBase(); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the node's mounts private: %w", err)
	}
	if err := unix.Mount("gauntlet", base, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return fmt.Errorf("mount the node's root: %w", err)
	}
	if err := populate(c); err != nil {
		return err
	}
	// Before what a service mounts there.
	if err := mountTmpfs(Tmpfs{Target: "/dev/shm", Owner: c.Owner, Group: c.Group}); err != nil {
		return err
	}
	if err := mountAll(c); err != nil {
		return err
	}
	for _, f := range c.Files {
		if err := writeFile(f); err != nil {
			return err
		}
	}
	if err := seal(c); err != nil {
		return err
	}
	return enter()
}

// OpenTree opens a part of the tree as a detached copy of its mounts.
func OpenTree(source string, readOnly, device bool) (int, error) {
	// Recursive: a user namespace may not show a directory without the mounts that cover parts of it.
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("open %s for the node: %w", source, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}
	if !device {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make %s read-only for the node: %w", source, err)
	}
	return fd, nil
}

func attach(tree int, at string) error {
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", inNode(at), err)
	}
	return nil
}

// populate makes the root's own directories and links.
func populate(c *Setup) error {
	if err := os.Chown(base, c.Owner, c.Group); err != nil {
		return fmt.Errorf("give the node's root to its owner: %w", err)
	}
	for _, d := range c.Dirs {
		if err := os.MkdirAll(base+d.Path, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", d.Path, err)
		}
		if err := give(base+d.Path, d.Owner, d.Group, d.Mode); err != nil {
			return err
		}
	}
	for _, l := range c.Links {
		if err := os.Symlink(l.To, base+l.Path); err != nil {
			return fmt.Errorf("link %s: %w", l.Path, err)
		}
	}
	return nil
}

// mountAll mounts the inherited trees, and what is the node's own. A parent comes before what lies in it.
func mountAll(c *Setup) error {
	type mounting struct {
		target string
		mount  func() error
	}
	var all []mounting
	for i, target := range c.Trees {
		all = append(all, mounting{target, func() error { return mountTree(FirstTree+i, target) }})
	}
	for _, t := range c.Tmpfs {
		all = append(all, mounting{t.Target, func() error { return mountTmpfs(t) }})
	}
	sort.SliceStable(all, func(i, j int) bool { return len(all[i].target) < len(all[j].target) })
	for _, m := range all {
		if err := m.mount(); err != nil {
			return err
		}
	}
	return mountKernel()
}

func mountTree(tree int, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return fmt.Errorf("look at the tree for %s: %w", target, err)
	}
	at, err := mountPoint(target, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return err
	}
	if err := attach(tree, at); err != nil {
		return err
	}
	unix.Close(tree)
	return nil
}

func mountTmpfs(t Tmpfs) error {
	at, err := mountPoint(t.Target, true)
	if err != nil {
		return err
	}
	options := "mode=1777"
	if t.Size > 0 {
		options += fmt.Sprintf(",size=%d", t.Size)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if !t.Exec {
		flags |= unix.MS_NOEXEC
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", flags, options); err != nil {
		return fmt.Errorf("mount a tmpfs at %s: %w", t.Target, err)
	}
	if !t.ReadOnly {
		top, err := os.OpenRoot(at)
		if err != nil {
			return fmt.Errorf("open the tmpfs at %s: %w", t.Target, err)
		}
		scratches = append(scratches, scratch{t, top})
	}
	return give(at, t.Owner, t.Group, 0o1777)
}

// seal makes read-only the tmpfs that are to be, when there is room in them for what is mounted there.
func seal(c *Setup) error {
	for _, t := range c.Tmpfs {
		if !t.ReadOnly {
			continue
		}
		at, err := mountPoint(t.Target, true)
		if err != nil {
			return err
		}
		if err := unix.MountSetattr(unix.AT_FDCWD, at, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("make the tmpfs at %s read-only: %w", t.Target, err)
		}
	}
	return nil
}

// mountKernel mounts the file systems that must be the node's own.
func mountKernel() error {
	for _, dir := range []string{"/proc", "/dev/pts"} {
		if err := os.MkdirAll(base+dir, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if err := unix.Mount("proc", base+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc in the node: %w", err)
	}
	// Terminals are a convenience: kernels without devpts exist.
	if unix.Mount("devpts", base+"/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620") == nil {
		if err := os.Symlink("pts/ptmx", base+"/dev/ptmx"); err != nil {
			return fmt.Errorf("link /dev/ptmx: %w", err)
		}
	}
	return nil
}

// enter makes the new root the root and lets the old one go.
func enter() error {
	if err := os.Chdir(base); err != nil {
		return fmt.Errorf("enter the node's root: %w", err)
	}
	err := unix.PivotRoot(".", ".")
	if err == unix.EPERM || err == unix.EINVAL {
		// Docker's seccomp profile forbids pivot_root even to who may mount, and the first root of a machine that
		// runs from its initramfs cannot be pivoted. Covering the old root does it too: to uncover it takes a
		// capability over this namespace, and no program has one.
		return cover()
	}
	if err != nil {
		return fmt.Errorf("pivot to the node's root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the machine's root: %w", err)
	}
	return os.Chdir("/")
}

// cover moves the new root, the current directory, over the old one.
func cover() error {
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the node's root over the machine's: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("enter the node's root: %w", err)
	}
	return os.Chdir("/")
}

// writeFile writes a file of the node's own. Where its directory is not the node's own it is mounted, so that nothing
// is written to a volume or to the machine.
func writeFile(f File) error {
	at, err := mountPoint(f.Path, false)
	if err != nil {
		return err
	}
	own, err := onRoot(at)
	if err != nil {
		return err
	}
	path := at
	if !own {
		if err := os.MkdirAll(base+"/.files", 0o755); err != nil {
			return fmt.Errorf("make room for %s: %w", f.Path, err)
		}
		if path, err = freshName(base + "/.files/"); err != nil {
			return err
		}
	}
	if err := os.WriteFile(path, f.Content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	if err := give(path, f.Owner, f.Group, f.Mode); err != nil {
		return err
	}
	if own {
		return nil
	}
	tree, err := OpenTree(path, true, false)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return attach(tree, at)
}

func freshName(prefix string) (string, error) {
	f, err := os.CreateTemp(prefix, "")
	if err != nil {
		return "", fmt.Errorf("make a file of the node's own: %w", err)
	}
	return f.Name(), f.Close()
}

// onRoot reports whether a path lies on the node's own root.
func onRoot(path string) (bool, error) {
	var root, st unix.Stat_t
	if err := unix.Stat(base, &root); err != nil {
		return false, fmt.Errorf("look at the node's root: %w", err)
	}
	if err := unix.Stat(path, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", inNode(path), err)
	}
	return root.Dev == st.Dev, nil
}

func give(path string, owner, group int, mode uint32) error {
	if err := os.Chown(path, owner, group); err != nil {
		return fmt.Errorf("give %s to %d:%d: %w", inNode(path), owner, group, err)
	}
	if err := unix.Chmod(path, mode); err != nil {
		return fmt.Errorf("set the mode of %s: %w", inNode(path), err)
	}
	return nil
}

func inNode(path string) string {
	if len(path) > len(base) {
		return path[len(base):]
	}
	return "/"
}
