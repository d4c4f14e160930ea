package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// Places in a node that are the sandbox's own.
const (
	binDir     = "/gauntlet/bin"     // programs of Options.Bin, first on the PATH
	programDir = "/gauntlet/program" // the node's own program, where it is not one of the system's
	workDir    = "/work"             // working directory of a service that has none: private and writable
	systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// systemDirs are the parts of the machine's tree that every node shows, read-only.
var systemDirs = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "opt", "nix", "gnu", "snap"}

// ownEtc are the entries of /etc that a node has itself or must not have.
var ownEtc = map[string]bool{
	"hosts": true, "resolv.conf": true, "nsswitch.conf": true, "hostname": true, "passwd": true, "group": true,
	"mtab": true, "shadow": true, "shadow-": true, "gshadow": true, "gshadow-": true, "passwd-": true, "group-": true,
	"machine-id": true, "host.conf": true,
}

// bind shows a part of this machine's tree in a node.
type bind struct {
	tree
	target string
}

// hostTree is what nodes show of this machine; read once for a topology.
type hostTree struct {
	binds         []bind
	links         []nodeinit.Symlink
	passwd, group []byte
}

func readHostTree() (*hostTree, error) {
	t := &hostTree{}
	for _, d := range systemDirs {
		if err := t.show("/" + d); err != nil {
			return nil, err
		}
	}
	t.binds = append(t.binds, bind{tree{Source: "/sys", ReadOnly: true}, "/sys"},
		bind{tree{Source: "/etc", ReadOnly: true}, nodeinit.HostEtc})
	if err := t.readEtc(); err != nil {
		return nil, err
	}
	for _, d := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if _, err := os.Stat("/dev/" + d); err == nil {
			t.binds = append(t.binds, bind{tree{Source: "/dev/" + d, Device: true}, "/dev/" + d})
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		t.links = append(t.links, nodeinit.Symlink{Path: "/dev/" + name, To: to})
	}
	return t, nil
}

// show adds a directory of the machine, or the link that stands for it (/bin is one on many systems).
func (t *hostTree) show(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", path, err)
	case st.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		t.links = append(t.links, nodeinit.Symlink{Path: path, To: to})
	case st.IsDir():
		t.binds = append(t.binds, bind{tree{Source: path, ReadOnly: true}, path})
	}
	return nil
}

// readEtc gives a node an /etc of its own with a link to each entry of the machine's: two hundred links cost less than
// two hundred mounts. Links among the entries are copied, so that they are the same from the node's /etc.
func (t *hostTree) readEtc() error {
	entries, err := os.ReadDir("/etc")
	if err != nil {
		return fmt.Errorf("read /etc: %w", err)
	}
	for _, e := range entries {
		if ownEtc[e.Name()] {
			continue
		}
		to := nodeinit.HostEtc + "/" + e.Name()
		if e.Type()&fs.ModeSymlink != 0 {
			if to, err = os.Readlink("/etc/" + e.Name()); err != nil {
				return fmt.Errorf("read /etc: %w", err)
			}
		}
		t.links = append(t.links, nodeinit.Symlink{Path: "/etc/" + e.Name(), To: to})
	}
	for name, into := range map[string]*[]byte{"passwd": &t.passwd, "group": &t.group} {
		if *into, err = os.ReadFile("/etc/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read /etc/%s: %w", name, err)
		}
	}
	return nil
}

// rootPlan is what a node's root is made of.
type rootPlan struct {
	tree    *hostTree
	ids     idSpace
	user    identity
	service *cluster.Service // nil: the client
	bin     map[string]string
	volumes string
	host    string // host name
	addr    netip.Addr
	copies  *copies

	setup nodeinit.Setup
	trees []tree
}

// program returns where the node finds the service's executable. The machine's system directories are where they
// always are; any other file, perhaps below a home that only root may enter, is shown at a fixed place.
func program(argv0 string) string {
	for _, d := range systemDirs {
		if strings.HasPrefix(argv0, "/"+d+"/") {
			return argv0
		}
	}
	return programDir + "/" + filepath.Base(argv0)
}

// show adds a part of this machine's tree.
func (p *rootPlan) show(b bind) {
	p.trees = append(p.trees, b.tree)
	p.setup.Trees = append(p.setup.Trees, b.target)
}

