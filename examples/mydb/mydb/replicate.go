package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"log"
	"net"
	"time"
)

// Hello is what a replica says first; Ack what it says after.
type Hello struct {
	Name         string
	Epoch        uint64
	Last, LastOf uint64 // index and epoch of its last entry
}

// Message is what the primary sends. An empty one only says that it is there.
type Message struct {
	Epoch    uint64
	Snapshot *Snapshot `json:",omitempty"`
	Entries  []Entry   `json:",omitempty"`
}

// silence is how long either end of a replication stream waits before it gives the other up.
const silence = 600 * time.Millisecond

// ship serves replicas while this member is the primary.
func (n *node) ship() error {
	l, err := net.Listen("tcp", n.name+":"+logPort)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			log.Printf("replica %v: %v", c.RemoteAddr(), n.serve(c))
		}()
	}
}

func (n *node) serve(c net.Conn) error {
	dec, enc := json.NewDecoder(bufio.NewReader(c)), json.NewEncoder(c)
	var h Hello
	if err := dec.Decode(&h); err != nil {
		return err
	}
	n.mu.Lock()
	epoch := n.term.Epoch
	n.mu.Unlock()
	if !n.leads() || h.Epoch > epoch {
		return errors.New("asked as a primary, which this is not")
	}
	gone := make(chan error, 1)
	go func() {
		for {
			var ack uint64
			if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
				gone <- err
				return
			}
			if err := dec.Decode(&ack); err != nil {
				gone <- err
				return
			}
			n.ack(h.Name, ack)
		}
	}()
	sent, sentEpoch := h.Last, h.LastOf
	for {
		n.mu.Lock()
		changed, now := n.changed, n.term.Epoch
		n.mu.Unlock()
		if now != epoch {
			return errors.New("the epoch has ended")
		}
		m := Message{Epoch: epoch}
		es, tooFar := n.after(sent, sentEpoch)
		if tooFar {
			log.Printf("%s is too far behind: it is at %d", h.Name, sent)
			s := n.snapshot()
			m.Snapshot, sent, sentEpoch = &s, s.Index, s.Epoch
		} else if len(es) > 0 {
			m.Entries, sent, sentEpoch = es, es[len(es)-1].Index, es[len(es)-1].Epoch
		}
		if err := c.SetWriteDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		if err := enc.Encode(m); err != nil {
			return err
		}
		if m.Snapshot != nil || len(m.Entries) > 0 {
			continue // there may be more by now
		}
		select {
		case <-changed:
		case err := <-gone:
			return err
		case <-time.After(silence / 4):
		}
	}
}

// replicate follows the primary, whoever it is, as long as this member is not it.
func (n *node) replicate() {
	for {
		n.mu.Lock()
		t := n.term
		n.mu.Unlock()
		if t.Primary != n.name {
			if err := n.pull(t); err != nil {
				log.Printf("primary %s: %v", t.Primary, err)
			}
			n.linked.Store(false)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (n *node) pull(t Term) error {
	c, err := net.DialTimeout("tcp", t.Primary+":"+logPort, silence)
	if err != nil {
		return err
	}
	defer c.Close()
	n.mu.Lock()
	h := Hello{n.name, n.term.Epoch, n.last, n.lastEpoch}
	n.mu.Unlock()
	dec, enc := json.NewDecoder(bufio.NewReader(c)), json.NewEncoder(c)
	if err := enc.Encode(h); err != nil {
		return err
	}
	for {
		if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
		var m Message
		if err := dec.Decode(&m); err != nil {
			return err
		}
		n.linked.Store(true)
		if m.Snapshot != nil {
			if err := n.replace(*m.Snapshot); err != nil {
				return err
			}
		}
		last, err := n.take(m, t)
		if err != nil {
			return err
		}
		if err := enc.Encode(last); err != nil {
			return err
		}
	}
}

// take writes what the primary of a term sent, and nothing of one that was replaced meanwhile.
func (n *node) take(m Message, t Term) (uint64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.term != t || m.Epoch != t.Epoch {
		return 0, errors.New("there is another primary now")
	}
	if len(m.Entries) > 0 {
		if m.Entries[0].Index != n.last+1 {
			return 0, errors.New("there is a gap in the log")
		}
		if err := n.append(m.Entries); err != nil {
			return 0, err
		}
	}
	return n.last, nil
}

// Beat is a heartbeat of the primary.
type Beat struct {
	Term
	Base, Last uint64
}

// beat tells the others who leads and where its log begins.
func (n *node) beat() {
	for ; ; time.Sleep(100 * time.Millisecond) {
		n.mu.Lock()
		b := Beat{n.term, n.base, n.last}
		n.mu.Unlock()
		if b.Primary != n.name {
			continue
		}
		text, err := json.Marshal(b)
		if err != nil {
			log.Print(err)
			continue
		}
		for _, m := range n.members {
			if m == n.name {
				continue
			}
			if c, err := net.Dial("udp", m+":"+beatPort); err == nil {
				_, _ = c.Write(text) // a lost heartbeat is followed by another
				c.Close()
			}
		}
	}
}

// hear listens to heartbeats: a newer epoch is followed, and who has fallen off the primary's log says so.
func (n *node) hear() error {
	c, err := net.ListenPacket("udp", n.name+":"+beatPort)
	if err != nil {
		return err
	}
	buf := make([]byte, 2048)
	said := false
	for {
		size, _, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		var b Beat
		if json.Unmarshal(buf[:size], &b) != nil {
			continue
		}
		if err := n.follow(b.Term); err != nil {
			return err
		}
		n.mu.Lock()
		behind, last := b.Term == n.term && n.last < b.Base, n.last
		n.mu.Unlock()
		if behind && !said {
			log.Printf("too far behind: this log ends at %d, and that of %s begins after %d", last, b.Primary, b.Base)
		}
		said = behind
	}
}
