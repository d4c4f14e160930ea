package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hasvc/gauntlet/harness/cluster"
	"github.com/hasvc/gauntlet/harness/cluster/sandbox/nodeinit"
)

// Stage is a step of the start of a topology, as Doctor tried it.
type Stage struct {
	Name   string
	Doc    string // what it needs
	Err    error  // nil: it works
	Remedy string // what to do about Err
}

// stages of the start, in order. What fails first names the cause; nothing after it was tried.
var stages = []Stage{
	{Name: "files", Doc: "a directory for temporary files"},
	{Name: "clone", Doc: "a process in new namespaces"},
	{Name: "mounts", Doc: "mounts of its own"},
	{Name: "proc", Doc: "a /proc of its own"},
	{Name: "network", Doc: "a network of its own"},
	{Name: "rules", Doc: "packet rules (nft), delays (nfqueue), the link core (tproxy), names"},
	{Name: "netns", Doc: "a network namespace for each node"},
	{Name: "veth", Doc: "a link for each node"},
	{Name: "init", Doc: "a nested user namespace for each node"},
	{Name: "root", Doc: "a root of its own for each node"},
	{Name: "program", Doc: "a program in a node"},
	{Name: "dial", Doc: "a connection into a node"},
	{Name: "drop", Doc: "a packet rule that bites"},
	{Name: "delay", Doc: "a packet delay that bites"},
}

// errNotTried is the error of what comes after the first failure.
var errNotTried = errors.New("not tried")

// Doctor tries the start of a topology stage by stage and names the first that fails, with the remedy.
func Doctor(ctx context.Context) []Stage {
	report := append([]Stage(nil), stages...)
	failed, err := try(ctx)
	for i := range report {
		switch {
		case err == nil:
		case report[i].Name == failed:
			report[i].Err, report[i].Remedy = err, remedy(failed, err)
			for j := i + 1; j < len(report); j++ {
				report[j].Err = errNotTried
			}
			return report
		}
	}
	return report
}

// doctorPrefix begins the names of the doctor's directories: see ownName.
const doctorPrefix = "gauntlet-doctor-"

// try starts a node, talks to it and breaks a link, and returns the stage that failed.
func try(ctx context.Context) (stage string, err error) {
	name, err := ownName(doctorPrefix)
	if err != nil {
		return "files", err
	}
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return "files", fmt.Errorf("make a directory for the logs: %w", err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return "files", fmt.Errorf("find this executable: %w", err)
	}
	spec := &cluster.Spec{Name: "doctor", Services: []cluster.Service{{
		Name: "patient", Argv0: self, Command: []string{nodeinit.PatientArg}, StopSignal: "SIGKILL",
	}}}
	c, err := Driver{}.Up(ctx, spec, cluster.Options{Dir: dir})
	if err != nil {
		return stageAmong(err), err
	}
	defer func() {
		if left, downErr := c.Down(context.WithoutCancel(ctx)); err == nil && (downErr != nil || len(left) > 0) {
			stage, err = "program", errors.Join(downErr, fmt.Errorf("left behind: %v", left))
		}
	}()
	l, err := c.Listen(ctx, "patient")
	if err != nil {
		return "dial", err
	}
	defer l.Close()
	if _, err := roundTrip(ctx, c, l.Addr().String(), time.Second); err != nil {
		return "dial", err
	}
	return tryRules(ctx, c, l.Addr().String())
}

// tryRules puts rules on a link and looks for their effect.
func tryRules(ctx context.Context, c cluster.Cluster, addr string) (string, error) {
	links := []cluster.Link{{From: cluster.Client, To: "patient"}}
	id, err := c.Apply(ctx, links, cluster.Rule{Drop: true})
	if err != nil {
		return "drop", err
	}
	if _, err := roundTrip(ctx, c, addr, 30*time.Millisecond); err == nil {
		return "drop", errors.New("a connection passed a link on which everything is dropped")
	}
	if err := c.Remove(ctx, id); err != nil {
		return "drop", err
	}
	const hold = 30 * time.Millisecond
	if _, err := c.Apply(ctx, links, cluster.Rule{Delay: &cluster.Delay{Time: hold}}); err != nil {
		return "delay", err
	}
	took, err := roundTrip(ctx, c, addr, 2*time.Second)
	if err == nil && took < hold {
		err = fmt.Errorf("a connection took %v over a link that delays by %v", took, hold)
	}
	if err != nil {
		return "delay", err
	}
	return "", nil
}

// roundTrip times a connection.
func roundTrip(ctx context.Context, c cluster.Cluster, addr string, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	conn, err := c.Dial(ctx, cluster.Client, "tcp", addr)
	if err != nil {
		return 0, err
	}
	return time.Since(began), errors.Join(conn.Close())
}

// stageAmong finds the mark of the stage in an error of Up.
func stageAmong(err error) string {
	s := stageOf(err)
	for _, known := range stages {
		if known.Name == s {
			return s
		}
	}
	if strings.Contains(err.Error(), "its root") {
		return "root"
	}
	return "program"
}

// remedy says what to do.
func remedy(stage string, err error) string {
	container := inContainer()
	switch {
	case stage == "files":
		return "set TMPDIR to a directory that can be written to"
	case errors.Is(err, syscall.ENOSPC) && stage == "netns":
		return "raise user.max_net_namespaces: sysctl -w user.max_net_namespaces=10000"
	case errors.Is(err, syscall.ENOSPC):
		return "raise user.max_user_namespaces: sysctl -w user.max_user_namespaces=10000"
	case container && stage == "clone" && errors.Is(err, syscall.EPERM):
		return "the container's seccomp profile forbids namespaces: docker run --security-opt seccomp=unconfined " +
			"--security-opt systempaths=unconfined, as an ordinary user; or --cap-add SYS_ADMIN --cap-add NET_ADMIN as root"
	case container && (stage == "proc" || stage == "root") && errors.Is(err, syscall.EPERM):
		return "parts of the container's /proc are masked: docker run --security-opt systempaths=unconfined"
	case stage == "clone" && errors.Is(err, syscall.EPERM):
		return "allow unprivileged user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 (Debian), or run as root"
	case (stage == "mounts" || stage == "proc") && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES)):
		return "AppArmor restricts user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), or run as root"
	case stage == "rules":
		return "the kernel needs nf_tables, nfnetlink_queue and TPROXY: modprobe nf_tables nfnetlink_queue nft_tproxy, as root"
	case stage == "veth":
		return "the kernel needs veth: modprobe veth, as root"
	case errors.Is(err, syscall.ENOSYS):
		return "the kernel is older than 5.12, or a seccomp profile forbids open_tree, move_mount or mount_setattr"
	}
	return "run as root, or see the error"
}

// inContainer reports whether this process seems to be in a container.
func inContainer() bool {
	for _, f := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(f); err == nil {
			return true
		}
	}
	return os.Getenv("container") != "" || isContainerEnviron()
}

// isContainerEnviron looks at what process 1 was told.
func isContainerEnviron() bool {
	f, err := os.Open("/proc/1/environ")
	if err != nil {
		return false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return err == nil && strings.Contains("\x00"+string(b), "\x00container=")
}
