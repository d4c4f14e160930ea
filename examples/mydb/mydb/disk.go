package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Entry is one write. Index counts from 1 without gaps; Epoch is that of the primary that took it.
type Entry struct {
	Index, Epoch uint64
	Key, Value   string
}

// Snapshot is everything up to an index. A key holds every value that was written to it, so that a write applied twice
// shows.
type Snapshot struct {
	Index, Epoch uint64
	Data         map[string][]string
}

// Term says who leads.
type Term struct {
	Epoch   uint64
	Primary string
}

// disk is a directory with a snapshot, the log of what came after it, and the term.
type disk struct {
	dir string
	log *os.File
}

// openDisk reads what is there. The end of the log may be torn by a crash: it was not acknowledged and is cut off.
func openDisk(dir string) (*disk, Term, Snapshot, []Entry, error) {
	d := &disk{dir: dir}
	var (
		term Term
		snap = Snapshot{Data: map[string][]string{}}
		log  []Entry
	)
	if err := errors.Join(os.MkdirAll(dir, 0o755), d.load("term", &term), d.load("snapshot", &snap)); err != nil {
		return nil, term, snap, nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, term, snap, nil, err
	}
	good, r := int64(0), bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		var e Entry
		if err != nil || json.Unmarshal(line, &e) != nil {
			break
		}
		good += int64(len(line))
		log = append(log, e)
	}
	if err := f.Truncate(good); err != nil {
		return nil, term, snap, nil, err
	}
	if _, err := f.Seek(good, 0); err != nil {
		return nil, term, snap, nil, err
	}
	d.log = f
	return d, term, snap, log, nil
}

func (d *disk) load(name string, v any) error {
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// save replaces a file as a whole: a crash leaves the old one or the new one.
func (d *disk) save(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return d.replace(name, b)
}

func (d *disk) replace(name string, b []byte) error {
	f, err := os.Create(filepath.Join(d.dir, name+".new"))
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(d.dir, name)); err != nil {
		return err
	}
	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// add appends entries and returns when they are on the disk.
func (d *disk) add(es []Entry) error {
	b, err := lines(es)
	if err == nil {
		_, err = d.log.Write(b)
	}
	if err == nil {
		err = d.log.Sync()
	}
	return err
}

// restart begins a new log with the entries given.
func (d *disk) restart(es []Entry) error {
	b, err := lines(es)
	if err == nil {
		err = d.replace("log", b)
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	d.log.Close()
	d.log = f
	return nil
}

func lines(es []Entry) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, e := range es {
		if err := enc.Encode(e); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
