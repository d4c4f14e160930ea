package assertions

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// FindingsFile is where check leaves its findings in a run directory.
const FindingsFile = "findings.json"

// FindingsVersion is the version of FindingsFile.
const FindingsVersion = 1

type findingsFile struct {
	Version  int       `json:"version"`
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"`
}

// Save writes findings.json into a run directory, in one step.
func Save(dir string, fs []Finding, v Verdict) error {
	b, err := json.MarshalIndent(findingsFile{FindingsVersion, v, fs}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the findings: %w", err)
	}
	path := filepath.Join(dir, FindingsFile)
	if err := os.WriteFile(path+".tmp", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the findings: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("writing the findings: %w", err)
	}
	return nil
}

// Load reads what Save wrote.
func Load(dir string) ([]Finding, Verdict, error) {
	path := filepath.Join(dir, FindingsFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, Invalid, fmt.Errorf("reading the findings (check writes them): %w", err)
	}
	var f findingsFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, Invalid, fmt.Errorf("reading %s: %w", path, err)
	}
	if f.Version != FindingsVersion {
		return nil, Invalid, fmt.Errorf("%s has version %d and this program reads version %d: check the run again", path, f.Version, FindingsVersion)
	}
	return f.Findings, f.Verdict, nil
}

// invalid is a finding that says nothing, with the reason.
func invalid(format string, a ...any) Finding {
	why := fmt.Sprintf(format, a...)
	return Finding{Verdict: Invalid, Summary: why, Reason: why}
}

// maxDetails bounds the lines of evidence that show single operations.
const maxDetails = 10

// seconds writes a duration for a summary.
func seconds(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Minute:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// percent writes a share, rounded down: "100 %" means all.
func percent(share float64) string {
	return strconv.FormatFloat(math.Floor(share*1e5+1e-6)/1e3, 'f', -1, 64) + " %"
}

// number writes a value of a figure.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// plural writes a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// list joins names for a sentence.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
