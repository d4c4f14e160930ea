package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	clientPort = "7400" // HTTP
	logPort    = "7401" // replication, TCP
	beatPort   = "7402" // heartbeats, UDP
)

// node is a member at work.
type node struct {
	*store
	name    string
	members []string
	early   bool // a fault: acknowledge before the write is anywhere
	linked  atomic.Bool
	queue   chan request
}

// request is a write that waits for its batch.
type request struct {
	entry Entry
	done  chan error
}

func member(args []string) error {
	fs := flag.NewFlagSet("mydb member", flag.ContinueOnError)
	early := fs.Bool("ack-before-write", false, "acknowledge before writing (faster, and wrong)")
	replayAll := fs.Bool("replay-all", false, "replay the whole log after a snapshot (wrong)")
	dir := fs.String("dir", "/data", "where the data is")
	if err := fs.Parse(args); err != nil {
		return err
	}
	name := os.Getenv("MYDB_NAME") // where members share a machine
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return err
		}
	}
	members := strings.Split(os.Getenv("MYDB_MEMBERS"), ",")
	s, err := openStore(*dir, Term{1, members[0]}, *replayAll)
	if err != nil {
		return err
	}
	n := &node{store: s, name: name, members: members, early: *early || old(), queue: make(chan request, 1024)}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	failed := make(chan error, 5)
	go func() { failed <- n.write() }()
	go func() { failed <- n.ship() }()
	go func() { failed <- n.hear() }()
	go n.beat()
	go n.replicate()
	go func() { failed <- http.ListenAndServe(name+":"+clientPort, n.routes()) }()
	for {
		select {
		case err := <-failed:
			return err
		case <-hup:
			log.Print("reloaded: there is nothing to configure")
		}
	}
}

func (n *node) leads() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.term.Primary == n.name
}

// write takes what is queued, a batch at a time: one write and one sync for all of it.
func (n *node) write() error {
	for first := range n.queue {
		if n.early {
			time.Sleep(100 * time.Millisecond) // everything in the queue was acknowledged already
		}
		batch := []request{first}
		for len(n.queue) > 0 && len(batch) < 256 {
			batch = append(batch, <-n.queue)
		}
		es := make([]Entry, len(batch))
		for i, r := range batch {
			es[i] = r.entry
		}
		if err := n.put(es); err != nil {
			return err
		}
		go func() { // the next batch is written while this one travels
			for i, r := range batch {
				r.done <- n.await(es[i].Index, es[i].Epoch, len(n.members), time.Second)
			}
		}()
	}
	return nil
}

// Status is the answer of /status.
type Status struct {
	Name      string `json:"name"`
	Primary   bool   `json:"primary"`
	Leader    string `json:"leader"`
	Epoch     uint64 `json:"epoch"`
	Last      uint64 `json:"last"`
	LastEpoch uint64 `json:"lastEpoch"`
	Linked    bool   `json:"linked"` // a replica that hears the primary, or a primary with a majority
}

func (n *node) status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := Status{n.name, n.term.Primary == n.name, n.term.Primary, n.term.Epoch, n.last, n.lastEpoch, n.linked.Load()}
	if st.Primary {
		st.Linked = n.committed(len(n.members)) == n.last && len(n.acked) > 0
	}
	return st
}

func (n *node) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { answer(w, n.status()) })
	m.HandleFunc("GET /dump", func(w http.ResponseWriter, r *http.Request) { answer(w, n.snapshot()) })
	m.HandleFunc("POST /compact", func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		report(w, n.compact(0))
	})
	m.HandleFunc("POST /promote", func(w http.ResponseWriter, r *http.Request) { report(w, n.promote()) })
	m.HandleFunc("POST /put", func(w http.ResponseWriter, r *http.Request) {
		var e Entry
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || e.Key == "" {
			http.Error(w, "want a Key and a Value", http.StatusBadRequest)
			return
		}
		if !n.leads() {
			http.Error(w, "not the primary", http.StatusMisdirectedRequest)
			return
		}
		req := request{Entry{Key: e.Key, Value: e.Value}, make(chan error, 1)}
		n.queue <- req
		if n.early {
			return
		}
		report(w, <-req.done)
	})
	return m
}

func answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print(err)
	}
}

// report answers 503 for an error: whether the write took place is not known.
func report(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// promote makes this member the primary of a new epoch. It asks the others first: a majority must answer, and the one that is
// furthest is copied, so that what a majority has is not lost.
func (n *node) promote() error {
	mine, reached := n.status(), 1
	epoch, best, from := mine.Epoch, mine, ""
	for _, m := range n.members {
		if m == n.name {
			continue
		}
		var s Status
		if err := call(m, "/status", &s); err != nil {
			log.Printf("promote: %s does not answer: %v", m, err)
			continue
		}
		reached++
		epoch = max(epoch, s.Epoch)
		if s.LastEpoch > best.LastEpoch || s.LastEpoch == best.LastEpoch && s.Last > best.Last {
			best, from = s, m
		}
	}
	if reached <= len(n.members)/2 {
		return errors.New("no majority can be reached")
	}
	if from != "" {
		log.Printf("promote: %s is too far behind %s: %d of %d", n.name, from, mine.Last, best.Last)
		var snap Snapshot
		if err := call(from, "/dump", &snap); err != nil {
			return err
		}
		if err := n.replace(snap); err != nil {
			return err
		}
	}
	return n.follow(Term{epoch + 1, n.name})
}

var client = &http.Client{Timeout: 2 * time.Second}

func call(member, path string, v any) error {
	res, err := client.Get("http://" + member + ":" + clientPort + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(v)
}

// post sends a write to the primary, wherever it is, and returns the status of the answer; 0 and an error when it is not known
// what became of it. A member that is not the primary, or that refuses the connection, did nothing.
func post(members []string, body []byte) (int, error) {
	err := errors.New("no member is the primary")
	for _, m := range members {
		res, e := client.Post("http://"+m+":"+clientPort+"/put", "application/json", bytes.NewReader(body))
		if errors.Is(e, syscall.ECONNREFUSED) {
			err = e
			continue
		}
		if e != nil {
			return 0, e
		}
		res.Body.Close()
		if res.StatusCode != http.StatusMisdirectedRequest {
			return res.StatusCode, nil
		}
	}
	return http.StatusMisdirectedRequest, err
}