// make fills in what the node's init is told, and the trees that the plane opens for it.
func (p *rootPlan) make() error {
	owner, group := p.user.inside(0)
	s := &p.setup
	s.Hostname, s.Owner, s.Group = p.host, owner, group
	for _, d := range []string{"/etc", "/dev", "/var/lib", "/var/log", "/var/cache", "/home", "/srv", "/run/lock", "/mnt", "/media"} {
		s.Dirs = append(s.Dirs, nodeinit.Dir{Path: d, Mode: 0o755, Owner: owner, Group: group})
	}
	// /run is root's on a host, but a program that is not root from its start has nowhere else to put its socket.
	for _, d := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run"} {
		s.Dirs = append(s.Dirs, nodeinit.Dir{Path: d, Mode: 0o1777, Owner: owner, Group: group})
	}
	for _, d := range []string{"/root", p.user.home, workDir, p.workDir()} {
		if d != "/" && d != "" && !inSystem(d) {
			s.Dirs = append(s.Dirs, p.own(d, 0o755))
		}
	}
	s.Links = append(s.Links, p.tree.links...)
	s.Links = append(s.Links, nodeinit.Symlink{Path: "/var/run", To: "/run"}, nodeinit.Symlink{Path: "/etc/mtab", To: "/proc/self/mounts"})
	for _, b := range p.tree.binds {
		p.show(b)
	}
	s.Files = p.etcFiles()
	if err := p.programs(); err != nil {
		return err
	}
	if p.service == nil {
		return nil
	}
	return p.mounts()
}

func inSystem(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	for _, d := range append([]string{"proc", "sys", "dev", "etc"}, systemDirs...) {
		if d == first {
			return true
		}
	}
	return false
}

func (p *rootPlan) own(dir string, mode uint32) nodeinit.Dir {
	return nodeinit.Dir{Path: dir, Mode: mode, Owner: p.user.UID, Group: p.user.GID}
}

func (p *rootPlan) workDir() string {
	if p.service != nil && p.service.Dir != "" {
		return p.service.Dir
	}
	return workDir
}

// programs shows the executables of Options.Bin and the service's own.
func (p *rootPlan) programs() error {
	add := func(source, target string) error {
		source, err := p.executable(source)
		if err != nil {
			return err
		}
		p.show(bind{tree{Source: source, ReadOnly: true}, target})
		return nil
	}
	names := make([]string, 0, len(p.bin))
	for name := range p.bin {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := add(p.bin[name], binDir+"/"+name); err != nil {
			return fmt.Errorf("program %s: %w", name, err)
		}
	}
	if p.service == nil {
		return nil
	}
	if at := program(p.service.Argv0); at != p.service.Argv0 {
		if err := add(p.service.Argv0, at); err != nil {
			return fmt.Errorf("service %s: %w", p.service.Name, err)
		}
	}
	return nil
}

// executable returns a file that the node's user can execute: the program itself, or, where root's umask made it
// root's alone, a copy.
func (p *rootPlan) executable(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st.IsDir() {
		return "", fmt.Errorf("%s is a directory, not a program", path)
	}
	if st.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s is not executable (mode %v); chmod +x it", path, st.Mode().Perm())
	}
	if p.ids.one || st.Mode()&0o005 == 0o005 {
		return path, nil
	}
	return p.copies.of(path)
}

// copies are executables that programs of every user can run; made once for a topology, in the run's directory.
type copies struct {
	dir  string
	mu   sync.Mutex
	made map[string]string
}

func (c *copies) of(path string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.made[path]; ok {
		return at, nil
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	from, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	defer from.Close()
	to, err := os.CreateTemp(c.dir, filepath.Base(path)+"-")
	if err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Chmod(0o755), to.Close()); err != nil {
		return "", fmt.Errorf("copy %s: %w", path, err)
	}
	if c.made == nil {
		c.made = map[string]string{}
	}
	c.made[path] = to.Name()
	return to.Name(), nil
}

// mounts adds the service's volumes, configs and secrets.
func (p *rootPlan) mounts() error {
	s := &p.setup
	for _, m := range p.service.Volumes {
		if !filepath.IsAbs(m.Target) {
			return fmt.Errorf("service %s: volume target %q is not absolute", p.service.Name, m.Target)
		}
		switch m.Kind {
		case "tmpfs":
			d := p.own(m.Target, 0)
			s.Tmpfs = append(s.Tmpfs, nodeinit.Tmpfs{Target: m.Target, Size: m.Size, ReadOnly: m.ReadOnly, Exec: m.Exec, Owner: d.Owner, Group: d.Group})
			continue
		case "volume":
			source := filepath.Join(p.volumes, m.Source)
			if err := p.ownVolume(source); err != nil {
				return fmt.Errorf("service %s: volume %s: %w", p.service.Name, m.Source, err)
			}
			p.show(bind{tree{Source: source, ReadOnly: m.ReadOnly}, m.Target})
		case "bind":
			if err := p.ownBind(m); err != nil {
				return fmt.Errorf("service %s: bind of %s: %w", p.service.Name, m.Source, err)
			}
			p.show(bind{tree{Source: m.Source, ReadOnly: m.ReadOnly}, m.Target})
		default:
			return fmt.Errorf("service %s: a mount of kind %q; one of volume, bind, tmpfs", p.service.Name, m.Kind)
		}
	}
	for _, f := range p.service.Files {
		mode := f.Mode
		if mode == 0 {
			mode = 0o444
		}
		s.Files = append(s.Files, nodeinit.File{Path: f.Target, Content: f.Content, Mode: mode,
			Owner: p.user.UID, Group: p.user.GID})
	}
	return nil
}

