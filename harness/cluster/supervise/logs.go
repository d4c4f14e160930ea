package supervise

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxLine is the longest line that is kept together; a longer one is broken.
const maxLine = 1 << 20

// Log is a node's log: both output streams of each of its programs, whole lines, in the order in which they came.
// The programs get pipes, not the file: a shell's "> /dev/stderr" would truncate it.
type Log struct {
	path string
	mu   sync.Mutex
	file *os.File
	err  error // the first failure of a write
}

func openLog(path string) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of logs: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open a node's log: %w", err)
	}
	return &Log{path: path, file: f}, nil
}

func (l *Log) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// size is the offset at which the next line goes.
func (l *Log) size() int64 {
	st, err := os.Stat(l.path)
	if err != nil {
		return 0
	}
	return st.Size()
}

func (l *Log) write(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(b); err != nil && l.err == nil {
		l.err = fmt.Errorf("write %s: %w", l.path, err)
	}
}

// CopyLines appends what r gives, line by line, until its end. The last line gets its end when the program did not
// write it.
func (l *Log) CopyLines(r io.Reader) {
	buf := make([]byte, 0, 32<<10)
	for {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
			l.write(buf[:i+1])
			buf = buf[:copy(buf, buf[i+1:])]
		}
		if len(buf) >= maxLine || err != nil && len(buf) > 0 {
			l.write(append(buf, '\n'))
			buf = buf[:0]
		}
		if err != nil {
			return
		}
	}
}

// LastLines returns at most n lines from the end of a file, not before an offset.
func LastLines(path string, from int64, n int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("quote a log: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("quote a log: %w", err)
	}
	from = max(from, size-16<<10)
	if from >= size {
		return "", nil
	}
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
		return "", fmt.Errorf("quote a log: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n"), nil
}
