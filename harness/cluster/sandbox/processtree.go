package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// processTree returns the descendants of a process, itself first, as this machine numbers them.
func processTree(root int) []int {
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children(tree[i])...) // none when it ended
	}
	return tree
}

// inNamespaceAs returns the number that a process has in the namespace one level below this machine's, the plane's.
func inNamespaceAs(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			// From the namespace of /proc inwards; counted from the inner end, for the harness may itself be in one.
			if f := strings.Fields(rest); len(f) >= 2 {
				n, _ := strconv.Atoi(f[len(f)-2])
				return n
			}
		}
	}
	return 0
}

// Pids implements supervise.Place.
func (n *place) Pids() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	host := n.hostInit
	if host == 0 {
		for _, pid := range children(n.c.plane.pid) {
			if inNamespaceAs(pid) == n.initPid {
				host = pid
			}
		}
		n.hostInit = host
	}
	if host == 0 {
		return nil
	}
	return processTree(host)[1:]
}

// children returns the direct children of a process.
func children(pid int) (pids []int) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(b)) {
			if p, err := strconv.Atoi(f); err == nil {
				pids = append(pids, p)
			}
		}
	}
	return pids
}
