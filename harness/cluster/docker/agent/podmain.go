package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster/plane"
)

// runPod is the process of a pod: it holds the node's network namespace, so that the address survives the program and a
// connection to a killed one is refused, as on a real host.
func runPod() error {
	var wait atomic.Int64
	hs := podHandlers("/etc", func(s PodSetup) { wait.Store(int64(lingers(s))) })
	return serveHarness(hs, func() time.Duration { return time.Duration(wait.Load()) })
}

// turns is how long after one pod the next ends when the harness is gone: a few times what an engine takes to let one leave its network.
const turns = 150 * time.Millisecond

// lingers is how long a pod stays when its harness is gone. All pods see it at the same moment, and some engines lose count of a network
// that several leave at once: such a network cannot be removed any more (see the engine's removeContainer). Addresses count from the plane's.
func lingers(s PodSetup) time.Duration {
	last := func(a netip.Addr) uint16 {
		b := a.As4()
		return binary.BigEndian.Uint16(b[2:])
	}
	return time.Duration(last(s.Addr)-last(s.Plane)) * turns
}

// podHandlers returns the handlers of a pod whose files are in the directory etc. It tells what it was set up with.
func podHandlers(etc string, isSet func(PodSetup)) map[string]plane.Handler {
	return map[string]plane.Handler{
		methodPod: plane.Method(func(_ context.Context, s PodSetup) (any, error) {
			err := setUpPod(etc, s)
			if err == nil {
				isSet(s)
			}
			return nil, err
		}),
		methodSockets: plane.Method(func(_ context.Context, b socketsBody) (any, error) {
			return plane.LiveSockets(b.Addr, b.Peers)
		}),
	}
}

func setUpPod(etc string, s PodSetup) error {
	if len(s.Names) == 0 {
		return fmt.Errorf("the pod at %v has no name", s.Addr)
	}
	l, err := linkOf(s.Addr)
	if err != nil {
		return err
	}
	if err := noIPv6(l); err != nil {
		return err
	}
	if err := plane.IgnoreRedirects(l.Attrs().Name); err != nil { // with "all" of PodSysctls
		return err
	}
	if err := routeBy(l, s.Plane); err != nil {
		return err
	}
	if err := guard(l.Attrs().Name, s.Plane); err != nil {
		return err
	}
	// In place, as the engine mounts the two files into the program's container too, and at each start, as it writes
	// them anew at each. Its own name server would take 10 s to say that a name is unknown. No search list and ndots:0:
	// one question for each name, asked as it is.
	files := map[string]string{
		"resolv.conf": fmt.Sprintf("nameserver %v\noptions ndots:0 timeout:2\n", s.Plane),
		"hosts":       fmt.Sprintf("127.0.0.1 localhost\n%v %s\n", s.Addr, strings.Join(s.Names, " ")),
	}
	for name, content := range files {
		if err := os.WriteFile(etc+"/"+name, []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the node's %s: %w", name, err)
		}
	}
	return nil
}
