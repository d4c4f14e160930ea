package sandbox

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// idSpace says which ids of this machine the nodes' ids are mapped to.
type idSpace struct {
	// one: an ordinary user has only its own id to give, which is 0 in the plane.
	one bool
	// base and size: root maps every node's ids from 0 on to subordinate ids, as Docker's userns-remap does. Never to
	// 0: such a program could undo everything. The same for all nodes, so that volumes can be shared and kept.
	base, size int
}

// machineIDs finds the ids that this process can give to nodes.
func machineIDs() (idSpace, error) {
	if os.Geteuid() != 0 {
		return idSpace{one: true}, nil
	}
	s := idSpace{base: 100000, size: 65536}
	if b, err := os.ReadFile("/etc/subuid"); err == nil {
		s = subordinate(b, s)
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return s, fmt.Errorf("read which user ids there are: %w", err)
	}
	return within(s, m)
}

// subordinate looks for root's line in the content of /etc/subuid.
func subordinate(subuid []byte, or idSpace) idSpace {
	for line := range bytes.Lines(subuid) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != 3 || f[0] != "root" && f[0] != "0" {
			continue
		}
		base, err1 := strconv.Atoi(f[1])
		size, err2 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && base > 0 && size >= 65536 {
			return idSpace{base: base, size: 65536}
		}
	}
	return or
}

// within fits the ids into those that exist in this process's own user namespace: inside a container there may be
// fewer.
func within(s idSpace, uidMap []byte) (idSpace, error) {
	best := idSpace{}
	for line := range bytes.Lines(uidMap) {
		var inside, outside, size int
		if _, err := fmt.Sscan(string(line), &inside, &outside, &size); err != nil {
			return s, fmt.Errorf("read the map of user ids: %w", err)
		}
		if inside <= s.base && s.base+s.size <= inside+size {
			return s, nil
		}
		if inside == 0 {
			inside, size = 1, size-1 // never root
		}
		if size > best.size {
			best = idSpace{base: inside, size: min(size, 65536)}
		}
	}
	if best.size < 1 {
		return idSpace{one: true}, nil // such a root is an ordinary user in a user namespace
	}
	return best, nil
}

// identity is who a node's programs are.
type identity struct {
	nodeinit.User
	maps       idMaps
	name, home string
}

// idMaps are the ids of a node's user namespace.
type idMaps struct {
	UID, GID syscall.SysProcIDMap
	Switch   bool // several: programs become their user; else everything is one user
}

// outside returns the id on this machine of an id of the nodes. An ordinary user has no other than its own.
func (s idSpace) outside(id int) int { return s.base + id }

// inside returns the id in a node that things get which are to belong to id: where there is only one, that.
func (id identity) inside(want int) (uid, gid int) {
	if !id.Switch {
		return id.UID, id.GID
	}
	return want, want
}

// identify reads the user of a service: "", "uid", "uid:gid", "name" or "name:group", names being those of this
// machine.
func (s idSpace) identify(user string) (identity, error) {
	name, group, _ := strings.Cut(user, ":")
	id := identity{name: "root", home: "/root"}
	if name != "" {
		if err := id.lookup(name); err != nil {
			return id, err
		}
	}
	if group != "" {
		gid, err := lookupGroup(group)
		if err != nil {
			return id, err
		}
		id.GID = gid
	}
	if s.one {
		// The plane's user 0 is this process's own user.
		id.maps.UID = syscall.SysProcIDMap{ContainerID: id.UID, Size: 1}
		id.maps.GID = syscall.SysProcIDMap{ContainerID: id.GID, Size: 1}
		id.Groups = nil // an ordinary user has no other group to give
		return id, nil
	}
	if id.UID >= s.size || id.GID >= s.size {
		return id, fmt.Errorf("user %q: ids go up to %d here", user, s.size-1)
	}
	id.Switch, id.maps.Switch = true, true
	id.maps.UID = syscall.SysProcIDMap{HostID: s.base, Size: s.size}
	id.maps.GID = id.maps.UID
	return id, nil
}

func (id *identity) lookup(name string) error {
	uid, err := strconv.Atoi(name)
	numeric := err == nil
	if numeric && uid < 0 {
		return fmt.Errorf("user %q: an id is not negative", name)
	}
	f, err := findEntry("/etc/passwd", func(f []string) bool {
		return len(f) >= 6 && (f[0] == name || numeric && f[2] == name)
	})
	switch {
	case err != nil:
		return err
	case f != nil:
		id.name, id.home = f[0], f[5]
		id.UID, _ = strconv.Atoi(f[2])
		id.GID, _ = strconv.Atoi(f[3])
		id.Groups, err = groupsOf(f[0])
		return err
	case numeric:
		// As in a container: a number without an entry has group 0 and no home.
		id.UID, id.GID, id.name, id.home = uid, 0, "user"+name, "/"
		return nil
	}
	return fmt.Errorf("no user is called %q on this machine; write its number", name)
}

func lookupGroup(group string) (int, error) {
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	f, err := findEntry("/etc/group", func(f []string) bool { return len(f) >= 3 && f[0] == group })
	if err != nil {
		return 0, err
	}
	if f == nil {
		return 0, fmt.Errorf("no group is called %q on this machine; write its number", group)
	}
	return strconv.Atoi(f[2])
}

func groupsOf(name string) (gids []int, err error) {
	_, err = findEntry("/etc/group", func(f []string) bool {
		if len(f) >= 4 {
			for _, m := range strings.Split(f[3], ",") {
				if gid, aerr := strconv.Atoi(f[2]); m == name && aerr == nil {
					gids = append(gids, gid)
				}
			}
		}
		return false
	})
	return gids, err
}

// findEntry returns the fields of the first line for which match holds, or nil.
func findEntry(path string, match func([]string) bool) ([]string, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up a user: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Split(s.Text(), ":"); match(fields) {
			return fields, nil
		}
	}
	return nil, nil
}
