package record

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// BenchmarkRequest is the cost of recording a request, all of it: the call, the encoding and the file.
func BenchmarkRequest(b *testing.B) {
	w, err := Create(filepath.Join(b.TempDir(), "run"), Meta{}, testPlan())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.Request("web", Request{Seq: uint64(i), Round: 1, Phase: "baseline", Request: "create", ID: "web-17", Due: time.Duration(i), Sent: time.Duration(i + 1), Done: time.Duration(i + 1000), Code: 200, OK: true, Node: "gateway-1", BytesIn: 120, BytesOut: 80})
		i++
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkVegetaEncoder is its peer: vegeta's own encoder, into nothing.
func BenchmarkVegetaEncoder(b *testing.B) {
	enc := vegeta.NewEncoder(io.Discard)
	b.ReportAllocs()
	now := time.Now()
	i := 0
	for b.Loop() {
		if err := enc(&vegeta.Result{Attack: "web", Seq: uint64(i), Code: 200, Timestamp: now, Latency: 1000, BytesIn: 120, BytesOut: 80}); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkRead reads a log of 200,000 requests; vegeta's decoder alone is its peer.
func BenchmarkRead(b *testing.B) {
	w, err := Create(filepath.Join(b.TempDir(), "run"), Meta{}, testPlan())
	if err != nil {
		b.Fatal(err)
	}
	w.SetRound(1)
	w.Event(Event{Kind: Warning})
	const n = 200_000
	for i := range n {
		w.Request("web", Request{Seq: uint64(i), Phase: "baseline", Request: "create", ID: fmt.Sprint("web-", i), Due: time.Duration(i - i%7), Sent: time.Duration(i), Done: time.Duration(i + 1000), Code: 200, OK: true, Node: "gateway-1"})
	}
	w.Event(Event{Kind: RunEnd})
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, err := Open(w.Dir())
			if err != nil {
				b.Fatal(err)
			}
			if q, err := r.Rounds[0].Requests("web"); err != nil || len(q) != n {
				b.Fatal(len(q), err)
			}
		}
	})
	b.Run("vegeta", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got := decodeAll(b, filepath.Join(w.Dir(), "requests/web.bin")); got != n {
				b.Fatal(got)
			}
		}
	})
}

// BenchmarkEvent is the cost of an event, which is written at once.
func BenchmarkEvent(b *testing.B) {
	w, err := Create(filepath.Join(b.TempDir(), "run"), Meta{}, testPlan())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w.Event(Event{Kind: NodeStarted, Node: "gateway-1"})
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

// decodeAll counts the results that vegeta's decoder reads from a file.
func decodeAll(tb testing.TB, path string) int {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	dec := vegeta.NewDecoder(bufio.NewReader(f))
	for n := 0; ; n++ {
		var v vegeta.Result
		if err := dec(&v); err == io.EOF {
			return n
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}
