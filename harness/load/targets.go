package load

import (
	"bufio"
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// targets is the source of a file in vegeta's HTTP format. Its requests go out in turn, to the load's service: of
// a target's URL the path and the query count.
type targets struct {
	prefix string
	all    []message
}

// readTargets reads the file. Bodies named by @FILE are relative to it.
func readTargets(path, prefix string) (*targets, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading targets: %w", err)
	}
	t := &targets{prefix: prefix}
	text, err := absoluteBodies(raw, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	all, err := vegeta.ReadAllTargets(vegeta.NewHTTPTargeter(bytes.NewReader(text), nil, nil))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; the format is vegeta's: METHOD URL, then headers, then @BODYFILE", path, err)
	}
	for _, g := range all {
		u, err := url.Parse(g.URL)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		u.Scheme, u.Host, u.User = "", "", nil
		if u.Path == "" {
			u.Path = "/"
		}
		t.all = append(t.all, message{kind: g.Method + " " + u.RequestURI(), method: g.Method, url: u, header: g.Header, body: g.Body, expect: &expect{}})
	}
	return t, nil
}

// absoluteBodies resolves @FILE lines, which vegeta reads from the working directory. It also refuses long lines: vegeta's
// scanner ends at one as if the file did.
func absoluteBodies(raw []byte, dir string) ([]byte, error) {
	var out bytes.Buffer
	for i, line := range strings.SplitAfter(string(raw), "\n") {
		if len(line) >= bufio.MaxScanTokenSize {
			return nil, fmt.Errorf("line %d has %d bytes; at most %d can be read", i+1, len(line), bufio.MaxScanTokenSize-1)
		}
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "@"); ok && !filepath.IsAbs(name) {
			abs, err := filepath.Abs(filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			line = "@" + abs + "\n"
		}
		out.WriteString(line)
	}
	return out.Bytes(), nil
}

func (t *targets) kind(seq uint64) (string, *expect) {
	m := &t.all[seq%uint64(len(t.all))]
	return m.kind, m.expect
}

func (t *targets) message(seq uint64) (*message, error) {
	m := t.all[seq%uint64(len(t.all))]
	m.id = t.id(seq)
	return &m, nil
}

func (t *targets) id(seq uint64) string { return fmt.Sprintf("%s%d", t.prefix, seq) }