// ownVolume makes a named volume that the service's user can write to. Root gives what is still root's to the user's
// mapped id; an ordinary user's files are the program's own already.
func (p *rootPlan) ownVolume(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return p.giveTree(dir)
}

// ownBind does the same for what is root's in a directory that the service writes to. What belongs to others stays theirs: it is the
// user's own tree. What the machine itself lives by is not given away.
func (p *rootPlan) ownBind(m cluster.Mount) error {
	source, err := filepath.EvalSymlinks(m.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; make it first", err)
	}
	if err != nil {
		return err
	}
	if m.ReadOnly || p.ids.one {
		return nil
	}
	st, err := os.Lstat(source)
	if err != nil {
		return err
	}
	if err := ofMachine(source, st); err != nil {
		return err
	}
	return p.giveTree(source)
}

// machineDirs are what a machine lives by, beside its root.
var machineDirs = []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/boot", "/dev", "/proc", "/sys", "/run"}

// ofMachine says why the source of a bind, in which no link is left, cannot be given to a service's user.
func ofMachine(source string, st fs.FileInfo) error {
	inside := func(dir string) bool { return source == dir || strings.HasPrefix(source, dir+"/") }
	switch {
	case ownerOf(st) != 0:
		return nil // it stays whose it is
	case source == "/":
		return errors.New("the sandbox does not give the root of this machine to a service: bind it read-only")
	case st.Mode()&fs.ModeSocket != 0:
		return errors.New("the sandbox does not give root's socket to a service: bind it read-only, or let it belong to another user")
	case !givable(st.Mode()):
		return errors.New("the sandbox does not give root's device to a service: bind it read-only, or let it belong to another user")
	case slices.ContainsFunc(machineDirs, inside):
		return fmt.Errorf("the sandbox does not give root's %s, of this machine's system, to a service: bind it read-only, or a copy that is elsewhere", source)
	}
	return nil
}

// givable reports whether a file of this kind is its tree's alone. Sockets and devices are those of a program or a driver of this machine.
func givable(m fs.FileMode) bool { return m&(fs.ModeSocket|fs.ModeDevice) == 0 }

// giveTree gives what is root's in a tree to the service's user, with each start of a topology: files may have come since the last, and
// a walk that was cut off is gone through again.
func (p *rootPlan) giveTree(top string) error {
	if p.ids.one {
		return nil
	}
	uid, gid := p.ids.outside(p.user.UID), p.ids.outside(p.user.GID)
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != top {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if ownerOf(info) != 0 || !givable(info.Mode()) {
			return nil
		}
		return os.Lchown(path, uid, gid)
	})
}

// etcFiles are the entries of /etc that are the node's own.
func (p *rootPlan) etcFiles() []nodeinit.File {
	owner, group0 := p.user.inside(0)
	file := func(path, content string) nodeinit.File {
		return nodeinit.File{Path: path, Content: []byte(content), Mode: 0o644, Owner: owner, Group: group0}
	}
	passwd, group := string(p.tree.passwd), string(p.tree.group)
	if !hasID(passwd, p.user.UID) {
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", p.user.name, p.user.UID, p.user.GID, p.user.home)
	}
	if !hasID(group, p.user.GID) {
		group += fmt.Sprintf("group%d:x:%d:\n", p.user.GID, p.user.GID)
	}
	return []nodeinit.File{
		// Its own name, by the address that the others see; theirs are left to the name server.
		file("/etc/hosts", fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", p.addr, p.host)),
		// No search list and ndots:0: one question for each name, asked as it is.
		file("/etc/resolv.conf", fmt.Sprintf("nameserver %s\noptions ndots:0 timeout:2\n", planeAddr)),
		file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
		file("/etc/hostname", p.host+"\n"),
		file("/etc/passwd", passwd),
		file("/etc/group", group),
	}
}

// hasID reports whether a passwd or group file has an entry with an id.
func hasID(content string, id int) bool {
	for line := range strings.Lines(content) {
		if f := strings.Split(line, ":"); len(f) > 2 && strings.TrimSpace(f[2]) == fmt.Sprint(id) {
			return true
		}
	}
	return false
}
