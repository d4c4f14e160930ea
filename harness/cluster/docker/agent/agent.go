// Package agent is what runs inside the containers of the plane and of the pods, and the harness's end of the
// connection with it.
//
// Nothing listens on a port for it. The harness is attached to the standard streams of each of these containers, and
// over the two of them runs a yamux session. Its first stream carries calls (package plane's protocol); each further
// one carries one connection that the harness dials from the container's network, or that came to a listener there. So
// an engine on another machine works, and when the harness dies its streams end, and the agents with them, the pods one after the other.
package agent

// The names under which the running executable, as the first word of a container's command and without arguments,
// becomes an agent. They are its paths in the image too.
const (
	PlaneArgv0 = "/gauntlet-plane" // the router between the nodes
	PodArgv0   = "/gauntlet-pod"   // owns a node's network namespace
	IdleArgv0  = "/gauntlet-idle"  // the program of the node that has none: the client's
)

// HandsArgv0 is the name under which the executable signals the processes of another container:
//
//	/gauntlet-hands signal NUMBER [-cmdline TEXT | -env KEY=VALUE] [-skip-init]
//
// It runs as a container of its own in the PID namespace of the other, with HandsCapabilities, and signals every
// process there but itself; or those whose command line contains TEXT; or those whose environment has KEY=VALUE, and
// all their descendants. Process 1 of the namespace is left out with -skip-init, and always for SIGKILL and SIGSTOP:
// the kernel drops them when they come from inside, and the engine's own kill and pause do both. SIGKILL is repeated
// until nothing is left to kill, so that a fork does not escape.
//
// The last line of its standard output is the number of processes that got the signal; its exit status is 0 then, also
// for none, and 1 with the reason on standard error otherwise.
const HandsArgv0 = "/gauntlet-hands"

// HandsCapabilities are what the hands need, all others dropped: KILL for processes of other users, and SYS_PTRACE
// to read their environment.
var HandsCapabilities = []string{"KILL", "SYS_PTRACE"}

// PlaneSysctls are the settings that the engine must make when it creates the plane's container. /proc/sys is read-only
// inside; what belongs to one interface the agent sets by netlink, but not these.
//
// send_redirects counts for "all" or for the interface: one of them alone turns nothing off.
var PlaneSysctls = map[string]string{
	"net.ipv4.ip_forward":                    "1",
	"net.ipv4.conf.all.send_redirects":       "0",
	"net.ipv4.conf.default.send_redirects":   "0",
	"net.ipv4.conf.all.accept_redirects":     "0",
	"net.ipv4.conf.default.accept_redirects": "0",
	"net.ipv4.conf.all.rp_filter":            "1",
	"net.ipv4.conf.default.rp_filter":        "1",
	"net.ipv4.tcp_syncookies":                "0",
	"net.ipv4.tcp_tw_reuse":                  "1",
	"net.ipv4.icmp_ratelimit":                "0",
	"net.core.somaxconn":                     "4096",
}

// PodSysctls are the settings that the engine must make when it creates a pod. ip_forward must never be among them: the
// kernel rewrites accept_redirects with it, and the node would learn a way round the plane.
var PodSysctls = map[string]string{
	"net.ipv4.conf.all.accept_redirects":     "0",
	"net.ipv4.conf.default.accept_redirects": "0",
	"net.ipv4.ip_unprivileged_port_start":    "0", // the program has no capability, but may listen on port 80
	// A generator that opens thousands of connections must not run out of ports: TIME_WAIT lasts 60 s.
	"net.ipv4.ip_local_port_range": "10240 65535",
	"net.ipv4.tcp_tw_reuse":        "1",
}

// PlaneCapabilities and PodCapabilities are what the containers need, all others dropped. NET_RAW is for the packets
// that provoke resets.
var (
	PlaneCapabilities = []string{"NET_ADMIN", "NET_RAW"}
	PodCapabilities   = []string{"NET_ADMIN"}
)
