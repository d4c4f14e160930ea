// Package program is the protocol between Gauntlet and a workload that is a program, and what a program in Go needs
// to speak it. PROTOCOL.md in the folder above describes it for any language.
//
// A program implements Client and calls Serve:
//
//	func main() {
//		if err := program.Serve(context.Background(), os.Stdin, os.Stdout, &myClient{}); err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		}
//	}
//
// The package depends on nothing but the standard library.
package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version is the version of the protocol.
const Version = 1

// MaxLine is the most bytes that a line may have, without its end.
const MaxLine = 1 << 20

// Types of messages. Start, Verify and Stop go to the program; Hello, Op, Done and Error come from it.
const (
	TypeHello  = "hello"
	TypeStart  = "start"
	TypeStop   = "stop"
	TypeVerify = "verify"
	TypeOp     = "op"
	TypeDone   = "done"
	TypeError  = "error"
)

// Command is a message to the program.
type Command struct {
	Type string `json:"type"`

	// Of start.
	Version int    `json:"version,omitempty"`
	Name    string `json:"name,omitempty"`    // the workload's, in the scenario
	Run     string `json:"run,omitempty"`     // unique among runs and rounds: good for making values unique
	Round   int    `json:"round,omitempty"`   // from 1
	Seed    uint64 `json:"seed,omitempty"`    // draw from this and from nothing else, and runs can be repeated
	To      string `json:"to,omitempty"`      // the service, group or node the scenario named; may be empty
	Timeout int64  `json:"timeout,omitempty"` // of one operation, nanoseconds
	Nodes   []Node `json:"nodes,omitempty"`   // the whole topology

	// Of verify: the nodes of To that run now, all nodes that run when To is empty.
	Members []string `json:"members,omitempty"`
}

// Node is a node of the topology.
type Node struct {
	Name    string `json:"name"`
	Service string `json:"service"`
	Group   string `json:"group,omitempty"`
	Zone    string `json:"zone,omitempty"`
	Address string `json:"address,omitempty"` // IP; the name resolves to it
	Port    int    `json:"port,omitempty"`    // the first that its service exposes
}

// Message is a message of the program. The fields from Client on belong to op.
type Message struct {
	Type    string `json:"type"`
	Version int    `json:"version,omitempty"` // of hello
	Error   string `json:"error,omitempty"`   // of error: why the program cannot go on; of op: why it was not ok

	Client  int    `json:"client"`
	Op      string `json:"op,omitempty"`
	Key     string `json:"key,omitempty"`
	Value   string `json:"value,omitempty"`
	Old     string `json:"old,omitempty"`
	Found   *bool  `json:"found,omitempty"`
	Count   int    `json:"count,omitempty"`
	Member  string `json:"member,omitempty"`
	Call    int64  `json:"call,omitempty"` // Unix time, nanoseconds
	Return  int64  `json:"return,omitempty"`
	Outcome string `json:"outcome,omitempty"`
}

// Kinds of operations. Read belongs to verify and to nothing else.
const (
	Put    = "put"
	Get    = "get"
	CAS    = "cas"
	Insert = "insert"
	Read   = "read"
)

// Outcomes of operations.
const (
	OK      = "ok"
	Failed  = "failed"  // it certainly had no effect
	Unknown = "unknown" // it may have had one, or may still have
)

// Parse reads a line of the program and checks what can be checked without knowing when it came.
func Parse(line []byte) (Message, error) {
	var m Message
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		if errors.Is(err, io.EOF) {
			return m, errors.New("the line is empty")
		}
		return m, fmt.Errorf("no JSON object of the protocol: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, errors.New("more than one JSON object on the line")
	}
	switch m.Type {
	case TypeHello:
		if m.Version != Version {
			return m, fmt.Errorf("the program speaks version %d of the protocol; this is version %d", m.Version, Version)
		}
	case TypeDone, TypeError:
	case TypeOp:
		return m, m.checkOp()
	case "":
		return m, errors.New(`there is no "type"`)
	default:
		return m, fmt.Errorf("no message is of type %q; there are hello, op, done and error", m.Type)
	}
	return m, nil
}

func (m Message) checkOp() error {
	switch m.Op {
	case Put, Get, CAS, Insert, Read:
	default:
		return fmt.Errorf("no operation is called %q; there are put, get, cas, insert and read", m.Op)
	}
	switch m.Outcome {
	case OK, Failed:
	case Unknown:
		if m.Op == Get || m.Op == Read {
			return fmt.Errorf("the outcome of a %s is ok or failed: it changes nothing", m.Op)
		}
	default:
		return fmt.Errorf("no outcome is called %q; there are ok, failed and unknown", m.Outcome)
	}
	if m.Key == "" {
		return errors.New(`an operation needs a "key"`)
	}
	if (m.Op == Get || m.Op == Read) && m.Outcome == OK && m.Found == nil {
		return fmt.Errorf(`a %s that is ok needs "found": true with a value, or false`, m.Op)
	}
	if m.Call <= 0 || m.Return < m.Call {
		return fmt.Errorf(`"call" (%d) and "return" (%d) are Unix times in nanoseconds, and the first is not the later one`, m.Call, m.Return)
	}
	if m.Client < 0 || m.Count < 0 {
		return errors.New(`"client" and "count" are not negative`)
	}
	return nil
}

// now is the program's clock, as the harness reads it.
func now() int64 { return time.Now().UnixNano() }
