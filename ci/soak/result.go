package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// result is one verdict: a line of the file that -results names.
type result struct {
	Time     time.Time `json:"time"`
	Driver   string    `json:"driver"`
	Scenario string    `json:"scenario"`
	Control  string    `json:"control,omitempty"` // empty: the scenario itself
	Turn     int       `json:"turn"`              // from 1
	Right    bool      `json:"right"`
	Why      string    `json:"why,omitempty"`
	Seconds  float64   `json:"seconds"`
	Kernel   string    `json:"kernel"`
	Engine   string    `json:"engine,omitempty"` // of the driver, where it has one

	// Machine is what the premise "surroundings" saw while the run was under load: what its bounds can be found by.
	Machine map[string]float64 `json:"machine,omitempty"`
}

// name is what the tables call it.
func (r result) name() string {
	if r.Control == "" {
		return r.Scenario
	}
	return r.Scenario + " / " + r.Control
}

// write appends the result to w as one line.
func (r result) write(w io.Writer) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// readResults reads files of results, one after the other.
func readResults(files []string) ([]result, error) {
	var all []result
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		rs, err := parseResults(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, rs...)
	}
	return all, nil
}

func parseResults(from io.Reader) ([]result, error) {
	var all []result
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		var r result
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if r.Driver == "" || r.Scenario == "" {
			return nil, fmt.Errorf("line %d: a result names its driver and its scenario", n)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}
