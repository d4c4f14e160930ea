// Package nodeinit is the first process of a node of the sandbox: the small init that gives the node its root,
// starts programs without any capability, reaps them, and reports how they really ended.
//
// It is the same executable as the harness, started again under another argv[0]; its hook runs when this package is
// initialised. The package imports next to nothing, so that the hook runs before the rest of a large binary is
// initialised: that costs 10 ms and 4 MB for each start otherwise.
package nodeinit

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// Request is what the harness asks of an init. Exactly one of the pointers is set, or Op alone says it.
type Request struct {
	ID     uint64  `json:"id"`
	Op     Op      `json:"op"`
	Setup  *Setup  `json:"setup,omitempty"`
	Start  *Start  `json:"start,omitempty"`
	Signal *Signal `json:"signal,omitempty"`
}

// Op names a request.
type Op string

// The requests.
const (
	OpSetup  Op = "setup"  // first, once: builds the node's root
	OpStart  Op = "start"  // starts a program; descriptors: standard input if Start.Stdin, output, error
	OpSignal Op = "signal" // sends a signal; Reply.Count says to how many, Reply.Program whether to the main one
	OpKill   Op = "kill"   // SIGKILL to every process of the node; answered when all were reaped
	OpPause  Op = "pause"  // SIGSTOP to every process; answered when all are in state T
	OpResume Op = "resume" // SIGCONT to every process
)

// Reply answers the request of the same ID, or, with ID 0, tells that a program ended.
type Reply struct {
	ID      uint64        `json:"id"`
	Error   string        `json:"error,omitempty"`
	Errno   syscall.Errno `json:"errno,omitempty"`   // the system's part of Error, when it has one
	Pid     int           `json:"pid,omitempty"`     // OpStart: as the node numbers it
	At      int64         `json:"at,omitempty"`      // OpStart: when, CLOCK_MONOTONIC in ns
	Count   int           `json:"count,omitempty"`   // OpSignal
	Program bool          `json:"program,omitempty"` // OpSignal
	Exit    *Exit         `json:"exit,omitempty"`
}

// Exit tells how a program ended.
type Exit struct {
	Proc   uint64         `json:"proc"`
	Code   int            `json:"code"` // -1 when a signal ended it
	Signal syscall.Signal `json:"signal,omitempty"`
	At     int64          `json:"at"` // when it was reaped, CLOCK_MONOTONIC in ns
}

// Setup describes the node's root. Paths of targets, and ids, are those of the node.
type Setup struct {
	Hostname string    `json:"hostname"`
	Owner    int       `json:"owner"` // owns the root, with Group
	Group    int       `json:"group"`
	Links    []Symlink `json:"links,omitempty"`
	Dirs     []Dir     `json:"dirs,omitempty"`
	// Trees says where the trees of the machine go that the init inherited, opened by the plane: descriptors from
	// FirstTree on, in this order. The init could not open them itself: it has no right to look into root's home.
	Trees []string `json:"trees,omitempty"`
	Tmpfs []Tmpfs  `json:"tmpfs,omitempty"`
	Files []File   `json:"files,omitempty"`
	// Cgroups says how programs join the node's cgroups, whose files come as descriptors: the tasks files of version
	// 1 (any number), or, of version 2, the cgroup.procs of the init's own and the directory of the programs'.
	Cgroups CgroupVersion `json:"cgroups,omitempty"`
}

// CgroupVersion is 0 for none, 1 or 2.
type CgroupVersion int

// Symlink is a symbolic link of the root.
type Symlink struct {
	Path string `json:"path"`
	To   string `json:"to"`
}

// Dir is a directory of the root's own.
type Dir struct {
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"`
	Owner int    `json:"owner"`
	Group int    `json:"group"`
}

// Tmpfs is a file system in memory.
type Tmpfs struct {
	Target   string `json:"target"`
	Size     int64  `json:"size,omitempty"` // bytes; 0: the kernel's default
	ReadOnly bool   `json:"readOnly,omitempty"`
	Exec     bool   `json:"exec,omitempty"`
	Owner    int    `json:"owner"`
	Group    int    `json:"group"`
}

// File is a file of the root's own.
type File struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
	Mode    uint32 `json:"mode"`
	Owner   int    `json:"owner"`
	Group   int    `json:"group"`
}

// Start describes a program.
type Start struct {
	Proc uint64   `json:"proc"` // chosen by the harness, unique in the node
	Main bool     `json:"main,omitempty"`
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir"`
	// Stdin tells that the first descriptor is the standard input; else it is /dev/null.
	Stdin bool `json:"stdin,omitempty"`
	User  User `json:"user"`
}

// User is the identity of a program.
type User struct {
	UID    int   `json:"uid"`
	GID    int   `json:"gid"`
	Groups []int `json:"groups,omitempty"`
	// Switch: the node's user namespace has several ids, so the program is to become this user; else the init is it.
	Switch bool `json:"switch,omitempty"`
}

// Signal says which processes of the node get a signal: the main program alone, those whose command line contains
// Match, those of a program started by OpStart and what it started, or, with none of these, all. Match and all leave out
// the programs that were started beside the main one.
type Signal struct {
	Signal syscall.Signal `json:"signal"`
	Main   bool           `json:"main,omitempty"`
	Match  string         `json:"match,omitempty"`
	Proc   uint64         `json:"proc,omitempty"`
}

// Frames: a header of eight bytes (length of the body, number of descriptors), sent with the descriptors in one
// message, then the body. A stream, not packets: the content of a config may be larger than a packet can be.
const (
	headerSize = 8
	maxBody    = 64 << 20
	// MaxDescriptors is the most that one message carries.
	MaxDescriptors = 32
)

// EncodeFrame returns header and body of a message.
func EncodeFrame(v any, fds int) (header, body []byte, err error) {
	if fds > MaxDescriptors {
		return nil, nil, fmt.Errorf("%d descriptors in one message; at most %d can be sent", fds, MaxDescriptors)
	}
	body, err = json.Marshal(v)
	if err != nil {
		return nil, nil, err
	}
	if len(body) > maxBody {
		return nil, nil, fmt.Errorf("a message of %d bytes; at most %d can be sent", len(body), maxBody)
	}
	header = make([]byte, headerSize)
	binary.LittleEndian.PutUint32(header, uint32(len(body)))
	binary.LittleEndian.PutUint32(header[4:], uint32(fds))
	return header, body, nil
}

// DecodeHeader returns the length of the body and the number of descriptors.
func DecodeHeader(h []byte) (body, fds int, err error) {
	if len(h) == 0 {
		return 0, 0, io.EOF
	}
	if len(h) != headerSize {
		return 0, 0, errors.New("a message with a cut header")
	}
	body, fds = int(binary.LittleEndian.Uint32(h)), int(binary.LittleEndian.Uint32(h[4:]))
	if body > maxBody || fds > MaxDescriptors {
		return 0, 0, fmt.Errorf("a message that claims %d bytes and %d descriptors", body, fds)
	}
	return body, fds, nil
}
