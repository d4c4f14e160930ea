package main

import (
	"fmt"
	"log"
	"maps"
	"slices"
	"sync"
	"time"
)

// keepLog is how many entries the log holds before it is compacted by itself: who is further behind gets a snapshot.
const keepLog = 600

// store is what a member knows. Its disk is never behind its memory.
type store struct {
	mu        sync.Mutex
	disk      *disk
	replayAll bool // a fault: what a snapshot holds is applied again from the log
	term      Term
	data      map[string][]string
	base      uint64 // the log begins after this index
	log       []Entry
	last      uint64
	lastEpoch uint64
	acked     map[string]uint64 // by replica, in this epoch
	changed   chan struct{}     // closed at the next change
}

func openStore(dir string, first Term, replayAll bool) (*store, error) {
	d, term, snap, entries, err := openDisk(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	if term.Epoch == 0 {
		term = first
	}
	s := &store{disk: d, replayAll: replayAll, term: term, acked: map[string]uint64{}, changed: make(chan struct{})}
	s.install(snap)
	for _, e := range entries {
		if e.Index == s.last+1 {
			s.log = append(s.log, e)
			s.apply(e)
		} else if replayAll {
			s.data[e.Key] = append(s.data[e.Key], e.Value)
		}
	}
	log.Printf("opened at %d, the log begins after %d", s.last, s.base)
	return s, nil
}

func (s *store) install(snap Snapshot) {
	s.data, s.base, s.last, s.lastEpoch, s.log = snap.Data, snap.Index, snap.Index, snap.Epoch, nil
}

func (s *store) apply(e Entry) {
	s.data[e.Key] = append(s.data[e.Key], e.Value)
	s.last, s.lastEpoch = e.Index, e.Epoch
}

// wake tells everybody who waits for a change. mu is held.
func (s *store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// put takes writes as the primary and returns the index of the last.
func (s *store) put(es []Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range es {
		es[i].Index, es[i].Epoch = s.last+1+uint64(i), s.term.Epoch
	}
	return s.append(es)
}

// append writes entries that follow the last one. mu is held.
func (s *store) append(es []Entry) error {
	if err := s.disk.add(es); err != nil {
		log.Fatalf("the disk failed: %v", err) // what is in memory and what is on the disk may differ from here on
	}
	for _, e := range es {
		s.log = append(s.log, e)
		s.apply(e)
	}
	s.wake()
	if len(s.log) >= keepLog {
		return s.compact(keepLog / 4)
	}
	return nil
}

// compact writes a snapshot and keeps the last entries of the log. mu is held.
func (s *store) compact(keep int) error {
	if err := s.disk.save("snapshot", Snapshot{s.last, s.lastEpoch, s.data}); err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	if s.replayAll {
		return nil
	}
	kept := slices.Clone(s.log[len(s.log)-min(keep, len(s.log)):])
	if err := s.disk.restart(kept); err != nil {
		log.Fatalf("the disk failed: %v", err)
	}
	s.log, s.base = kept, s.last-uint64(len(kept))
	return nil
}

// replace takes a snapshot of another member in place of everything.
func (s *store) replace(snap Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.disk.save("snapshot", snap); err != nil {
		return err
	}
	if err := s.disk.restart(nil); err != nil {
		return err
	}
	s.install(snap)
	s.wake()
	log.Printf("received snapshot of %d keys up to %d", len(snap.Data), snap.Index)
	return nil
}

func (s *store) snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := maps.Clone(s.data)
	for k, v := range data {
		data[k] = slices.Clone(v)
	}
	return Snapshot{s.last, s.lastEpoch, data}
}

// follow accepts a newer term; who led an older one leads no more.
func (s *store) follow(t Term) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Epoch <= s.term.Epoch {
		return nil
	}
	if err := s.disk.save("term", t); err != nil {
		return err
	}
	s.term, s.acked = t, map[string]uint64{}
	s.wake()
	log.Printf("epoch %d: %s is the primary", t.Epoch, t.Primary)
	return nil
}

// after returns the entries after an index, or that a snapshot is needed: the log does not go back so far, or the member
// holds something that this log does not.
func (s *store) after(index, epoch uint64) (es []Entry, tooFar bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case index == s.last:
		return nil, epoch != s.lastEpoch
	case index < s.base || index > s.last:
		return nil, true
	case index > s.base && s.log[index-s.base-1].Epoch != epoch:
		return nil, true
	}
	return slices.Clone(s.log[index-s.base:]), false
}

// ack notes how far a replica is.
func (s *store) ack(replica string, index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index > s.acked[replica] {
		s.acked[replica] = index
		s.wake()
	}
}

// committed is the highest index that a majority of all members has, this one included. mu is held.
func (s *store) committed(members int) uint64 {
	have := []uint64{s.last}
	for _, i := range s.acked {
		have = append(have, i)
	}
	slices.Sort(have)
	majority := members/2 + 1
	if len(have) < majority {
		return 0
	}
	return have[len(have)-majority]
}

// await waits until a majority has the index, in the epoch in which it was written.
func (s *store) await(index, epoch uint64, members int, timeout time.Duration) error {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for {
		s.mu.Lock()
		done, gone, changed := s.committed(members) >= index, s.term.Epoch != epoch, s.changed
		s.mu.Unlock()
		switch {
		case gone:
			return fmt.Errorf("epoch %d has ended", epoch)
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-limit.C:
			return fmt.Errorf("no majority has entry %d after %v", index, timeout)
		}
	}
}
