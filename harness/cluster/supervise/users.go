package supervise

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// User is a user of this machine.
type User struct {
	UID, GID   int
	Groups     []int
	Name, Home string
}

// FindUser reads the user of a service: "", "uid", "uid:gid", "name" or "name:group", names being those of this
// machine.
func FindUser(user string) (User, error) {
	name, group, _ := strings.Cut(user, ":")
	u := User{Name: "root", Home: "/root"}
	if name != "" {
		if err := u.lookup(name); err != nil {
			return u, err
		}
	}
	if group != "" {
		gid, err := lookupGroup(group)
		if err != nil {
			return u, err
		}
		u.GID = gid
	}
	return u, nil
}

func (u *User) lookup(name string) error {
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
		u.Name, u.Home = f[0], f[5]
		u.UID, _ = strconv.Atoi(f[2])
		u.GID, _ = strconv.Atoi(f[3])
		u.Groups, err = groupsOf(f[0])
		return err
	case numeric:
		// As in a container: a number without an entry has group 0 and no home.
		u.UID, u.GID, u.Name, u.Home = uid, 0, "user"+name, "/"
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
