// Command mydbload writes to mydb from several clients and reads back what every member holds. It is the database's own load
// program; to be used as a workload it speaks the JSON-lines protocol of harness/workload/PROTOCOL.md, and needs
// none of Gauntlet's code for it.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mydbload:", err)
		os.Exit(1)
	}
}

// load is the program at work.
type load struct {
	members []string
	targets []string // base URLs, tried in turn
	mu      sync.Mutex
	out     *json.Encoder
	run     string // unique: keys are never written twice
	keys    map[string]bool
	stop    atomic.Bool
}

func run() error {
	clients := flag.Int("clients", 4, "clients that write at the same time")
	members := flag.String("members", "mydb-1,mydb-2,mydb-3", "members")
	via := flag.String("via", "", "write through this URL instead of to the members")
	rate := flag.Float64("rate", 0, "writes per second of each client; 0: as fast as they are acknowledged")
	flag.Parse()
	l := &load{members: strings.Split(*members, ","), out: json.NewEncoder(os.Stdout), keys: map[string]bool{}}
	for _, m := range l.members {
		l.targets = append(l.targets, "http://"+m+":7400")
	}
	if *via != "" {
		l.targets = []string{*via}
	}
	l.say(reply{Type: "hello", Version: 1})
	var working sync.WaitGroup
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var m command
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			return fmt.Errorf("what is asked is no JSON: %w", err)
		}
		switch m.Type {
		case "start":
			l.run = m.Run
			for c := range *clients {
				working.Go(func() { l.client(c, *rate) })
			}
		case "stop":
			l.stop.Store(true)
			working.Wait()
			l.say(reply{Type: "done"})
		case "verify":
			l.verify(m.Members)
			l.say(reply{Type: "done"})
		default:
			return fmt.Errorf("no command %q is known", m.Type)
		}
	}
	l.stop.Store(true)
	working.Wait()
	return in.Err()
}

func (l *load) say(v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.out.Encode(v); err != nil {
		os.Exit(1) // nobody listens any more
	}
}

// client writes one key after the other until it is told to stop.
func (l *load) client(c int, rate float64) {
	pause := 10 * time.Millisecond // after a failure
	for n := 0; !l.stop.Load(); n++ {
		o := reply{Type: "op", Op: "insert", Client: c, Key: fmt.Sprintf("%s-%d-%d", l.run, c, n)}
		o.Value = "v" + o.Key
		o.Call = time.Now().UnixNano()
		o.Outcome, o.Error = l.put(o.Key, o.Value)
		o.Return = time.Now().UnixNano()
		l.mu.Lock()
		l.keys[o.Key] = true
		l.mu.Unlock()
		l.say(o)
		switch {
		case o.Outcome != "ok":
			time.Sleep(pause)
		case rate > 0:
			time.Sleep(time.Duration(float64(time.Second)/rate) - time.Duration(o.Return-o.Call))
		}
	}
}

// each: a write has a connection of its own, so that none fails because it was kept too long.
var each = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// put writes to the first target that takes it. Failed means that nobody did anything with it.
func (l *load) put(key, value string) (outcome, why string) {
	body, err := json.Marshal(map[string]string{"Key": key, "Value": value})
	if err != nil {
		return "failed", err.Error()
	}
	for _, t := range l.targets {
		res, err := each.Post(t+"/put", "application/json", bytes.NewReader(body))
		if errors.Is(err, syscall.ECONNREFUSED) {
			why = err.Error()
			continue
		}
		if err != nil {
			return "unknown", err.Error()
		}
		res.Body.Close()
		switch res.StatusCode {
		case http.StatusOK:
			return "ok", ""
		case http.StatusMisdirectedRequest:
			why = "no member is the primary"
		default:
			return "unknown", res.Status
		}
	}
	return "failed", why
}

// verify reads every key from every member that runs, after they had time to catch up.
func (l *load) verify(nodes []string) {
	members := slices.DeleteFunc(slices.Clone(l.members), func(m string) bool { return !slices.Contains(nodes, m) })
	dumps := map[string]dump{}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		last := map[uint64]bool{}
		for _, m := range members {
			d := dump{call: time.Now().UnixNano()}
			res, err := each.Get("http://" + m + ":7400/dump")
			if err == nil {
				err = json.NewDecoder(res.Body).Decode(&d)
				res.Body.Close()
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s cannot be read: %v\n", m, err)
				delete(dumps, m)
				continue
			}
			d.got = time.Now().UnixNano()
			dumps[m] = d
			last[d.Index] = true
		}
		if len(last) == 1 || time.Now().After(end) {
			break
		}
	}
	for m, d := range dumps {
		for k := range l.keys {
			values := d.Data[k]
			found := len(values) > 0
			r := reply{Type: "op", Op: "read", Member: m, Key: k, Found: &found, Count: len(values), Outcome: "ok", Call: d.call, Return: d.got}
			if found {
				r.Value = values[0]
			}
			l.say(r)
		}
	}
}

// dump is what a member holds.
type dump struct {
	Index uint64
	Data  map[string][]string

	call, got int64 // when it was asked for, and there
}
