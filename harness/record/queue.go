package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// queue holds rows until the Writer's goroutine encodes them: adding a row is an append under a lock of its own.
type queue[T any] struct {
	w    *Writer
	path string // in the run directory
	sink sink[T]

	mu      sync.Mutex
	pending []T
	closed  bool

	spare   []T // of the flush before; used by flush alone
	written atomic.Int64
}

// sink encodes rows to files. Its methods are called by one goroutine at a time.
type sink[T any] interface {
	write(rows []T) error
	close() error
}

func newQueue[T any](w *Writer, path string, s sink[T]) *queue[T] {
	return &queue[T]{w: w, path: path, sink: s}
}

func (q *queue[T]) add(row T) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		q.w.keep(fmt.Errorf("a row of %s came after the record was closed", q.path))
		return
	}
	q.pending = append(q.pending, row)
	full := len(q.pending) == maxPending
	q.mu.Unlock()
	if full {
		select {
		case q.w.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

func (q *queue[T]) flush() error {
	q.mu.Lock()
	rows := q.pending
	q.pending = q.spare
	q.mu.Unlock()
	q.spare = nil
	if len(rows) == 0 {
		q.spare = rows
		return nil
	}
	err := q.sink.write(rows)
	if err == nil {
		q.written.Add(int64(len(rows)))
	}
	clear(rows) // the strings of what was written must not stay alive
	q.spare = rows[:0]
	return err
}

func (q *queue[T]) close() error {
	q.mu.Lock()
	q.closed = true
	left := len(q.pending)
	q.mu.Unlock()
	if left > 0 {
		return fmt.Errorf("%d rows of %s came while the record was being closed", left, q.path)
	}
	return q.sink.close()
}

func (q *queue[T]) name() string { return q.path }
func (q *queue[T]) rows() int    { return int(q.written.Load()) }

// appendFile appends whole blocks: one that could not be written entirely is cut off again, so that what a full disk
// leaves can be read.
type appendFile struct {
	f   *os.File
	end int64
}

func createAppend(path string) (*appendFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &appendFile{f: f}, nil
}

func (a *appendFile) append(b []byte) error {
	n, err := a.f.WriteAt(b, a.end)
	if err != nil {
		if n > 0 {
			// The torn block stays when this fails too; the reader drops and counts it.
			_ = a.f.Truncate(a.end)
		}
		return err
	}
	a.end += int64(n)
	return nil
}

// lineSink writes rows as JSON lines.
type lineSink[T any] struct {
	path string
	file *appendFile
	buf  bytes.Buffer
}

func lines[T any](path string) *lineSink[T] { return &lineSink[T]{path: path} }

func (s *lineSink[T]) write(rows []T) error {
	if s.file == nil {
		f, err := createAppend(s.path)
		if err != nil {
			return err
		}
		s.file = f
	}
	s.buf.Reset()
	enc := json.NewEncoder(&s.buf)
	for i := range rows {
		if err := enc.Encode(&rows[i]); err != nil {
			return fmt.Errorf("encoding a row of %s: %w", filepath.Base(s.path), err)
		}
	}
	return s.file.append(s.buf.Bytes())
}

func (s *lineSink[T]) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.f.Close()
}
