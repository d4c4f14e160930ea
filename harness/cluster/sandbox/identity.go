package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
	"github.com/hasvc/gauntlet/harness/cluster/supervise"
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

// init returns the id on this machine of the nodes' inits.
func (s idSpace) init() int {
	if s.one {
		return os.Geteuid()
	}
	return s.outside(0)
}

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
	u, err := supervise.FindUser(user)
	if err != nil {
		return identity{}, err
	}
	id := identity{User: nodeinit.User{UID: u.UID, GID: u.GID, Groups: u.Groups}, name: u.Name, home: u.Home}
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
