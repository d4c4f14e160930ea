package record

import (
	"cmp"
	"path/filepath"
	"time"
)

// Call is one request that crossed a link, as the link core read it on the wire: what reached a dependency is counted here, on
// the link, and not by whoever called it.
type Call struct {
	Round int           `json:"round"`
	Begin time.Duration `json:"begin"` // its head had crossed the link
	End   time.Duration `json:"end"`   // the answer's last byte had, or the call was cut off
	From  string        `json:"from"`  // node that called
	To    string        `json:"to"`    // node that was called
	Port  int           `json:"port"`
	Conn  uint64        `json:"conn"`  // connections of the run are numbered
	Proto string        `json:"proto"` // http/1.1 | h2 | grpc

	Method     string `json:"method"` // of HTTP; POST for gRPC
	Path       string `json:"path"`   // without the query; of gRPC /package.Service/Method
	RequestID  string `json:"requestId,omitempty"`
	TraceID    string `json:"traceId,omitempty"`    // of traceparent, else X-Trace-ID
	Status     int    `json:"status,omitempty"`     // of HTTP; 0: no answer
	GRPCStatus *int   `json:"grpcStatus,omitempty"` // of gRPC, when there was one
	// Injected: the answer came from a fault and the call never reached To.
	Injected bool   `json:"injected,omitempty"`
	Error    string `json:"error,omitempty"` // how it was cut off: reset, cancelled (by the caller), refused, closed, unread
}

// CallsFile is the file of calls on links.
func CallsFile() string { return callsFile }

// Call writes a call that crossed a link.
func (w *Writer) Call(c Call) {
	if c.Round == 0 {
		c.Round = int(w.round.Load())
	}
	w.calls.add(c)
}

// Calls returns the calls of this round that crossed links which the plan observes, in the order of Begin. The rows are shared: do
// not change them.
func (r *Round) Calls() ([]Call, error) {
	p := r.run.callRows()
	return p.byRound[r.N], p.err
}

func (r *Run) callRows() *parts[Call] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		rows, torn, err := readLines[Call](filepath.Join(r.Dir, callsFile))
		r.calls = split(rows, torn, err, func(c *Call) int { return c.Round }, func(a, b *Call) int { return cmp.Compare(a.Begin, b.Begin) })
	}
	return r.calls
}
