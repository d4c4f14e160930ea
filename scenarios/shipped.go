package scenarios

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
)

//go:embed *.yaml topologies/*.yaml
var embedded embed.FS

// SchemaJSON is the JSON schema of scenario files, as it ships.
//
//go:embed scenario.schema.json
var SchemaJSON []byte

// Files are the scenarios that ship with Gauntlet (*.yaml) and their topologies (topologies/).
func Files() fs.FS { return embedded }

// Entry is a shipped scenario.
type Entry struct {
	Name    string   `json:"name"`
	Summary string   `json:"summary"`
	Tags    []string `json:"tags,omitempty"`
	File    string   `json:"file"` // in Files
}

// Shipped lists the scenarios that ship with Gauntlet, by name.
func Shipped() []Entry { return slices.Clone(shipped()) }

var shipped = sync.OnceValue(func() []Entry {
	files, err := fs.Glob(embedded, "*.yaml")
	if err != nil {
		return nil // only a malformed pattern is an error
	}
	var es []Entry
	for _, file := range files {
		if src, err := embedded.ReadFile(file); err == nil {
			es = append(es, headOf(file, src))
		}
	}
	slices.SortFunc(es, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return es
})

// headOf reads what a list shows of a scenario, whatever else is in it.
func headOf(file string, src []byte) Entry {
	e := Entry{File: file, Name: strings.TrimSuffix(path.Base(file), path.Ext(file))}
	root := readYAML(newDocument(file, src), src)
	if root == nil {
		return e
	}
	if n := root.get("summary"); n != nil {
		e.Summary = n.text
	}
	if n := root.get("tags"); n != nil {
		for _, t := range n.items {
			e.Tags = append(e.Tags, t.text)
		}
	}
	return e
}

// Find turns an argument of the command line into scenario files: a file, a directory (its scenarios, not those below it),
// or the name of a shipped scenario, whose file and topologies are put on disk where they are not there yet.
func Find(arg string) ([]string, error) {
	info, err := os.Stat(arg)
	switch {
	case err == nil && !info.IsDir():
		return []string{arg}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("look for the scenario %s: %w", arg, err)
	}
	// A name wins over a directory that happens to bear it; ./NAME is the directory.
	var names []string
	for _, e := range shipped() {
		if e.Name == arg {
			file, err := OnDisk(e.File)
			if err != nil {
				return nil, err
			}
			return []string{file}, nil
		}
		names = append(names, e.Name)
	}
	if err == nil {
		return inDirectory(arg)
	}
	return nil, fmt.Errorf("no file, directory or shipped scenario is called %q%s", arg, suggest(arg, names))
}

// inDirectory lists the scenarios of a directory. Other YAML files, topologies say, may lie beside them.
func inDirectory(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for scenarios in %s: %w", dir, err)
	}
	var found []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".yaml" && ext != ".yml" {
			continue
		}
		file := filepath.Join(dir, e.Name())
		src, err := read(file)
		if err != nil {
			return nil, err
		}
		root := readYAML(newDocument(file, src), src)
		if root == nil || isScenario(root) {
			found = append(found, file) // what is wrong with it is said when it is loaded
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the directory %s has no scenarios (*.yaml with version and topology)", dir)
	}
	return found, nil
}

// isScenario reports whether a file is meant as a scenario: any key that only scenarios have is enough, so that one in which another
// is mistyped or missing is not left out unseen.
func isScenario(root *node) bool {
	for _, key := range fieldKeys(reflect.TypeFor[File]()) {
		switch key {
		case "name", "summary", "tags": // all kinds of files have these
		case "version": // Compose files have it too
			if root.has(key) && !root.has("services") {
				return true
			}
		default:
			if root.has(key) {
				return true
			}
		}
	}
	return false
}

// module is what the first line of this repository's go.mod says.
const module = "module github.com/hasvc/gauntlet\n"

// OnDisk is where one of Files is on disk, beside all others: the one of the repository when the current directory is within it,
// so that messages name the file that one edits; else a copy in the user's cache.
func OnDisk(name string) (string, error) {
	if dir, err := os.Getwd(); err == nil {
		for d := dir; ; d = filepath.Dir(d) {
			if mod, err := os.ReadFile(filepath.Join(d, "go.mod")); err == nil {
				file := filepath.Join(d, "scenarios", filepath.FromSlash(name))
				if _, err := os.Stat(file); err == nil && bytes.HasPrefix(mod, []byte(module)) {
					if rel, err := filepath.Rel(dir, file); err == nil {
						return rel, nil
					}
					return file, nil
				}
			}
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("put the shipped %s on disk: %w (set XDG_CACHE_HOME or HOME)", name, err)
	}
	dir := filepath.Join(cache, "gauntlet", "scenarios-"+digest())
	if err := Extract(dir); err != nil {
		return "", fmt.Errorf("put the shipped scenarios on disk: %w", err)
	}
	return filepath.Join(dir, filepath.FromSlash(name)), nil
}

// digest tells the shipped files of one version from those of another.
var digest = sync.OnceValue(func() string {
	h := sha256.New()
	_ = fs.WalkDir(embedded, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			src, _ := embedded.ReadFile(name) // embedded files can be read
			fmt.Fprintf(h, "%s %d\n%s", name, len(src), src)
		}
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)[:6])
})

// Extract writes the shipped scenarios and topologies into a directory. Files that are there with the same content are left
// alone; the others are replaced as a whole, so that two of these at once do not disturb each other.
func Extract(dir string) error {
	return fs.WalkDir(embedded, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if e.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		src, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		if old, err := os.ReadFile(to); err == nil && bytes.Equal(old, src) {
			return nil
		}
		tmp, err := os.CreateTemp(filepath.Dir(to), ".new-*")
		if err != nil {
			return err
		}
		_, werr := tmp.Write(src)
		if err := errors.Join(werr, tmp.Chmod(0o644), tmp.Close()); err != nil {
			return errors.Join(err, os.Remove(tmp.Name()))
		}
		return os.Rename(tmp.Name(), to)
	})
}
