package cli_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hasvc/gauntlet/harness/workload/program"
)

// tiny is the program of the scripts' topologies: a server, or a workload, that is good or bad in a way its first argument
// names.
func tiny() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: tiny WHAT")
		os.Exit(64)
	}
	switch os.Args[1] {
	case "serve":
		serve()
	case "get":
		show(http.Get(os.Args[2]))
	case "change": // asks a URL, posts to another one, and asks again, on the connection that it kept
		show(http.Get(os.Args[2]))
		show(http.Post(os.Args[3], "application/json", strings.NewReader(os.Args[4])))
		show(http.Get(os.Args[2]))
	case "slow": // is ready after a while
		time.Sleep(time.Second)
		serve()
	case "mute": // runs, and never listens
		for i := range 30 {
			fmt.Println("still looking for my configuration, try", i+1)
		}
		time.Sleep(time.Hour)
	case "fall": // ends before it is ready
		fmt.Fprintln(os.Stderr, "I cannot find my configuration")
		os.Exit(3)
	case "work":
		if err := program.Serve(context.Background(), os.Stdin, os.Stdout, &worker{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "die": // a workload that dies at its work
		hello()
		fmt.Fprintln(os.Stderr, "I lost my way")
		os.Exit(7)
	case "hang": // a workload that does not stop
		hello()
		time.Sleep(time.Hour)
	case "babble": // a workload that prints nonsense
		hello()
		fmt.Println("hello, is it me you are looking for?")
		time.Sleep(time.Hour)
	default:
		fmt.Fprintln(os.Stderr, "tiny cannot", os.Args[1])
		os.Exit(64)
	}
}

func show(res *http.Response, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(res.Status)
	_, _ = io.Copy(os.Stdout, res.Body)
	fmt.Println()
}

func serve() {
	var requests atomic.Int64
	err := http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			fmt.Fprintf(w, "# TYPE tiny_requests_total counter\ntiny_requests_total %d\n", requests.Load())
			return
		}
		requests.Add(1)
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// hello speaks the protocol up to the start of the work.
func hello() {
	fmt.Println(`{"type":"hello","version":1}`)
	bufio.NewScanner(os.Stdin).Scan()
}

// worker keeps what it is told to write, and reads all of it.
type worker struct{ keys []string }

// Work implements program.Client.
func (w *worker) Work(ctx context.Context, _ program.Start, h *program.History) error {
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		key := "k" + strconv.Itoa(n)
		w.keys = append(w.keys, key)
		h.Do(0, program.Insert, key, key, "", func() program.Result { return program.Result{Outcome: program.OK} })
	}
}

// Verify implements program.Client. With TINY_FORGETS=one it has forgotten one.
func (w *worker) Verify(_ context.Context, _ program.Start, members []string, h *program.History) error {
	for _, m := range members {
		for i, key := range w.keys {
			found := i > 0 || os.Getenv("TINY_FORGETS") != "one"
			h.Read(m, key, func() program.Result {
				if !found {
					return program.Result{Outcome: program.OK}
				}
				return program.Result{Outcome: program.OK, Found: true, Value: key, Count: 1}
			})
		}
	}
	return nil
}
