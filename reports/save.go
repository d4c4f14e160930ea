package reports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// saved are the formats that every judged run directory has as files.
var saved = []struct {
	file   string
	render func(io.Writer, []Result, ...Unrun) error
}{
	{"run.json", JSON},
	{"junit.xml", JUnit},
}

// Save writes run.json and junit.xml of a result into its run directory, each as a whole: who reads one while it is
// written anew reads the old one.
func Save(r Result) error {
	var errs []error
	for _, s := range saved {
		if err := save(filepath.Join(r.Run.Dir, s.file), s.render, r); err != nil {
			errs = append(errs, fmt.Errorf("write %s into the run directory: %w", s.file, err))
		}
	}
	return errors.Join(errs...)
}

func save(file string, render func(io.Writer, []Result, ...Unrun) error, r Result) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	err = errors.Join(render(tmp, []Result{r}), tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// SavedControls lists the controls that were run with a run and what became of them, as its directory has it. A run
// without is no error.
func SavedControls(dir string) ([]ControlResult, error) {
	b, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was judged before: %w", err)
	}
	var doc Document
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("read what was judged before: %s: %w", filepath.Join(dir, "run.json"), err)
	}
	var all []ControlResult
	for _, r := range doc.Results {
		for _, c := range r.Controls {
			all = append(all, c.result())
		}
	}
	return all, nil
}
