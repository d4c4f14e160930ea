package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const logsDir = "logs"

// LogLine is a line that a node's programs printed. What it says, its time included, is theirs.
type LogLine struct {
	N    int // its number in the file, from 1
	Text string
}

// LogMark is the Data of round.begin and round.end, filled by Writer.Event: the size of each node's log at that moment. The
// nodes of all rounds write to the same files, and lines carry no time but their own.
type LogMark struct {
	Logs map[string]int64 `json:"logs"`
}

// logMark measures the logs.
func (w *Writer) logMark() json.RawMessage {
	mark := LogMark{Logs: map[string]int64{}}
	entries, err := os.ReadDir(filepath.Join(w.dir, logsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.keep(err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".log")
		if st, err := e.Info(); ok && err == nil {
			mark.Logs[name] = st.Size()
		}
	}
	b, err := json.Marshal(mark)
	w.keep(err)
	return b
}

// LogFile is the file of a node's log, as a path in a run directory.
func LogFile(node string) string { return path.Join(logsDir, node+".log") }

// Logged are the nodes that have a log, of whatever round, sorted.
func (r *Run) Logged() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.Dir, logsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the logs: %w", err)
	}
	var nodes []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".log"); ok {
			nodes = append(nodes, name)
		}
	}
	slices.Sort(nodes)
	return nodes, nil
}

// Logs returns the lines that the programs of a node printed in this round, in the order in which they came. A node without
// a log has none. A record of several rounds that does not say where they part is an error.
func (r *Round) Logs(node string) ([]LogLine, error) {
	from, to, err := r.logWindow(node)
	if err != nil {
		return nil, err
	}
	if node != filepath.Base(node) {
		return nil, fmt.Errorf("%q is no name of a node", node)
	}
	f, err := os.Open(filepath.Join(r.run.Dir, filepath.FromSlash(LogFile(node))))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", node, err)
	}
	defer f.Close()
	n, err := countLines(io.LimitReader(f, from))
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", node, err)
	}
	var in io.Reader = f
	if to >= 0 {
		in = io.LimitReader(f, to-from)
	}
	br := bufio.NewReaderSize(in, 1<<16)
	var out []LogLine
	for {
		line, err := readLine(br)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("reading the log of %s: %w", node, err)
		}
		n++
		out = append(out, LogLine{n, string(line)})
	}
}

// logWindow is where the round's lines of a log begin and end; to is -1 for the end of the file.
func (r *Round) logWindow(node string) (from, to int64, err error) {
	begun := false
	to = -1
	for _, e := range r.Events {
		if e.Kind != RoundBegin && e.Kind != RoundEnd {
			continue
		}
		var m LogMark
		if len(e.Data) == 0 || json.Unmarshal(e.Data, &m) != nil || m.Logs == nil {
			continue
		}
		if e.Kind == RoundBegin {
			from, begun = m.Logs[node], true
			continue
		}
		// A node that had no log at the end of the round has one of a later round.
		to = m.Logs[node]
	}
	if !begun && len(r.run.Rounds) > 1 {
		return 0, 0, fmt.Errorf("the record does not say which lines of the logs are of round %d", r.N)
	}
	if to >= 0 && to < from {
		return 0, 0, fmt.Errorf("the log of %s was longer when round %d began than when it ended", node, r.N)
	}
	return from, to, nil
}

func countLines(r io.Reader) (int, error) {
	n := 0
	buf := make([]byte, 1<<16)
	for {
		k, err := r.Read(buf)
		n += bytes.Count(buf[:k], []byte{'\n'})
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
