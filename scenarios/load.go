package scenarios

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// TopologyLoader reads a Compose file, given as a path that can be opened.
type TopologyLoader func(path string) (*cluster.Spec, error)

// Load reads a scenario file and its topology and validates both. It returns every error of the scenario, and those of the
// topology beside them. File is not nil when there is no error.
func Load(path string, t Tables, topology TopologyLoader) (*File, *cluster.Spec, error) {
	src, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := Parse(path, src, t)
	if f == nil {
		return nil, nil, err
	}
	err = nil // Validate reports it too
	var spec *cluster.Spec
	if f.Topology != "" {
		if spec, err = topology(f.TopologyPath()); err != nil {
			spec = nil
			if errors.Is(err, os.ErrNotExist) {
				f.doc.at(f.root.find("topology"), "the topology %s does not exist", f.TopologyPath())
				err = nil
			}
		}
	}
	if err := errors.Join(f.Validate(spec), err); err != nil {
		return nil, nil, err
	}
	return f, spec, nil
}

// read reads a file no larger than a scenario may be: a mistaken name must not fill the memory.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil && i.IsDir() {
		return nil, fmt.Errorf("read the scenario: %s is a directory", filepath.Clean(path))
	}
	src, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the scenario %s: %w", path, err)
	}
	return src, nil
}
