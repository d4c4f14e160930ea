package program

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Start is what a Client is told before it begins: a Command of type start.
type Start = Command

// Client does the operations of a workload.
type Client interface {
	// Work does operations and reports each to h, until ctx ends; then it finishes what it has begun and returns. It
	// may use several goroutines, and owns them.
	Work(ctx context.Context, s Start, h *History) error
	// Verify reads back what Work wrote, from each of members where it can, and reports each answer with h.Read.
	Verify(ctx context.Context, s Start, members []string, h *History) error
}

// History reports operations. Its methods may be called from several goroutines.
type History struct {
	mu  sync.Mutex
	out *bufio.Writer
	err error
}

// Result is how an operation ended.
type Result struct {
	Outcome string // OK, Failed, Unknown
	Value   string // of get and read: what was answered
	Found   bool   // of get and read: whether there was a value
	Count   int    // of read: how often the value is there, where it can be more than once
	Err     error  // why it was not ok
}

// Do times an operation and reports it. client numbers who does it, op is Put, Get, CAS or Insert, value what is
// written, old what a CAS expects.
func (h *History) Do(client int, op, key, value, old string, f func() Result) Result {
	m := Message{Type: TypeOp, Client: client, Op: op, Key: key, Value: value, Old: old}
	return h.do(m, f)
}

// Read times a read of Verify and reports it. member is the node that was asked, or empty for the service as a whole.
func (h *History) Read(member, key string, f func() Result) Result {
	return h.do(Message{Type: TypeOp, Op: Read, Key: key, Member: member}, f)
}

// ReadAt reports a read that was made between two moments, such as one of many keys that were read together.
func (h *History) ReadAt(member, key string, call, ret time.Time, r Result) {
	m := Message{Type: TypeOp, Op: Read, Key: key, Member: member, Call: call.UnixNano()}
	m.Return = max(ret.UnixNano(), m.Call)
	h.report(m, r)
}

func (h *History) do(m Message, f func() Result) Result {
	m.Call = now()
	r := f()
	m.Return = max(now(), m.Call) // a wall clock may be set back
	h.report(m, r)
	return r
}

func (h *History) report(m Message, r Result) {
	m.Outcome, m.Count = r.Outcome, r.Count
	if m.Op == Get || m.Op == Read {
		m.Value = r.Value
		if r.Outcome == OK {
			m.Found = &r.Found
		}
	}
	if r.Err != nil {
		m.Error = r.Err.Error()
	}
	h.send(m)
}

func (h *History) send(m Message) {
	b, err := json.Marshal(m)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return
	}
	if err == nil {
		_, err = h.out.Write(append(b, '\n'))
	}
	if err == nil {
		err = h.out.Flush()
	}
	h.err = err
}

// Serve speaks the protocol for c until the harness closes in. Its error is that of c, of a broken pipe, or of a
// command that it does not know.
func Serve(ctx context.Context, in io.Reader, out io.Writer, c Client) error {
	h := &History{out: bufio.NewWriter(out)}
	err := serve(ctx, in, h, c)
	if err != nil {
		h.send(Message{Type: TypeError, Error: err.Error()})
	}
	return errors.Join(err, h.err)
}

func serve(ctx context.Context, in io.Reader, h *History, c Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h.send(Message{Type: TypeHello, Version: Version})
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, MaxLine)
	var start Start
	var work *job
	defer func() { _ = work.end() }() // in has ended, and the harness with it: nobody is left to tell
	for lines.Scan() {
		var m Command
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		switch m.Type {
		case TypeStart:
			if m.Version != Version {
				return fmt.Errorf("the harness speaks version %d of the protocol; this program version %d", m.Version, Version)
			}
			if work != nil {
				return errors.New("a second start before the stop")
			}
			start = m
			work = begin(ctx, c, start, h)
		case TypeStop:
			err := work.end()
			if work = nil; err != nil {
				return fmt.Errorf("working: %w", err)
			}
			h.send(Message{Type: TypeDone})
		case TypeVerify:
			if err := c.Verify(ctx, start, m.Members, h); err != nil {
				return fmt.Errorf("verifying: %w", err)
			}
			h.send(Message{Type: TypeDone})
		default:
			return fmt.Errorf("no command is of type %q", m.Type)
		}
	}
	return lines.Err()
}

// job is a Work that runs.
type job struct {
	stop   context.CancelFunc
	worked chan error
}

func begin(ctx context.Context, c Client, s Start, h *History) *job {
	ctx, stop := context.WithCancel(ctx)
	j := &job{stop, make(chan error, 1)}
	go func() {
		err := c.Work(ctx, s, h)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // it was told to stop
		}
		if err != nil {
			h.send(Message{Type: TypeError, Error: err.Error()}) // now, and not when the harness asks
		}
		j.worked <- err
	}()
	return j
}

// end stops the work, waits for it and returns its error; of no job it is nil.
func (j *job) end() error {
	if j == nil {
		return nil
	}
	j.stop()
	return <-j.worked
}
